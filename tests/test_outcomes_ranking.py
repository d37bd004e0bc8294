"""Comparisons with the best: known cases, and that the statements hold together as often as they say."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest

from infertuner.outcomes.ranking import compare_with_best
from infertuner.outcomes.statistics import student_quantile


def verdicts(arms, **keywords):
    return [standing and standing.verdict for standing in compare_with_best(arms, maximise=False, **keywords)]


def test_common_noise_does_not_hide_a_difference():
    """Three arms 0.5 apart under shared noise of deviation 10: alone they look alike, in pairs they do not."""
    rng = np.random.default_rng(1)
    noise = rng.normal(50, 10, 10)
    arms = [(noise + shift + rng.normal(0, 0.05, 10)).tolist() for shift in (1.0, 0.5, 0.0)]
    assert verdicts(arms) == ["worse", "worse", "best"]
    assert [s.verdict for s in compare_with_best(arms, maximise=True)] == ["best", "worse", "worse"]
    first, second, best = compare_with_best(arms, maximise=False)
    assert best.behind == 0
    assert 1.0 < first.behind < 1.2
    assert 0.5 < second.behind < 0.7


def test_what_cannot_be_told_apart_is_not():
    rng = np.random.default_rng(2)
    arms = [rng.normal(mean, 1.0, 8).tolist() for mean in (10.0, 10.1, 20.0)]
    assert verdicts(arms) == ["not told apart", "not told apart", "worse"]


def test_two_arms_are_one_one_sided_paired_test():
    """Differences 1 ... 5: mean 3, s = sqrt(2.5), n = 5, t(4, 0.95) = 2.1318."""
    a, b = [2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    worse, best = compare_with_best([a, b], maximise=False)
    assert (worse.verdict, best.verdict) == ("worse", "best")
    assert worse.behind == pytest.approx(3 + 2.131847 * sqrt(2.5 / 5), abs=1e-5)
    just = 1 - (1 - 0.95) / 100
    assert student_quantile(just, 4) * sqrt(2.5 / 5) > 3, "a hundred arms more and the same data say nothing"
    crowd = [[value + 100.0 for value in b]] * 99
    assert verdicts([a, b, *crowd])[:2] == ["not told apart", "not told apart"]


def test_missing_values():
    """An arm without values has no standing; one value, or none in common, says nothing."""
    assert verdicts([[1.0, 1.1, 1.2], [None] * 3, [9.0, 9.1, 9.2]]) == ["best", None, "worse"]
    alone = compare_with_best([[1.0, 1.1, None], [None, 9.0, 9.5]], maximise=False)
    assert [(s.verdict, s.behind) for s in alone] == [("not told apart", inf)] * 2
    assert verdicts([[3.0]]) == ["best"], "the only arm"


@pytest.mark.parametrize("shared", [0.0, 3.0])
def test_the_statements_hold_together_as_often_as_they_say(shared):
    """The best is not called worse, and nobody is further behind than said, in 95 % of 800 studies of six arms.

    Three arms are equally good, the hardest case; at 95 % the number has a deviation of 6. At the confidence of a
    single comparison in place of Bonferroni's it is about 88 %.
    """
    truth = np.array([0.0, 0.0, 0.0, 0.2, 0.5, 2.0])
    rng = np.random.default_rng(4)
    held = hasty = 0
    for _ in range(800):
        arms = truth[:, np.newaxis] + rng.normal(0, 1, (6, 10)) + rng.normal(0, shared, 10)
        found = compare_with_best(arms.tolist(), maximise=False)
        kept = any(standing.verdict != "worse" for standing in found[:1])
        gaps = [truth[i] - np.delete(truth, i).min() for i in range(6)]
        held += kept and all(gap <= standing.behind + 1e-12 for gap, standing in zip(gaps, found, strict=True))
        single = compare_with_best(arms.tolist(), maximise=False, confidence=1 - 0.05 * 5)
        hasty += single[0].verdict != "worse"
    assert held >= 800 * 0.95 - 3 * 6
    assert hasty < 800 * 0.95 - 3 * 6
