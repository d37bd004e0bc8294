"""Objectives: goodput as vLLM counts it, verdicts with their confidence, and what a scenario may ask."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from infertuner.errors import ScenarioError
from infertuner.experiments.runs import measure, run_arm
from infertuner.outcomes.goodput import goodput
from infertuner.outcomes.latencies import durations
from infertuner.outcomes.objectives import judge
from infertuner.outcomes.slo import Goodput, Slo
from infertuner.outcomes.statistics import least_share, student_probability
from infertuner.scenario.study import study_from


def runs(values, metric="ttft_p99_s", **others):
    steady = {"queue_growth_p_value": 1.0, "queue_growth_ratio": 0.0, "queue_growth_error_ratio": 0.001}
    counts = {"requests": 1000, "finished": 1000, "rejected_length": 0, "rejected_kv": 0, "failed": 0}
    return [{metric: value, **steady, **counts, **others} for value in values]


SLO = Slo(ttft_p99_s=1.0)


def test_goodput_counts_requests_that_keep_every_bound(tiny):
    (arm,) = study_from(tiny).arms
    records = run_arm(arm)
    times = durations(records)
    limit_s = float(np.median(times.e2e_s))
    found = goodput(records, Goodput(e2e_s=limit_s, ttft_s=100.0), 0.0)
    kept = int((times.e2e_s <= limit_s).sum())
    assert found["goodput_ratio"] == kept / 20
    assert found["goodput_per_s"] == pytest.approx(kept / records.ended_at_s)
    assert goodput(records, Goodput(ttft_s=1e-9), 0.0)["goodput_ratio"] == 0


def test_one_token_has_no_gap_to_be_slow_in(tiny):
    tiny["workload"]["output_tokens"] = {"kind": "constant", "tokens": 1}
    (arm,) = study_from(tiny).arms
    assert goodput(run_arm(arm), Goodput(tpot_s=1e-9), 0.0)["goodput_ratio"] == 1


def test_those_without_an_answer_kept_nothing(tiny):
    tiny |= {"horizon_s": 12.0, "slo": {"goodput": {"e2e_s": 1000}}}
    (arm,) = study_from(tiny).arms
    records = run_arm(arm)
    arrived = int((~np.isnan(np.asarray(records.requests.arrived_at_s))).sum())
    metrics = measure(arm, records)
    assert 0 < metrics["finished"] < arrived
    assert metrics["goodput_ratio"] == metrics["finished"] / arrived


def test_confidence_is_one_minus_the_p_value_of_the_t_test():
    values = [0.7, 0.9, 0.8, 1.05, 0.85]
    judgement = judge(runs(values), SLO)
    p_value = stats.ttest_1samp(values, 1.0, alternative="less").pvalue
    assert judgement.margins[0].confidence == pytest.approx(1 - p_value)
    assert judgement.verdict == "meets"
    assert judgement.binding.headroom_ratio == pytest.approx(0.14)
    assert (judgement.runs_met, judgement.runs) == (4, 5)


@pytest.mark.parametrize(
    ("values", "others", "verdict", "reason"),
    [
        ([0.5, 0.6, 0.5], {}, "meets", ""),
        ([0.9, 1.2, 0.8], {}, "undecided", "inside its limit by 3.3%, too little to be sure"),
        ([1.9, 2.2, 1.8], {}, "fails", "96.7% above its limit"),
        ([0.5, 0.6, 0.5], {"queue_growth_p_value": 1e-6}, "fails", "saturated"),
        ([0.5, 0.6, 0.5], {"rejected_kv": 20}, "fails", "2.0% of requests have no answer"),
        ([0.5, None, 0.5], {}, "fails", "has no value in some run"),
        ([0.5], {}, "undecided", ""),
        ([0.5, 0.5, 0.5], {}, "meets", ""),
        ([1.5, 1.5, 1.5], {}, "fails", "50.0% above its limit"),
    ],
)
def test_verdicts(values, others, verdict, reason):
    judgement = judge(runs(values, **others), SLO)
    assert judgement.verdict == verdict
    assert reason in judgement.reason()


def test_rates_are_bounded_from_below():
    assert judge(runs([9, 9.1, 9.05], "throughput_per_s"), Slo(throughput_per_s=8)).verdict == "meets"
    assert judge(runs([9, 9.1, 9.05], "throughput_per_s"), Slo(throughput_per_s=10)).verdict == "fails"


def test_all_bounds_must_hold():
    both = [a | b for a, b in zip(runs([0.5, 0.6, 0.5]), runs([9.0, 9.1, 9.2], "tpot_p99_s"), strict=True)]
    judgement = judge(both, Slo(ttft_p99_s=1, tpot_p99_s=1))
    assert judgement.verdict == "fails"
    assert judgement.binding.metric == "tpot_p99_s"
    assert judgement.runs_met == 0


def test_verdicts_err_as_rarely_as_they_say():
    """At the limit itself, `meets` is wrong; it may be said in 5 % of studies."""
    rng = np.random.default_rng(1)
    said = [judge(runs(rng.normal(1.0, 0.1, 8).tolist()), SLO).verdict for _ in range(2000)]
    assert said.count("meets") / 2000 == pytest.approx(0.05, abs=0.012)
    assert said.count("fails") / 2000 == pytest.approx(0.05, abs=0.012)


def test_the_least_share_covers():
    """Clopper and Pearson: exact or conservative for every share."""
    for share in (0.5, 0.8, 0.95):
        chances = stats.binom.pmf(range(21), 20, share)
        wrong = sum(chance for k, chance in enumerate(chances) if least_share(k, 20) > share)
        assert wrong <= 0.05
    assert least_share(0, 20) == 0
    assert least_share(59, 59) == pytest.approx(0.05 ** (1 / 59))


def test_student_probability_is_that_of_scipy():
    assert student_probability(1.3, 7) == pytest.approx(stats.t.cdf(1.3, 7))
    assert math.isclose(student_probability(0.0, 3), 0.5)


@pytest.mark.parametrize(
    ("slo", "complaint"),
    [
        ({}, "slo: bounds nothing"),
        ({"goodput": {}}, "slo.goodput: bounds nothing"),
        ({"ttft_p98_s": 1}, "ttft_p98_s"),
        ({"ttft_p99_s": 0}, "ttft_p99_s"),
    ],
)
def test_bad_objectives_are_refused(tiny, slo, complaint):
    with pytest.raises(ScenarioError, match=complaint.split(":")[0]):
        study_from(tiny | {"slo": slo})


def test_a_replay_has_no_objectives(tiny):
    tiny |= {"driver": "replay", "slo": {"ttft_p99_s": 1}}
    with pytest.raises(ScenarioError, match="a replay answers nobody"):
        study_from(tiny)
