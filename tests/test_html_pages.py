"""Pages of runs, sweeps and tunings in a real browser: whole, quiet, readable on a phone, and alone with themselves."""

from __future__ import annotations

import json
import math

import pytest

from infertuner.scenario import yaml12
from infertuner.simulate import main as simulate
from infertuner.sweep import main as sweep
from infertuner.tune import main as tune
from tests.browser import WIDTHS, look_at, needs_browser
from tests.conftest import ROOT

HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)"> & 'quotes' "too" """


def run_of(name, *settings):
    options = [option for setting in settings for option in ("--set", setting)]
    return lambda folder, tiny: simulate([str(ROOT / "scenarios" / name), *options, "--out", str(folder)])


def hostile_run(folder, tiny):
    """Text that would do harm if it were not escaped, in all places where a file can bring some."""
    tiny["description"] = HOSTILE
    tiny["sweep"] = {"cluster.gpus": [1, 2, 3], "cluster.router.kind": ["round_robin", "least_outstanding"]}
    path = folder.parent / "hostile.yaml"
    path.write_text("# " + HOSTILE + "\n" + yaml12.write(tiny))
    assert simulate([str(path), "--out", str(folder)]) == 0


def small_sweep(folder, tiny):
    tiny["sweep"] = {"cluster.gpus": [1, 2, 3], "workload.arrivals.per_s": [0.5, 1, 2]}
    path = folder.parent / "sweep.yaml"
    path.write_text(yaml12.write(tiny))
    store, aim = ("--store", str(folder.parent / "store")), ("--minimise", "ttft_mean_s")
    assert sweep([str(path), *store, *aim, "--jobs", "1", "--out", str(folder)]) == 0


def small_tuning(folder, tiny):
    tiny["workload"]["requests"] = 400
    tiny |= {"replications": 3, "slo": {"ttft_mean_s": "2s"}, "sweep": {"cluster.gpus": [1, 2, 3, 4]}}
    path = folder.parent / "tuning.yaml"
    path.write_text(yaml12.write(tiny))
    store = ("--store", str(folder.parent / "store"))
    assert tune([str(path), *store, "--jobs", "1", "--out", str(folder)]) == 0


PAGES = {
    "hostile": hostile_run,
    "sweep": small_sweep,
    "tuning": small_tuning,
    "batching": run_of("batching.yaml", "replications=2"),
    "gpu_scaling": run_of("gpu_scaling.yaml", "replications=2"),
    "cache": run_of("cache.yaml", "replications=2"),
    "cache_tiers": run_of("cache_serving.yaml", "replications=2", "workload.requests=120"),
}


@needs_browser
@pytest.mark.parametrize("make", PAGES.values(), ids=PAGES)
def test_a_page_in_a_browser(make, tiny, tmp_path):
    folder = tmp_path / "run"
    make(folder, tiny)
    seen = look_at(folder / "report.html", tmp_path)

    assert seen.console == []
    assert seen.requests == []
    assert set(seen.by_width) == set(WIDTHS)
    for found in seen.by_width.values():
        assert found["troubles"] == []
        assert found["resources"] == []
        assert found["needed"] <= found["width"], "the page is wider than its window"
        assert found["drawn"], "a page without figures"
        assert make is not hostile_run or "<script>alert(1)</script>" in found["text"], "harmless, and said as written"
        for plot in found["drawn"]:
            assert plot["traces"] == plot["asked"] > 0
            assert plot["ink"].startswith("#"), "colours come from the page's style"
            assert plot["said"], "figures are said to those who cannot see them"
            assert plot["titles"], "an axis has its unit"
            assert not plot["overflow"]
        assert found["hidden"] is None or found["hidden"][:2] == ["false", False]
        for column in (column for table in found["sorted"] for column in table):
            assert_sorted(column)


def assert_sorted(column):
    """A first click sorts upwards, a second downwards; what is missing stays at the end."""
    assert column["rising"][0] == "ascending"
    assert column["falling"][0] == "descending"
    rising, falling = ([value for value in column[way][1] if value] for way in ("rising", "falling"))
    if column["kind"] == "number":
        assert [float(value) for value in rising] == sorted(map(float, rising))
        assert [float(value) for value in falling] == sorted(map(float, falling), reverse=True)
    assert sorted(rising) == sorted(falling)
    for values in (column["rising"][1], column["falling"][1]):
        assert "" not in values[: len(rising)]


@needs_browser
def test_the_browser_would_notice_a_page_that_calls_home(tmp_path):
    page = tmp_path / "leaky.html"
    page.write_text(
        '<html><head></head><body><img src="http://leak.example/x.png"><script>oops()</script></body></html>'
    )
    seen = look_at(page, tmp_path)
    assert "http://leak.example/x.png" in seen.requests
    assert all("oops" in found["troubles"][0] for found in seen.by_width.values())


def test_the_answer_names_the_arm_with_the_best_number(tiny, tmp_path):
    tiny["sweep"] = {"cluster.gpus": [1, 3]}
    tiny["replications"] = 8
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    assert simulate([str(path), "--out", str(tmp_path / "run")]) == 0
    arms = json.loads((tmp_path / "run/summary.json").read_text())["arms"]
    assert arms[1]["ttft_mean_s"]["mean"] < arms[0]["ttft_mean_s"]["mean"]
    page = (tmp_path / "run/report.html").read_text()
    answer = page.partition('aria-label="Answer">')[2].partition("</section>")[0]
    assert "with gpus 3 (arm 1), best with 95 % confidence" in answer
    assert f"{arms[1]['ttft_mean_s']['mean']:.3g} s" in answer or "ms" in answer


def test_a_page_does_not_change_the_files_beside_it(tiny, tmp_path):
    """Numbers in the tables are those of summary.json, to the last digit."""
    path = tmp_path / "tiny.yaml"
    tiny["sweep"] = {"cluster.gpus": [1, 2]}
    path.write_text(yaml12.write(tiny))
    assert simulate([str(path), "--out", str(tmp_path / "run")]) == 0
    mean = json.loads((tmp_path / "run/summary.json").read_text())["arms"][0]["ttft_mean_s"]["mean"]
    assert math.isfinite(mean)
    assert f'data-value="{mean}"' in (tmp_path / "run/report.html").read_text()
