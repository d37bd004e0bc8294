"""Intervals over replications: known values, coverage, and the laws of paired comparison."""

from __future__ import annotations

from math import exp, isnan, log, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.outcomes.statistics import Interval, interval, paired_difference, paired_ratio

samples = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)
positive_pairs = st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e3)), min_size=2, max_size=20)


def test_known_interval():
    """1 ... 5: s = sqrt(2.5) and t(4, 0.975) = 2.776445, from any table."""
    half_width = 2.776445 * sqrt(2.5) / sqrt(5)
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.mean, found.n) == (3.0, 5)
    assert (found.ci_low, found.ci_high) == pytest.approx((3.0 - half_width, 3.0 + half_width), abs=1e-5)


def test_coverage_is_what_it_claims():
    """Of 2,000 intervals from 8 normal samples 95 % hold the truth, give or take 4 binomial deviations.

    A normal quantile in place of Student's would cover 91 %, far outside.
    """
    draws = np.random.default_rng(1).normal(3.0, 2.0, size=(2000, 8)).tolist()
    covered = sum(found.ci_low <= 3.0 <= found.ci_high for found in map(interval, draws))
    assert abs(covered - 1900) <= 4 * sqrt(2000 * 0.95 * 0.05)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Interval(None, None, None, 0)),
        ([None, nan], Interval(None, None, None, 0)),
        ([2.0, None], Interval(2.0, None, None, 1)),
        ([2.0, nan, 2.0, None], Interval(2.0, 2.0, 2.0, 2)),
    ],
)
def test_missing_values_are_left_out_and_counted(values, expected):
    assert interval(values) == expected


@given(samples, st.floats(-1e3, 1e3))
def test_interval_moves_with_its_sample(values, shift):
    plain, moved = interval(values), interval([value + shift for value in values])
    for end in ("mean", "ci_low", "ci_high"):
        assert getattr(moved, end) == pytest.approx(getattr(plain, end) + shift, abs=1e-6)


@given(samples)
def test_more_confidence_is_a_wider_interval(values):
    narrow, wide = interval(values, 0.8), interval(values, 0.99)
    assert wide.ci_low <= narrow.ci_low <= narrow.mean <= narrow.ci_high <= wide.ci_high


def test_common_noise_cancels_in_pairs():
    """Arms 1 apart under shared noise of deviation 10: apart they look alike, in pairs they differ by exactly 1."""
    noise = np.random.default_rng(2).normal(0.0, 10.0, 10)
    a, b = (noise + 1.0).tolist(), noise.tolist()
    assert interval(a).ci_low < interval(b).ci_high
    found = paired_difference(a, b)
    assert (found.ci_low, found.ci_high) == pytest.approx((1.0, 1.0))


def test_a_pair_with_a_missing_half_is_no_pair():
    assert paired_difference([5.0, None, 3.0, nan], [1.0, 1.0, None, 1.0]) == Interval(4.0, None, None, 1)
    assert paired_ratio([6.0, None], [3.0, 1.0]) == Interval(2.0, None, None, 1)
    assert paired_difference([], []) == Interval(None, None, None, 0)


def test_unequal_arms_are_not_pairs():
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])


def test_known_ratio():
    """Ratios 2 and 8: geometric mean 4; log 2 on either side of it, and t(1, 0.975) = 12.706."""
    half_width = 12.706205 * (sqrt(2) * log(2)) / sqrt(2)
    found = paired_ratio([2.0, 24.0], [1.0, 3.0])
    assert found.mean == pytest.approx(4.0)
    assert found.ci_high == pytest.approx(4.0 * exp(half_width), rel=1e-4)


@given(positive_pairs)
def test_swapping_arms_inverts_the_ratio(pairs):
    a, b = [first for first, _ in pairs], [second for _, second in pairs]
    there, back = paired_ratio(a, b), paired_ratio(b, a)
    assert there.mean * back.mean == pytest.approx(1.0)
    assert there.ci_low * back.ci_high == pytest.approx(1.0)


@given(positive_pairs, st.floats(0.1, 10.0))
def test_ratio_has_no_unit(pairs, scale):
    a, b = [first for first, _ in pairs], [second for _, second in pairs]
    scaled = paired_ratio([value * scale for value in a], [value * scale for value in b])
    assert scaled.ci_low == pytest.approx(paired_ratio(a, b).ci_low)


@pytest.mark.parametrize("zero", [([0.0, 1.0], [1.0, 1.0]), ([1.0, 1.0], [1.0, 0.0])])
def test_a_ratio_with_a_zero_is_missing(zero):
    assert paired_ratio(*zero) == Interval(None, None, None, 0)


def test_nothing_missing_is_nan():
    found = interval([1.0, 2.0])
    assert not any(isnan(value) for value in (found.mean, found.ci_low, found.ci_high))
