"""The tune command: its answer, its folder, what it refuses, and what it says when nothing will do."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from infertuner import simulate
from infertuner.errors import ResultsError, ScenarioError
from infertuner.scenario import yaml12
from infertuner.scenario.study import study_from
from infertuner.sweeping.engines import ThisProcess
from infertuner.sweeping.store import Store
from infertuner.tune import main
from infertuner.tuning import likely
from infertuner.tuning.assumptions import assumptions
from infertuner.tuning.cost import cost_per_hour
from infertuner.tuning.run import load, tune
from infertuner.tuning.space import Space

SERVICE = {
    "name": "service",
    "replications": 6,
    "warmup_s": 5,
    "workload": {
        "kind": "synthetic",
        "requests": 400,
        "arrivals": {"kind": "poisson", "per_s": 4},
        "prompt_tokens": {"kind": "uniform", "min_tokens": 5, "max_tokens": 15},
        "output_tokens": {"kind": "uniform", "min_tokens": 1, "max_tokens": 20},
    },
    "cluster": {
        "gpus": 2,
        "price_per_gpu_hour": 2,
        "router": {"kind": "least_outstanding"},
        "batcher": {"kind": "timeout", "max_batch_size": 4, "timeout_s": "10ms"},
    },
    "latency": {"kind": "per_token", "base_s": "100ms", "per_output_token_s": "50ms", "per_sequence_s": "5ms"},
    "slo": {"ttft_p95_s": 2, "goodput": {"e2e_s": 6, "ratio": 0.9}},
    "sweep": {"cluster.gpus": {"range": {"min": 1, "max": 12, "step": 1}}, "cluster.batcher.max_batch_size": [1, 4]},
}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command in one process in an empty folder; returns the exit code, stdout and stderr."""
    (tmp_path / "service.yaml").write_text(yaml12.write(SERVICE))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(["service.yaml", "--jobs", "1", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def told(command, *arguments, code=0):
    given, out, _ = command("--format", "json", *arguments)
    assert given == code
    return json.loads(out)


def found(raw, tmp_path, **options):
    path = tmp_path / "raw.yaml"
    path.write_text(yaml12.write(raw))
    return tune(load(path, {}), ThisProcess(), Store(tmp_path / "cells"), **options)


def test_the_answer_and_its_folder(command, tmp_path):
    answer = told(command, "--out", "out")
    best = answer["answer"]
    assert answer["feasible"]
    assert answer["complete"]
    assert best["confirmed"]
    gpus = best["parameters"]["cluster.gpus"]
    assert best["cost_per_hour"] == 2 * gpus
    assert 1 < gpus < 12
    cheaper = answer["one_step_cheaper"]
    assert cheaper["parameters"]["cluster.gpus"] == gpus - 1
    assert cheaper["verdict"] != "meets"
    assert cheaper["reason"]
    assert best["runs"] == 6
    assert best["runs_met_at_least_ratio"] == pytest.approx(0.05 ** (1 / 6))
    assert {row["metric"] for row in best["objectives"]} == {"ttft_p95_s", "goodput_ratio"}
    for margin in best["objectives"]:
        assert margin["confidence"] >= 0.95
        assert margin["value"]["ci_low"] <= margin["value"]["mean"] <= margin["value"]["ci_high"]
    assert best["binding"] in ("ttft_p95_s", "goodput_ratio")
    assert answer["next_best"]["cost_per_hour"] >= best["cost_per_hour"]
    assert answer["next_best"]["parameters"] != best["parameters"]
    names = {(row["kind"], row["name"]) for row in answer["sensitivity"]}
    assert {("assumption", "arrival rate"), ("knob", "cluster.gpus"), ("assumption", "latency law")} <= names
    assert answer["search"]["configurations"] == 24
    table = pd.read_csv(tmp_path / "out" / "evaluated.csv")
    assert len(table) == answer["search"]["judged"] < 24
    assert table["answer"].sum() == 1
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert {"answer.json", "evaluated.csv", "provenance.json", "scenario.resolved.yaml", "figures/pareto.png"} <= files
    assert json.loads((tmp_path / "out" / "answer.json").read_text()) == answer
    front = sorted((row["cost_per_hour"], row["ttft_p95_s"]["mean"]) for row in answer["pareto"])
    assert len(front) > 1
    assert [latency for _, latency in front] == sorted((latency for _, latency in front), reverse=True)


def test_it_is_told_in_words_too(command):
    code, printed, _ = command("--out", "out")
    assert code == 0
    assert "answer: 2 GPUs, max_batch_size 4" in printed
    assert "an hour, " in printed
    assert "one step cheaper: " in printed
    assert "next best: " in printed
    assert "all objectives held in 6 of 6 fresh runs: with 95 % confidence they hold in at least 61 %" in printed
    assert "what moves" in printed


def test_a_second_time_nothing_is_computed_and_prices_and_limits_are_free(command):
    first = told(command, "--out", "a")
    again = told(command, "--out", "b")
    assert first["search"]["from_store"] == 0
    assert again["search"]["from_store"] == again["search"]["cells"] == first["search"]["cells"]
    assert again["answer"] == first["answer"]
    dearer = told(command, "--out", "c", "--set", "cluster.price_per_gpu_hour=3")
    assert dearer["search"]["from_store"] == dearer["search"]["cells"]
    assert dearer["answer"]["cost_per_hour"] == 1.5 * first["answer"]["cost_per_hour"]


def test_workers_do_not_matter(command):
    one = told(command, "--out", "a")
    two = told(command, "--out", "b", "--jobs", "2", "--store", "other")
    for answer in (one, two):
        answer["search"].pop("wall_s")
    assert one == two


def test_nothing_feasible_is_exit_code_1_with_the_reason(command):
    answer = told(command, "--out", "out", "--set", "slo.ttft_p95_s=50ms", code=1)
    assert not answer["feasible"]
    assert answer["answer"] is None
    dearest = answer["why_not"]["dearest"]
    assert dearest["parameters"]["cluster.gpus"] == 12
    assert "ttft_p95_s is" in dearest["reason"]
    assert "% above its limit" in dearest["reason"]
    code, printed, _ = command("--out", "again", "--set", "slo.ttft_p95_s=50ms")
    assert code == 1
    assert "no configuration meets the objectives" in printed
    assert "12 GPUs, max_batch_size 1: ttft_p95_s is" in printed


def test_without_prices_gpus_are_counted(command):
    answer = told(command, "--out", "out", "--set", "cluster.price_per_gpu_hour=null")
    assert answer["cost_unit"] == "GPUs"
    assert answer["answer"]["cost_per_hour"] == answer["answer"]["parameters"]["cluster.gpus"]
    assert answer["answer"]["cost_per_million_output_tokens"] is None


def test_a_spent_budget_is_said(command):
    answer = told(command, "--out", "out", "--budget-s", "1e-9", code=1)
    assert not answer["complete"]
    assert any("budget was spent" in warning for warning in answer["warnings"])


def test_arms_may_set_prices(tmp_path):
    raw = SERVICE | {
        "arms": [
            {"cluster.price_per_gpu_hour": 2},
            {"cluster.price_per_gpu_hour": 3, "latency.per_output_token_s": 0.02, "latency.base_s": 0.04},
        ],
    }
    report = found(raw, tmp_path, sensitivity=False)
    fast, slow = ({p: f for p, f in report.race.found.items() if p.line // 2 == kind} for kind in (1, 0))
    assert fast
    assert slow
    assert report.outcome.answer.point.line // 2 == 1, "half as dear again and more than twice as fast"


def test_simulate_says_which_objectives_are_met(command, tmp_path, capsys):
    few = ["--set", "sweep={cluster.gpus: [1, 12]}", "--replications", "3"]
    assert simulate.main(["service.yaml", "--out", "out", *few]) == 0
    printed = capsys.readouterr().out
    assert "runs that kept all" in printed
    arms = json.loads((tmp_path / "out" / "summary.json").read_text())["arms"]
    assert [arm["slo"]["verdict"] == "meets" for arm in arms] == [False, True]
    assert [arm["slo"]["runs_met"] for arm in arms] == [0, 3]
    assert arms[1]["goodput_ratio"]["mean"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "slo=null"], "service: has no slo, so nothing is asked"),
        (["--set", "slo={itl_p99_s: 1}"], "slo.itl_p99_s: a run of 400 requests, which takes"),
        (["--set", "slo={ttft_p99_s: 5}"], "slo.ttft_p99_s: a run of 400 requests, which takes"),
        (["--set", "cluster.gpus={range: {min: 1, max: 4}}"], "sweep.cluster.gpus: has no step"),
        (["--set", "cluster.gpus=0", "--set", "sweep={}"], "cluster.gpus"),
        (["--overwrite"], "--overwrite: replaces the folder named by --out"),
    ],
)
def test_bad_input_is_one_line(command, tmp_path, arguments, complaint):
    code, _, err = command(*arguments)
    assert code == 2
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results" / "tune").exists()


def test_large_spaces_are_searched_by_likelihood(tmp_path, monkeypatch):
    """A hundred timeouts and batch limits between two numbers; the best is found among a dozen lines."""
    pytest.importorskip("optuna")
    monkeypatch.setattr(likely, "LINES_MOST", 8)
    raw = SERVICE | {
        "replications": 3,
        "sweep": {
            "cluster.gpus": [2, 3, 4, 6, 8],
            "cluster.batcher.timeout_s": {"range": {"min": 0.01, "max": 1.0}},
            "cluster.batcher.max_batch_size": {"range": {"min": 1, "max": 16, "step": 1}},
        },
    }
    report = found(raw, tmp_path, sensitivity=False)
    assert report.space.size is None
    assert report.outcome.answer is not None
    assert report.outcome.answer.point.cost_per_hour <= 12
    again = found(raw, tmp_path, sensitivity=False)
    assert again.outcome.answer.point.parameters == report.outcome.answer.point.parameters


def test_without_optuna_a_large_space_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    raw = SERVICE | {"sweep": {"cluster.batcher.timeout_s": {"range": {"min": 0.01, "max": 1.0}}}}
    with pytest.raises(ResultsError, match=r"needs Optuna; pip install 'infertuner\[tune\]'"):
        found(raw, tmp_path)


def test_costs():
    cluster = SERVICE["cluster"] | {"groups": [{"gpus": 3, "price_per_gpu_hour": 5}, {"gpus": 1}]}

    def cost(**changes):
        (arm,) = study_from({**SERVICE, "sweep": {}, "cluster": cluster, **changes}).arms
        return cost_per_hour(arm.scenario)

    assert cost() == 2 * 2 + 3 * 5 + 1 * 2
    with pytest.raises(ScenarioError, match="is missing, and a group has a price"):
        cost(cluster={key: value for key, value in cluster.items() if key != "price_per_gpu_hour"})


def test_tiers_cost_what_they_hold():
    def cost(tier, gpus=2):
        raw = SERVICE | {
            "sweep": {},
            "slo": None,
            "cluster": SERVICE["cluster"] | {"gpus": gpus, "batcher": {"kind": "none"}},
            "cache": {"kind": "tiered", "kv_bytes_per_token": 1000, "tiers": {"dram": tier}},
        }
        return cost_per_hour(study_from(raw).arms[0].scenario) - 2 * gpus

    own = {"capacity_bytes": "10GB", "price_per_gb_hour": 0.01}
    assert cost(own) == pytest.approx(0.2), "one for each GPU"
    assert cost(own | {"shared": True}) == pytest.approx(0.1)
    with pytest.raises(ScenarioError, match="needs capacity_bytes"):
        cost({"capacity_entries": 5, "price_per_gb_hour": 0.01})


def test_the_longest_monotone_key_makes_the_lines():
    space = Space(study_from(SERVICE))
    assert (space.along, space.lines_in_all, space.size) == ("cluster.gpus", 2, 24)
    line = space.line({"cluster.batcher.max_batch_size": 4})
    assert [point.cost_per_hour for point in line] == [2 * gpus for gpus in range(1, 13)]


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        ({"arrivals": {"kind": "fixed", "interval_s": 2}}, {"workload.arrivals.interval_s": 2 / 1.1}),
        ({"arrivals": {"kind": "closed_loop", "users": 20, "think_s": 1}}, {"workload.arrivals.users": 22}),
        (
            {"arrivals": {"kind": "phases", "phases": [{"per_s": 1, "duration_s": 9}]}},
            {"workload.arrivals.phases": [{"per_s": 1.1, "duration_s": 9}]},
        ),
    ],
)
def test_more_traffic_means_more_of_any_kind(workload, expected):
    raw = SERVICE | {"sweep": {}, "workload": SERVICE["workload"] | workload}
    (arm,) = study_from(raw).arms
    rate = next(found for found in assumptions(raw, arm.scenario) if found.name == "arrival rate")
    (key,) = expected
    if isinstance(expected[key], list):
        (expected,), (more,) = expected[key], rate.more[key]
        assert more == pytest.approx(expected)
    else:
        assert rate.more == pytest.approx(expected)


def test_a_profile_is_off_by_what_was_held_out(repository):
    raw = SERVICE | {
        "sweep": {},
        "latency": {"kind": "profile", "path": str(repository / "calibration" / "epyc-1t-cpu-25m.json")},
    }
    (arm,) = study_from(raw).arms
    law = next(found for found in assumptions(raw, arm.scenario) if found.name == "latency law")
    assert 0.02 < law.by_ratio < 0.1
    assert law.more == {"latency.factor": 1 + law.by_ratio}
