"""The corrected face: what docs/experiments.md concludes must follow from what the scenarios give."""

from __future__ import annotations

import pytest
from rich.console import Console

from infertuner.experiments.report import figure, print_result, table
from infertuner.experiments.runs import run_study
from infertuner.outcomes.figures import pareto_front, save
from infertuner.scenario.study import load_study, study_from
from tests.conftest import ROOT

SCENARIOS = ROOT / "scenarios"


@pytest.fixture(scope="module")
def results():
    few = {"replications": 40}
    return {
        name: run_study(load_study(SCENARIOS / f"{name}.yaml", few)) for name in ("gpu_scaling", "batching", "cache")
    }


def test_capacity_scales_and_two_requests_a_second_do_not(results):
    found = table(results["gpu_scaling"]).set_index(["interval_s", "parallelism"])
    assert found.total_throughput[("500ms", 4)] < 2.0, "no more comes out than goes in"
    assert found.scale_factor[("500ms", 2)] < 2.0, "nothing is better than linear"
    assert found.efficiency_ratio[(0, 2)] > 0.95
    assert found.efficiency_ratio[(0, 4)] > 0.9
    assert found.scale_factor[(0, 1)] == found.scale_factor[("500ms", 1)] == 1.0, "each load has its own base"


def test_real_batches_raise_throughput_and_cost_latency_only_when_idle(results):
    found = table(results["batching"]).set_index(["interval_s", "batch_size"])
    busy, idle = found.loc["200ms"], found.loc["1s"]
    assert busy.real_throughput_per_s.is_monotonic_increasing
    assert busy.avg_latency_ms.is_monotonic_decreasing
    assert busy.real_throughput_per_s[8] > 2 * busy.real_throughput_per_s[1]
    assert idle.avg_latency_ms.is_monotonic_increasing
    assert idle.real_throughput_per_s.max() < 1.1 * idle.real_throughput_per_s.min()


def test_sizing_policies_at_equal_memory(results):
    found = table(results["cache"])
    assert (found.local_hits + found.remote_hits + found.misses).tolist() == pytest.approx([80] * 4)
    by_policy = found.set_index(["strategy", "strategy_config"])
    static = by_policy.loc[("STATIC", "initial=5")]
    frequency = by_policy.loc[("FREQUENCY", "initial=5")]
    assert static.gain_over_static_hits == 0, "a static cache is its own reference"
    assert frequency.local_hits > static.local_hits
    assert frequency.gain_over_static_hits_ci_high < 0
    assert frequency.e2e_against_first_s_ci_high < 0, "local hits do shorten answers here"


def test_conditions_separate_lines_from_points(tiny):
    tiny["experiment"] = "gpu_scaling"
    tiny["arms"] = [
        {"cluster.gpus": 1, "workload.arrivals.per_s": 1},
        {"cluster.gpus": 2, "workload.arrivals.per_s": 2},
    ]
    tiny["sweep"] = {"cluster.router": [{"kind": "round_robin"}, {"kind": "least_outstanding"}]}
    result = run_study(study_from(tiny))
    conditions = [result.condition(index, "cluster.gpus") for index in range(4)]
    assert conditions == [{"router": "round_robin"}, {"router": "least_outstanding"}] * 2
    found = table(result)
    assert found.scale_factor[:2].tolist() == [1.0, 1.0]
    assert (found.scale_factor[2:] > 1).all()


def test_extrapolated_latencies_are_counted_and_announced(tiny):
    profile = ROOT / "calibration" / "epyc-1t-cpu-25m.json"
    tiny["latency"] = {"kind": "profile", "path": str(profile), "out_of_range": "extrapolate"}
    tiny["workload"]["prompt_tokens"] = {"kind": "constant", "tokens": 3000}
    result = run_study(study_from(tiny))
    assert result.outside_calls >= 2 * 20
    assert "outside the measured range" in result.warnings()[0]


@pytest.mark.parametrize("name", ["gpu_scaling", "batching", "cache"])
def test_figures_are_drawn_and_repeat(results, name, tmp_path):
    for file in ("a.png", "b.png"):
        save(figure(results[name]), tmp_path / file)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_plain_scenario_has_no_figure(tiny):
    assert figure(run_study(study_from(tiny))) is None


def test_the_pareto_front_is_what_nothing_beats():
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 6.0), (3.0, 4.5), (0.5, 4.0), (3.0, 9.0)]
    assert pareto_front(points) == [(2.0, 4.0), (3.0, 4.5)]


def test_keys_with_the_same_last_word_stay_apart(tiny):
    tiny["experiment"] = "gpu_scaling"
    tiny["workload"]["output_tokens"] = {"kind": "constant", "tokens": 5}
    tiny["sweep"] = {
        "workload.prompt_tokens.tokens": [1, 5000],
        "workload.output_tokens.tokens": [10, 100],
        "cluster.gpus": [1, 2],
    }
    found = table(run_study(study_from(tiny)))
    assert {"prompt_tokens.tokens", "output_tokens.tokens"} < set(found.columns)
    assert (found.scale_factor[found.parallelism == 1] == 1).all()


def test_latencies_of_nothing_are_survived(tiny):
    tiny["latency"] = {"kind": "per_token", "per_output_token_s": 0}
    for experiment in ("gpu_scaling", "batching"):
        for face in ("published", "corrected"):
            result = run_study(study_from(tiny | {"experiment": experiment, "face": face}))
            assert len(table(result)) == 1
            assert figure(result) is not None


def test_a_description_is_text_and_not_markup(tiny, tmp_path, capsys):
    tiny |= {"experiment": "batching", "description": r"[/b] $\frac{$ [red]"}
    result = run_study(study_from(tiny))
    print_result(result, Console())
    assert r"[/b] $\frac{$ [red]" in capsys.readouterr().out
    save(figure(result), tmp_path / "a.png")


def test_policies_with_other_settings_are_told_apart(tiny):
    tiny["experiment"] = "cache"
    tiny["cache"] = {"kind": "two_level", "sizing": {"kind": "fluid"}, "remote_latency_s": 0}
    tiny["sweep"] = {"cache.sizing": [{"kind": "fluid", "max_entries": 20}, {"kind": "fluid"}]}
    found = table(run_study(study_from(tiny)))
    assert found.strategy_config.tolist() == ["initial=5, max_entries=20", "initial=5"]
    assert found.total_requests.tolist() == [20, 20]
