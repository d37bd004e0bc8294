"""The sweep command: tables, the store, failures, ranking, sequential stopping, and what it refuses."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from infertuner import simulate
from infertuner.scenario import yaml12
from infertuner.scenario.study import study_from
from infertuner.sweep import main
from infertuner.sweeping import cells, engines
from infertuner.sweeping.cells import cell_key


@pytest.fixture
def sweep(tiny, tmp_path, monkeypatch, capsys):
    """Runs the command in one process in an empty folder; returns the exit code, stdout and stderr."""
    tiny["sweep"] = {"cluster.gpus": [1, 2], "cluster.router": [{"kind": "round_robin"}, {"kind": "least_outstanding"}]}
    tiny["replications"] = 3
    (tmp_path / "tiny.yaml").write_text(yaml12.write(tiny))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        here = [] if "--cluster" in arguments else ["--jobs", "1"]
        code = main(["tiny.yaml", *here, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def told(sweep, *arguments):
    code, out, _ = sweep("--format", "json", *arguments)
    assert code == 0
    return json.loads(out)


def test_a_sweep_writes_one_tidy_table(sweep, tmp_path):
    code, printed, _ = sweep("--out", "out")
    assert code == 0
    assert "12 computed by 1 at a time, 0 from results/cells, 0 failed" in printed
    frame = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert list(frame.columns[:5]) == ["arm", "replication", "cluster.gpus", "cluster.router", "requests"]
    assert frame["arm"].tolist() == [arm for arm in range(4) for _ in range(3)]
    assert frame["cluster.router"].unique().tolist() == ['{"kind": "round_robin"}', '{"kind": "least_outstanding"}']
    pd.testing.assert_frame_equal(frame, pd.read_parquet(tmp_path / "out" / "sweep.parquet"), check_dtype=False)
    arms = pd.read_csv(tmp_path / "out" / "arms.csv")
    assert arms["ttft_mean_s"].tolist() == pytest.approx(frame.groupby("arm")["ttft_mean_s"].mean().tolist())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["arms"][3]["parameters"] == {"cluster.gpus": 2, "cluster.router": {"kind": "least_outstanding"}}


def test_it_finds_what_simulate_finds(sweep, tmp_path):
    """Same cells, same numbers, to the last digit."""
    sweep("--out", "swept")
    assert simulate.main(["tiny.yaml", "--out", "simulated"]) == 0
    swept = pd.read_csv(tmp_path / "swept" / "sweep.csv").sort_values(["arm", "replication"])
    simulated = pd.read_csv(tmp_path / "simulated" / "replications.csv").sort_values(["arm", "replication"])
    for metric in ("throughput_per_s", "e2e_mean_s", "ttft_p50_s", "utilization_ratio"):
        assert swept[metric].tolist() == simulated[metric].tolist()


def test_what_is_in_the_store_is_not_computed_again(sweep):
    assert told(sweep, "--out", "a")["run"]["computed"] == 12
    again = told(sweep, "--out", "b")
    assert (again["run"]["computed"], again["run"]["from_store"]) == (0, 12)
    more = told(sweep, "--out", "c", "--replications", "5")
    assert (more["run"]["computed"], more["run"]["from_store"]) == (8, 12), "replications are added, not repeated"
    other = told(sweep, "--out", "d", "--seed", "9")
    assert other["run"]["computed"] == 12


def test_a_broken_file_in_the_store_is_computed_again(sweep, tmp_path):
    first = told(sweep, "--out", "a")
    victim = next((tmp_path / "results" / "cells").rglob("*.json"))
    victim.write_text(victim.read_text()[:100])
    again = told(sweep, "--out", "b")
    assert (again["run"]["computed"], again["run"]["from_store"]) == (1, 11)
    assert again["arms"] == first["arms"]


def test_a_key_is_what_the_numbers_depend_on(tiny, tmp_path):
    def key(replication=0, folder=tmp_path, **changes):
        return cell_key(study_from(tiny | changes, folder).arms[0].scenario, replication)

    assert key() == key(name="other", description="other", replications=7)
    assert key(warmup_s=0.001) == key(warmup_s="1ms"), "values count, not their spelling"
    assert len({key(), key(1), key(seed=1), key(warmup_s=1), key(experiment="gpu_scaling")}) == 5
    trace = tmp_path / "trace.csv"
    trace.write_text("arrived_at_s,prompt_tokens,output_tokens\n0,5,5\n")
    workload = {"kind": "trace", "format": "csv", "path": "trace.csv"}
    one = key(workload=workload)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "trace.csv").write_bytes(trace.read_bytes())
    assert key(workload=workload, folder=moved) == one, "contents count, not places"
    trace.write_text("arrived_at_s,prompt_tokens,output_tokens\n0,5,6\n")
    assert key(workload=workload) != one


def test_other_code_is_another_key(tiny, monkeypatch):
    (arm,) = study_from(tiny).arms
    before = cell_key(arm.scenario, 0)
    monkeypatch.setattr(cells, "code_digest", lambda: "other")
    assert cell_key(arm.scenario, 0) != before


def test_arms_that_ask_the_same_share_their_cells(sweep):
    """One at a time: the file's own point, then every value of every key; the file has 2 GPUs and round robin."""
    found = told(sweep, "--out", "out", "--design", "one_at_a_time")
    assert len(found["arms"]) == 5
    assert found["run"]["computed"] == 3 * 3
    assert found["arms"][0]["e2e_mean_s"] == found["arms"][2]["e2e_mean_s"]


