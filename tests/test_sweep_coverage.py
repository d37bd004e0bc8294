"""Intervals of whole studies against known answers, and what common random numbers are worth."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coverage import covers, mean_wait_s, queue, waits_s
from infertuner.experiments.runs import measure, run_arm
from infertuner.outcomes.statistics import interval, paired_difference
from infertuner.scenario.study import study_from

STUDIES = 60


@pytest.fixture(scope="module")
def studies():
    """The mean waits of 60 studies of M/D/1 at load 0.3, ten replications each."""
    return [waits_s(0.3, seed) for seed in range(STUDIES)]


def test_intervals_of_whole_studies_cover_the_truth(studies):
    """95 % of 60 are 57, with a deviation of 1.7."""
    covered = sum(covers(values, mean_wait_s(0.3)) for values in studies)
    assert covered >= 57 - 3 * 1.7


def test_intervals_are_no_wider_than_they_need_be(studies):
    """At 60 % they cover about 60 % of the time: 36 of 60, with a deviation of 3.8."""
    narrow = [interval(values, confidence=0.6) for values in studies]
    covered = sum(found.ci_low <= mean_wait_s(0.3) <= found.ci_high for found in narrow)
    assert abs(covered - 36) <= 3 * 3.8


def test_without_a_warm_up_they_do_not():
    """At load 0.9 a queue that begins empty is far from full after 200 requests, and all replications err alike."""
    covered = 0
    for seed in range(20):
        raw = queue(0.9, seed, warmup_s=0.0)
        raw["workload"]["requests"] = 200
        (arm,) = study_from(raw).arms
        covered += covers([measure(arm, run_arm(arm, r))["wait_mean_s"] for r in range(20)], mean_wait_s(0.9))
    assert covered <= 10


def test_common_random_numbers_shrink_the_interval_as_theory_says():
    """Two queues, one 5 % faster: var(D) is 2 var (1 - rho) with common numbers, and 2 var with numbers of their own.

    Over 60 replications a ratio of variances is within 0.5 and 2 in 99 % of cases.
    """

    def waits(seed, speed):
        raw = queue(0.5, seed)
        raw["latency"]["per_output_token_s"] = 0.1 / speed
        (arm,) = study_from(raw).arms
        return [measure(arm, run_arm(arm, replication))["wait_mean_s"] for replication in range(60)]

    slow, fast, apart = waits(1, 1.0), waits(1, 1.05), waits(2, 1.05)
    rho = np.corrcoef(slow, fast)[0, 1]
    assert rho > 0.9
    common, own = paired_difference(slow, fast), paired_difference(slow, apart)
    shrunk = ((common.ci_high - common.ci_low) / (own.ci_high - own.ci_low)) ** 2
    variances = np.var(slow, ddof=1) + np.var(fast, ddof=1)
    theory = 1 - 2 * rho * np.std(slow, ddof=1) * np.std(fast, ddof=1) / variances
    assert 0.5 < shrunk / theory < 2
    assert shrunk < 0.2
    assert abs(np.corrcoef(slow, apart)[0, 1]) < 0.35
