"""The command `validate`: what it writes, what it prints, and its exit codes."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from infertuner import validate
from infertuner.scenario import yaml12
from infertuner.scenario.study import study_from
from infertuner.validation.file_requests import simulated_cell
from infertuner.validation.files import read_measured
from tests.conftest import ROOT

COLUMNS = "arrived_at_s,first_token_at_s,finished_at_s,prompt_tokens,output_tokens"


@pytest.fixture
def scenario(tiny, tmp_path):
    """The tiny scenario as a file, one GPU, no batching: 0.1 s a token."""
    tiny["cluster"]["gpus"] = 1
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    return path


@pytest.fixture
def measured(tmp_path):
    """Twenty requests far apart, each served 25 % slower than the scenario says: 0.125 s a token, 4 tokens."""
    rows = [f"{10 * i},{10 * i + 0.125},{10 * i + 0.5},10,4" for i in range(20)]
    path = tmp_path / "measured.csv"
    path.write_text("\n".join([COLUMNS, *rows]) + "\n")
    return path


def run(*arguments):
    return validate.main([str(argument) for argument in arguments])


def test_a_file_is_simulated_and_the_error_is_the_one_that_was_put_in(scenario, measured, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("file", measured, scenario, "--out", out, "--bound", "e2e_mean=0.21", "--bound", "throughput=0.1") == 0
    summary = json.loads((out / "summary.json").read_text())
    rows = {row["metric"]: row for row in summary["metrics"]}
    assert rows["e2e_mean"]["measured"] == pytest.approx(0.5)
    assert rows["e2e_mean"]["simulated"] == pytest.approx(0.4)
    assert rows["e2e_mean"]["error_ratio"] == pytest.approx(-0.2)
    assert rows["ttft_p50"]["error_ratio"] == pytest.approx(-0.2)
    assert summary["held"] is True
    assert summary["about"]["requests"] == 20
    table = pd.read_csv(out / "validation.csv")
    assert table.columns[:5].tolist() == ["metric", "n", "measured", "simulated", "error_ratio"]
    requests = pd.read_parquet(out / "requests.parquet")
    assert requests["measured_e2e_s"].tolist() == pytest.approx([0.5] * 20)
    assert requests["simulated_e2e_s"].tolist() == pytest.approx([0.4] * 20)
    assert (out / "figures" / "validation.png").stat().st_size > 5000
    assert {"provenance.json", "scenario.resolved.yaml"} <= {path.name for path in out.iterdir()}
    printed = capsys.readouterr().out
    assert "bound e2e_mean within 21.0%: held (error -20.0%)" in printed
    assert "500 ms" in printed


def test_a_missed_bound_is_exit_code_1_and_the_results_are_written_all_the_same(scenario, measured, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("file", measured, scenario, "--out", out, "--bound", "e2e_mean=0.19", "--format", "json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "summary.json").read_text())
    assert [bound["held"] for bound in summary["bounds"]] == [False]


def test_without_bounds_the_stated_ones_are_judged(scenario, measured, tmp_path, capsys):
    assert run("file", measured, scenario, "--out", tmp_path / "out") == 1
    printed = capsys.readouterr().out
    assert "bound tpot_mean within 10.0%: MISSED (error -20.0%)" in printed
    assert "bound ttft_mean within 25.0%: held (error -20.0%)" in printed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bound", "latency=0.1"], "--bound latency=0.1: must be METRIC=RATIO"),
        (["--column", "when=at"], "--column when=at: must be OURS=THEIRS"),
        (["--column", "arrived_at_s=at"], "no column 'at' for arrived_at_s"),
        (["--set", "sweep={cluster.gpus: [1, 2]}"], "has 2 arms"),
        (["--set", "cluster.gpu=2"], "cluster.gpu"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(scenario, measured, tmp_path, capsys, *, arguments, complaint):
    assert run("file", measured, scenario, "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_hardware_and_engine_say_what_they_cannot_run(scenario, tmp_path, capsys):
    for mode in ("hardware", "engine"):
        assert run(mode, scenario, "--out", tmp_path / "out") == 2
        assert "names no model to run" in capsys.readouterr().err
        assert run(mode, scenario, "--out", tmp_path / "out", "--replications", "0") == 2
        assert "--replications" in capsys.readouterr().err


def test_a_missing_profile_is_named(scenario, tmp_path, capsys):
    assert run("hardware", scenario, "--out", tmp_path / "out", "--profile", tmp_path / "none.json") == 2
    assert "none.json" in capsys.readouterr().err


def test_results_are_not_overwritten_by_accident(scenario, measured, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ("file", measured, scenario, "--out", out, "--bound", "e2e_mean=0.5")
    assert run(*arguments) == 0
    assert run(*arguments) == 2
    assert run(*arguments, "--overwrite") == 0


def test_a_continuous_engine_knows_the_gaps_between_tokens(tiny, tmp_path):
    """Measured gaps come from vLLM's file, simulated ones from iterations: as many as tokens after the first."""
    tiny["cluster"] = {
        "gpus": 1,
        "router": {"kind": "round_robin"},
        "batcher": {"kind": "continuous", "num_gpu_blocks": 100},
    }
    path = tmp_path / "vllm.json"
    content = {
        "start_times": [0.0, 0.1, 0.2],
        "ttfts": [0.1, 0.1, 0.1],
        "itls": [[0.1] * 4, [0.1] * 2, []],
        "input_lens": [20, 30, 40],
        "output_lens": [5, 3, 1],
    }
    path.write_text(json.dumps(content))
    cell, outside = simulated_cell(study_from(tiny), read_measured(path, {})[0])
    assert sum(gaps.size for gaps in cell.simulated.gaps_s) == 6
    assert outside == 0


def test_a_run_of_vllm_is_within_the_stated_bounds(shared_data, tmp_path):
    """Step times from published kernels of the same GPU, settings as the run's, nothing fitted to it."""
    names = {
        "arrived_at_s": "queued_s",
        "first_token_at_s": "first_token_s",
        "finished_at_s": "last_token_s",
        "prompt_tokens": "input_toks",
        "output_tokens": "output_toks",
    }
    columns = [argument for name, theirs in names.items() for argument in ("--column", f"{name}={theirs}")]
    measured = shared_data / "vllm_runs" / "rtx4090-llama-3.1-8b.requests.csv"
    assert run("file", measured, ROOT / "scenarios" / "vllm_rtx4090.yaml", "--out", tmp_path / "out", *columns) == 0