def test_a_hypercube_has_as_many_arms_as_points(sweep):
    rate = "workload.arrivals.per_s={range: {min: 1, max: 2}}"
    found = told(sweep, "--out", "out", "--design", "lhs", "--points", "4", "--set", rate)
    assert len(found["arms"]) == 4
    rates = sorted(arm["parameters"]["workload.arrivals.per_s"] for arm in found["arms"])
    assert all(1 + i / 4 <= rate <= 1 + (i + 1) / 4 for i, rate in enumerate(rates))


@pytest.fixture
def with_a_broken_cell(monkeypatch):
    """Replication 1 of every arm with two GPUs fails with a defect."""
    run_arm = cells.run_arm

    def broken(arm, replication):
        if replication == 1 and arm.scenario.cluster.gpus == 2:
            raise ZeroDivisionError("on purpose")
        return run_arm(arm, replication)

    monkeypatch.setattr(cells, "run_arm", broken)


def test_failures_are_told_at_the_end_and_take_nothing_with_them(sweep, tmp_path, with_a_broken_cell, monkeypatch):
    code, printed, _ = sweep("--out", "out")
    assert code == 1
    assert "failed: arm 2, replication 1: ZeroDivisionError: on purpose (test_sweep.py:" in printed
    assert "again: python -m infertuner.sweep tiny.yaml --jobs 1 --out out --cell 2:1" in printed
    assert len(pd.read_csv(tmp_path / "out" / "sweep.csv")) == 10
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(row["arm"], row["replication"]) for row in summary["failures"]] == [(2, 1), (3, 1)]
    assert summary["arms"][2]["e2e_mean_s"]["n"] == 2
    with pytest.raises(ZeroDivisionError):
        sweep("--out", "out", "--cell", "2:1")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    code, printed, _ = sweep("--out", "out", "--cell", "2:1")
    assert code == 0
    assert json.loads(printed)["metrics"]["requests"] == 20
    again = told(sweep, "--out", "again")
    assert (again["run"]["computed"], again["run"]["from_store"]) == (1, 11), "--cell keeps what it computes"


def test_a_ranking_is_a_column(sweep):
    found = told(sweep, "--out", "out", "--minimise", "e2e_mean_s", "--replications", "10")
    ranks = [arm["rank"] for arm in found["arms"]]
    means = [arm["e2e_mean_s"]["mean"] for arm in found["arms"]]
    assert ranks[:2] == ["worse", "worse"], "one GPU is overloaded"
    assert ranks[means.index(min(means))] in ("best", "not told apart")
    assert found["arms"][0]["behind_best_at_most_s"] > means[0] - min(means)
    _, printed, _ = sweep("--out", "table", "--maximise", "throughput_per_s", "--replications", "10")
    assert "behind_best_at_most_per_s" in printed


def test_replicating_until_precise(sweep):
    found = told(sweep, "--out", "out", "--until", "throughput_per_s=10%", "--max-replications", "40")
    counts = [arm["replications"] for arm in found["arms"]]
    assert len(set(counts)) > 1
    for count, interval in zip(counts, (arm["throughput_per_s"] for arm in found["arms"]), strict=True):
        assert interval["n"] == count
        precise = (interval["ci_high"] - interval["mean"]) / interval["mean"] <= 0.1 / 1.1
        assert precise if count < 40 else count == 40
    short = told(sweep, "--out", "short", "--until", "e2e_mean_s=0.1%", "--max-replications", "4")
    assert [arm["replications"] for arm in short["arms"]] == [4] * 4
    assert any("not precise enough: arms 0, 1, 2, 3" in warning for warning in short["warnings"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--minimise", "e2e_meen_s"], "e2e_meen_s: there is no such metric; did you mean e2e_mean_s?"),
        (["--until", "e2e_mean_s"], "--until e2e_mean_s: must be METRIC=SHARE"),
        (["--max-replications", "5"], "--max-replications: bounds --until"),
        (["--until", "e2e_mean_s=5%", "--max-replications", "1"], "--max-replications: is 1, must be at least the "),
        (["--design", "lhs"], "--points: says how many points"),
        (["--points", "5"], "--points: says how many points"),
        (["--cell", "9:0"], "--cell 9:0: must be ARM:REPLICATION with an arm below 4"),
        (["--cell", "0"], "--cell 0: must be ARM:REPLICATION"),
        (["--set", "cluster.gpus={choices: []}"], "cluster.gpus"),
        (["--set", "cluster.gpus={range: {min: 1, max: 2}}"], "sweep.cluster.gpus: has no step or count"),
        (["--overwrite"], "--overwrite: replaces the folder named by --out"),
        (["--cluster", "tcp://127.0.0.1:1"], "--cluster tcp://127.0.0.1:1: no Dask scheduler answers there"),
    ],
)
def test_bad_input_is_one_line(sweep, tmp_path, arguments, complaint, monkeypatch):
    monkeypatch.setattr(engines, "CONNECT_WITHIN", "100ms")
    code, _, err = sweep(*arguments)
    assert code == 2
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results" / "sweep").exists()


@pytest.mark.parametrize(("uncertainty", "distinct"), [("none", 1), ("drawn", 8)])
def test_intervals_carry_the_calibrations_doubt(sweep, tmp_path, repository, uncertainty, distinct):
    """One request of fixed length: nothing else is random. All arms of a replication have the same calibration."""
    profile = repository / "calibration" / "epyc-1t-cpu-25m.json"
    only = [
        f"latency={{kind: profile, path: {profile}, uncertainty: {uncertainty}}}",
        "workload.requests=1",
        "workload.prompt_tokens.tokens=64",
        "workload.output_tokens={kind: constant, tokens: 16}",
    ]
    settings = [word for setting in only for word in ("--set", setting)]
    assert sweep("--out", "out", "--replications", "8", *settings)[0] == 0
    frame = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert frame["e2e_mean_s"].round(12).nunique() == distinct
    assert (frame.groupby("replication")["e2e_mean_s"].nunique() == 1).all()
