"""A study with continuous batching: what its run folder and its summary add."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from infertuner.experiments.report import figure, print_result, summary
from infertuner.experiments.runs import run_study
from infertuner.outcomes.latencies import TTFT_PARTS
from infertuner.scenario import yaml12
from infertuner.scenario.study import study_from
from infertuner.simulate import main
from tests.conftest import ROOT


@pytest.fixture
def engines(tiny):
    """Two loads on one engine that serves about ten requests a second: well below, and far above."""
    tiny["replications"] = 2
    tiny["workload"] |= {"requests": 600, "output_tokens": {"kind": "constant", "tokens": 10}}
    tiny["cluster"] |= {"gpus": 1, "batcher": {"kind": "continuous", "num_gpu_blocks": 500, "max_num_seqs": 2}}
    tiny["latency"] = {"kind": "per_token", "base_s": "10ms", "per_output_token_s": "20ms"}
    tiny["sweep"] = {"workload.arrivals.per_s": [1, 40]}
    return tiny


@pytest.fixture
def result(engines):
    return run_study(study_from(engines, ROOT))


def test_summary_says_where_a_ttft_went_and_which_arm_is_past_its_capacity(result):
    found = summary(result)
    assert [arm["saturation"] for arm in found["arms"]] == ["stable", "saturated"]
    assert found["warnings"] == [
        "saturated: arm 1: arrivals outpace service, so latencies depend on when the run stopped"
    ]
    for arm in found["arms"]:
        parts = arm["ttft_parts"]
        assert list(parts) == list(TTFT_PARTS)
        assert sum(part["mean_s"] for part in parts.values()) == pytest.approx(arm["ttft_mean_s"].mean)
        assert sum(part["share_ratio"] for part in parts.values()) == pytest.approx(1.0)
    assert found["arms"][1]["ttft_parts"]["waiting"]["share_ratio"] > 0.9


def test_the_terminal_shows_both(result):
    console = Console(file=io.StringIO(), width=200)
    print_result(result, console)
    printed = console.file.getvalue()
    assert "where the mean time to the first token went" in printed
    assert "others_prefill" in printed
    assert printed.count("stable") == 1
    assert printed.count("saturated") == 2, "in the table and in the warning"


def test_static_batches_have_neither_parts_nor_gaps_nor_figure(engines):
    engines["cluster"]["batcher"] = {"kind": "none"}
    static = run_study(study_from(engines, ROOT))
    assert [arm["ttft_parts"] for arm in summary(static)["arms"]] == [None, None]
    assert [arm["itl_mean_s"].mean for arm in summary(static)["arms"]] == [None, None]
    assert figure(static) is None


def test_the_run_folder_keeps_segments_and_draws_figures(engines, tmp_path):
    path, out = tmp_path / "engines.yaml", tmp_path / "out"
    path.write_text(yaml12.write(engines))
    assert main([str(path), "--out", str(out), "--format", "json"]) == 0
    assert sorted(figure.name for figure in (out / "figures").iterdir()) == ["over_time.png", "tiny.png"]
    segments = pd.read_parquet(out / "segments.parquet")
    assert set(segments["arm"]) == {0, 1}
    assert not (out / "steps.parquet").exists()
    requests = pd.read_parquet(out / "requests.parquet")
    assert requests[["routed_at_s", "prefill_s", "others_prefill_s", "others_decode_s"]].notna().all(axis=None)
    json.loads((out / "summary.json").read_text())


def test_an_arm_that_sets_less_than_the_others_says_what_it_has(engines):
    scaler = {"kind": "threshold", "min_gpus": 1, "max_gpus": 3, "startup_s": 1, "scale_up_above": 9}
    engines["sweep"] = {}
    engines["arms"] = [{}, {"cluster.autoscaler": scaler | {"scale_down_below": 1}}, {"cluster.gpus": 2}]
    found = run_study(study_from(engines, ROOT))
    labels = [found.labels(index) for index in range(3)]
    assert [label["autoscaler"] for label in labels] == ["none", "threshold", "none"]
    assert [label["gpus"] for label in labels] == [1, 1, 2]


def test_requests_without_an_answer_are_announced(engines):
    engines["sweep"] = {"cluster.batcher.num_gpu_blocks": [1, 500]}
    warnings = run_study(study_from(engines, ROOT)).warnings()
    assert warnings[0].startswith("rejected_kv: arm 0: 100 % of requests")
    assert warnings[1].startswith("no latencies: arm 0:")
