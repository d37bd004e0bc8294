"""What the calibrate command shows: the plan before, the report and the figure after."""

from __future__ import annotations

import pytest

from infertuner import calibrate as command
from infertuner.errors import ProfileError
from infertuner.latency import hardware
from infertuner.latency.evidence import load_evidence
from infertuner.latency.machine import DeviceState, Hardware, Software
from infertuner.latency.profile import load_calibration
from infertuner.outcomes.calibration_figures import draw_calibration, write_figure
from infertuner.outcomes.calibration_report import warnings
from tests.conftest import ROOT

SHIPPED = ROOT / "calibration" / "epyc-1t-cpu-25m.json"
MACHINE = Hardware(name="Intel Xeon Gold 6338", device="cpu", threads=2, memory_bytes=2**34)
SOFTWARE = Software(
    python="3", torch="2", transformers="5", cuda=None, attention="none", execution="eager", kv_cache="slot"
)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(hardware, "choose_device", lambda _: "cpu")
    monkeypatch.setattr(hardware, "describe", lambda *_: (MACHINE, SOFTWARE))
    monkeypatch.setattr(hardware, "build_bench", lambda *_, **__: pytest.fail("a dry run measured"))


@pytest.mark.parametrize("arguments", [[], ["--tp", "2"], ["--device", "cuda", "--model", "llama-3.1-8b"]])
def test_a_dry_run_prints_the_plan_and_measures_nothing(here, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert command.main(["--dry-run", "--out", "x.json", *arguments]) == 0
    printed = capsys.readouterr().out
    for words in ("prefill", "decode", "mixed", "copies", "expected time", "GiB", "assumed", "would write x.json"):
        assert words in printed
    assert list(tmp_path.iterdir()) == []


def test_the_default_plan_fits_its_budget(here, capsys):
    assert command.main(["--dry-run", "--model", "cpu-25m"]) == 0
    assert "warning" not in capsys.readouterr().out


def test_a_plan_too_large_for_its_budget_says_so(here, capsys):
    assert command.main(["--dry-run", "--model", "cpu-100m", "--budget-s", "9"]) == 0
    assert "--budget-s 9 may be too short" in capsys.readouterr().out


def test_every_measured_point_is_compared():
    evidence = load_evidence(SHIPPED)
    points = {visit.point for visit in evidence.measured.visits}
    assert {one.point for one in evidence.comparisons} == points
    held_out = [abs(one.error_ratio) for one in evidence.comparisons if one.point.role == "holdout"]
    laws = evidence.calibration
    expected = laws.prefill.holdout.points * laws.prefill.holdout.mean_ratio
    expected += laws.decode.holdout.points * laws.decode.holdout.mean_ratio
    if laws.mixed is not None:
        expected += laws.mixed.holdout.points * laws.mixed.holdout.mean_ratio
    assert sum(held_out) == pytest.approx(expected, rel=0.02)
    assert len(evidence.drift) == len(evidence.measured.visits)


def test_the_figure_shows_every_panel_and_is_written_whole(tmp_path):
    evidence = load_evidence(SHIPPED)
    figure = draw_calibration(evidence)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == 6
    assert all(titles)
    write_figure(evidence, tmp_path / "deep" / "x.png")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.png"]
    assert (tmp_path / "deep" / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_profile_with_other_samples_is_refused(tmp_path):
    shipped = load_calibration(SHIPPED)
    (tmp_path / "x.json").write_text(SHIPPED.read_text())
    with pytest.raises(ProfileError, match="samples cannot be read"):
        load_evidence(tmp_path / "x.json")
    (tmp_path / shipped.samples.file).write_bytes(b"tampered")
    with pytest.raises(ProfileError, match="other SHA-256"):
        load_evidence(tmp_path / "x.json")


def test_a_disturbed_run_says_so():
    shipped = load_calibration(SHIPPED)

    def told(**changes: object) -> str:
        protocol = shipped.protocol.model_copy(update=changes)
        return "\n".join(warnings(shipped.model_copy(update={"protocol": protocol})))

    quiet = {"drift_ratio": (0.98, 1.05), "preempted_ratio": 0.01}
    assert told(**quiet) == ""
    assert "1.4 times as long for a while" in told(**{**quiet, "drift_ratio": (0.98, 1.4)})
    assert "24% of calls lost their core" in told(**{**quiet, "preempted_ratio": 0.24})
    hot, cool = (
        DeviceState(sm_clock_mhz=mhz, memory_clock_mhz=2619, temperature_c=60, power_w=None) for mhz in (1200, 1980)
    )
    assert "SM clock fell from 1980 to 1200 MHz" in told(**quiet, device_before=cool, device_after=hot)
