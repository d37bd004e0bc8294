"""Errors of a simulation against a measurement, on data whose errors are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from infertuner.errors import ValidationError
from infertuner.validation.compare import compare
from infertuner.validation.runs import Run
from infertuner.validation.verdicts import judge, parse_bound


def run_of(ttft_s, e2e_s, output_tokens=11, gaps_s=()):
    """A run with these latencies, a request a second."""
    ttft_s, e2e_s = np.asarray(ttft_s, float), np.asarray(e2e_s, float)
    at_s = np.arange(len(ttft_s), dtype=float)
    tokens = np.full(len(ttft_s), output_tokens)
    return Run(at_s, at_s + ttft_s, at_s + e2e_s, tokens, tokens, gaps_s)


def test_errors_are_those_of_the_statistics_themselves():
    rng = np.random.default_rng(1)
    ttft_s, e2e_s = rng.exponential(1, 600), 3 + rng.exponential(1, 600)
    measured = run_of(ttft_s, e2e_s)
    simulated = run_of(ttft_s * 1.1, e2e_s + 0.5)
    found = compare([(measured, simulated)])
    assert found["ttft_p99"].measured == pytest.approx(np.percentile(ttft_s, 99))
    for statistic in ("mean", "p50", "p95", "p99"):
        assert found[f"ttft_{statistic}"].ratio.mean == pytest.approx(0.1)
    assert found["e2e_mean"].ratio.mean == pytest.approx(0.5 / e2e_s.mean())
    tpot_s = (e2e_s - ttft_s) / 10
    assert found["tpot_mean"].measured == pytest.approx(tpot_s.mean())
    assert found["e2e_mean"].ratio.n == 600


def test_a_common_factor_has_an_interval_of_no_width():
    """Both sides draw the same requests, so what all requests have in common is known exactly."""
    e2e_s = np.random.default_rng(2).exponential(1, 200)
    ratio = compare([(run_of(e2e_s / 2, e2e_s), run_of(e2e_s / 2, e2e_s * 1.2))])["e2e_mean"].ratio
    assert (ratio.ci_low, ratio.mean, ratio.ci_high) == pytest.approx((0.2, 0.2, 0.2))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Requests whose simulated latency is off by independent noise of mean 0: the true error is 0."""
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(30):
        e2e_s = rng.gamma(4, 1, 60)
        other = e2e_s + rng.normal(0, 0.5, 60)
        ratio = compare([(run_of(e2e_s / 2, e2e_s), run_of(e2e_s / 2, other))])["e2e_mean"].ratio
        covered += ratio.ci_low <= 0 <= ratio.ci_high
    assert covered >= 24  # 95 % of 30 is 28.5; below 24 has a chance of about 0.1 %


def test_percentiles_that_the_sample_cannot_carry_are_missing():
    found = compare([(run_of(np.ones(99), np.ones(99) * 2),) * 2])
    assert "e2e_p50" in found
    assert "e2e_p95" not in found


def test_runs_are_pooled_and_requests_without_an_answer_are_left_out_on_both_sides():
    measured = run_of([1.0, 1.0], [2.0, np.nan])
    simulated = run_of([1.0, 1.0], [3.0, 100.0])
    found = compare([(measured, simulated), (measured, simulated)])
    assert found["e2e_mean"].ratio.mean == pytest.approx(0.5)
    assert found["e2e_mean"].ratio.n == 2
    assert found["ttft_mean"].ratio.n == 4


def test_throughput_is_answers_over_the_time_from_first_send_to_last_answer():
    found = compare([(run_of([1.0, 1.0], [2.0, 3.0]), run_of([1.0, 1.0], [2.0, 1.0]))])
    assert found["throughput"].measured == pytest.approx(2 / 4)
    assert found["throughput"].other == pytest.approx(2 / 2)
    assert found["throughput"].ratio.mean == pytest.approx(1.0)


def test_gaps_are_pooled_over_all_tokens():
    """A long answer has more gaps and weighs more; groups may differ between the sides."""
    measured = run_of([1.0, 1.0], [2.0, 2.0], gaps_s=[np.array([0.1]), np.array([0.2, 0.2, 0.2])])
    simulated = replace(measured, gaps_s=[np.array([0.35, 0.0, 0.35, 0.35, 0.35])])
    found = compare([(measured, simulated)])
    assert found["itl_mean"].measured == pytest.approx(0.7 / 4)
    assert found["itl_mean"].other == pytest.approx(0.28)
    assert "itl_mean" not in compare([(measured, replace(simulated, gaps_s=()))])


def test_a_bound_is_held_in_both_directions_and_missed_when_it_cannot_be_judged():
    e2e_s = np.ones(20)
    too_fast = compare([(run_of(e2e_s, e2e_s * 2), run_of(e2e_s, e2e_s * 1.8))])
    verdicts = judge({"e2e_mean": 0.11, "e2e_p50": 0.09, "e2e_p99": 0.5, "corrected_e2e_mean": 0.5}, too_fast, {})
    assert [verdict.held for verdict in verdicts] == [True, False, False, False]
    assert verdicts[0].error_ratio == pytest.approx(-0.1)
    assert verdicts[2].error_ratio is None


@pytest.mark.parametrize("text", ["e2e=0.1", "e2e_mean", "e2e_mean=x", "e2e_mean=0", "e2e_mean=-1", "e2e_mean=nan"])
def test_a_bound_that_makes_no_sense_is_refused(text):
    with pytest.raises(ValidationError, match="--bound"):
        parse_bound(text)
