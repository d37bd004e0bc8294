"""Sizing policies: laws all of them obey, and the published rules of each by plain values."""

from __future__ import annotations

import doctest
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.sizing import frequency
from infertuner.cache.sizing.fluid import Fluid
from infertuner.cache.sizing.frequency import Frequency, java_hash
from infertuner.cache.sizing.static import Static
from infertuner.parts import fresh

POLICIES = {
    "static": Static(kind="static", entries=7),
    "fluid": Fluid(kind="fluid", initial_entries=9),
    "fluid, checked often": Fluid(kind="fluid", initial_entries=9, check_every_requests=1, min_requests=1),
    "frequency": Frequency(kind="frequency", initial_entries=9),
    "frequency, checked often": Frequency(kind="frequency", initial_entries=9, check_every_requests=1, min_requests=1),
}
LOOKUPS = st.lists(st.tuples(st.integers(0, 99), st.floats(0, 10)), max_size=120)


def sizes(policy, keys, at_s):
    policy = fresh(policy)
    return [policy.observe(key, now_s) for key, now_s in zip(keys, at_s, strict=True)]


def in_order(lookups):
    """Keys and non-decreasing instants from (key, gap) pairs."""
    now_s, at_s = 0.0, []
    for _, gap_s in lookups:
        now_s += gap_s
        at_s.append(now_s)
    return [key for key, _ in lookups], at_s


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
class TestLaws:
    @given(lookups=LOOKUPS)
    def test_sizes_stay_within_the_bounds(self, policy, lookups):
        low = getattr(policy, "min_entries", policy.initial_entries)
        high = getattr(policy, "max_entries", policy.initial_entries)
        assert all(low <= size <= high for size in sizes(policy, *in_order(lookups)))

    @given(lookups=LOOKUPS)
    def test_equal_lookups_give_equal_sizes(self, policy, lookups):
        assert sizes(policy, *in_order(lookups)) == sizes(policy, *in_order(lookups))

    def test_the_size_changes_only_at_checks(self, policy):
        checked_every = getattr(policy, "check_every_requests", 200)
        observed = [policy.initial_entries, *sizes(policy, [i % 40 for i in range(200)], [i / 50 for i in range(200)])]
        changes = [i for i in range(1, 201) if observed[i] != observed[i - 1]]
        assert all(i % checked_every == 0 for i in changes)

    def test_a_fresh_policy_starts_over(self, policy):
        keys, at_s = list(range(100)), [i / 50 for i in range(100)]
        used = fresh(policy)
        for key, now_s in zip(keys, at_s, strict=True):
            used.observe(key, now_s)
        assert sizes(used, keys, at_s) == sizes(policy, keys, at_s)


def at_rate(rate_per_s, n=4):
    """n instants whose rate, number over age of the oldest, is `rate_per_s`."""
    return [i / (n - 1) * n / rate_per_s for i in range(n)]


@pytest.mark.parametrize(
    ("rate_per_s", "expected"), [(1.589, 13), (1.587, 10), (1.0, 10), (0.566, 10), (0.564, 9)]
)  # 10 x 1.25 and 10 / 1.15, rounded up
def test_fluid_moves_beyond_1_588_and_below_0_565_of_the_old_average(rate_per_s, expected):
    policy = Fluid(kind="fluid", initial_entries=10, check_every_requests=4, min_requests=4, window_s=10)
    assert sizes(policy, [1] * 4, at_rate(rate_per_s)) == [10, 10, 10, expected]


@pytest.mark.parametrize(("entries", "shrunk"), [(5, 5), (6, 6), (7, 7), (8, 7), (9, 8), (50, 44)])
def test_fluid_never_shrinks_seven_entries_or_fewer(entries, shrunk):
    policy = Fluid(kind="fluid", initial_entries=entries, initial_rate_per_s=100)
    assert sizes(policy, [1] * 15, range(15))[-1] == shrunk


def test_fluid_counts_a_lookup_exactly_one_window_old_and_none_older():
    def grows_with_first_lookup_at(at_s):
        policy = Fluid(kind="fluid", check_every_requests=4, min_requests=4)
        return sizes(policy, [1] * 4, [at_s, 3, 3, 3])[-1] > 5

    assert not grows_with_first_lookup_at(0)  # 4 lookups over 3 s
    assert grows_with_first_lookup_at(-0.001)  # 3 lookups over the shortest window, 1 s


def test_fluid_forgets_that_the_rate_tripled_once_the_window_outlasts_the_average():
    steady = [i / 100 for i in range(3000)]
    tripled = [steady[-1] + i / 300 for i in range(1, 3000)]
    observed = sizes(Fluid(kind="fluid"), [1] * 5999, steady + tripled)
    assert len(set(observed[600:])) == 1


def test_fluid_check_before_the_minimum_of_requests_goes_back_to_the_start():
    policy = Fluid(kind="fluid", initial_entries=10, check_every_requests=1)
    assert sizes(policy, [1] * 5, [0.0, 0.0, 0.0, 0.0, 0.0]) == [10, 10, 10, 10, 13]


def test_fluid_average_has_a_floor():
    policy = Fluid(kind="fluid", initial_entries=10, check_every_requests=4, min_requests=4, min_rate_per_s=2)
    assert sizes(policy, [1] * 4, [0, 1, 2, 4])[-1] == 9  # 1/s equals the old average but is half the floor


@pytest.mark.parametrize(("target", "expected"), [(0.5, 1), (0.6, 1), (0.61, 2), (0.85, 2), (0.9, 2), (0.91, 3)])
def test_frequency_counts_the_keys_that_cover_the_target(target, expected):
    policy = Frequency(kind="frequency", min_entries=1, check_every_requests=10, target_hit_ratio=target)
    assert sizes(policy, "abacabaaba", range(10))[-1] == expected  # 6 a, 3 b, 1 c


def test_frequency_check_before_the_minimum_of_requests_goes_back_to_the_start():
    policy = Frequency(kind="frequency", min_entries=1, check_every_requests=1)
    assert sizes(policy, "a" * 11, range(11)) == [5] * 9 + [1, 1]


@pytest.mark.parametrize(("keys", "expected"), [("bbbb" + "aaaa" + "cccc", 1), ("aaaa" + "bbbb" + "dddd", 2)])
def test_frequency_takes_buckets_of_equal_mean_in_order_of_their_number(keys, expected):
    policy = Frequency(
        kind="frequency", min_entries=1, check_every_requests=12, buckets=2, target_hit_ratio=1 / 3
    )  # codes of b and d are even, those of a and c odd
    assert sizes(policy, keys, range(12))[-1] == expected


def test_frequency_mixes_hot_and_cold_keys_when_buckets_are_few():
    keys = [0] * 90 + list(range(1, 11))
    few, many = (
        Frequency(kind="frequency", min_entries=1, check_every_requests=100, buckets=buckets) for buckets in (1, 200)
    )
    assert (sizes(few, keys, range(100))[-1], sizes(many, keys, range(100))[-1]) == (11, 1)


def covering_entries_written_out(keys, buckets, target):
    members = [[key for key in keys if abs(java_hash(key)) % buckets == bucket] for bucket in range(buckets)]
    hottest = sorted((m for m in members if m), key=lambda m: len(m) / len(set(m)), reverse=True)
    covered = entries = 0
    while covered < math.ceil(len(keys) * target):
        bucket = hottest.pop(0)
        covered += len(bucket)
        entries += len(set(bucket))
    return entries


@given(st.lists(st.text(max_size=3), min_size=1, max_size=100), st.integers(1, 8), st.floats(0.01, 1))
def test_frequency_equals_the_published_rule_written_out(keys, buckets, target):
    policy = Frequency(kind="frequency", buckets=buckets, target_hit_ratio=target)
    for key in keys:
        policy.observe(key, 0.0)
    assert policy.covering_entries() == covering_entries_written_out(keys, buckets, target)


@pytest.mark.parametrize("target", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_frequency_keeps_the_order_of_many_buckets_of_equal_mean(target):
    keys = [str(i) for i in range(120) for _ in range(1 + i % 2)]
    policy = Frequency(kind="frequency", buckets=60, target_hit_ratio=target)
    for key in keys:
        policy.observe(key, 0.0)
    assert policy.covering_entries() == covering_entries_written_out(keys, 60, target)


def test_java_hash_is_javas():
    assert java_hash("") == 0
    assert java_hash("polygenelubricants") == -(2**31)
    assert java_hash("\N{GRINNING FACE}") == 31 * 0xD83D + 0xDE00  # two UTF-16 units
    assert doctest.testmod(frequency).failed == 0


def test_frequency_takes_the_key_whose_hash_has_no_absolute_value():
    policy = Frequency(kind="frequency")
    assert policy.observe("polygenelubricants", 0.0) == 5
    assert policy.covering_entries() == 1


def test_frequency_is_fast_with_many_keys():
    policy = Frequency(kind="frequency")
    keys = [i * 7919 % 20_000 for i in range(60_000)]
    started_s = time.process_time()
    for key in keys:
        policy.observe(key, 0.0)
    assert (time.process_time() - started_s) / len(keys) < 30e-6  # about 1 µs where this was written


@pytest.mark.parametrize(
    ("policy", "keys", "message"),
    [
        (Fluid, {"initial_entries": 60}, r"initial_entries \(60\) must lie between .* and max_entries \(50\)"),
        (Frequency, {"min_entries": 6}, r"initial_entries \(5\) must lie between min_entries \(6\)"),
        (Fluid, {"shrink_below": 1.4}, r"shrink_below \(1.4\) must not exceed expand_above \(1.35\)"),
        (Fluid, {"expand_above": 4}, r"expand_above \(4\) must be below 1 / new_rate_weight \(3.33\)"),
        (Fluid, {"shrink_factor": 0.9}, r"shrink_factor \(0.9\) must be 1 or more"),
    ],
)  # fmt: skip
def test_contradicting_keys_are_refused(policy, keys, message):
    with pytest.raises(ValueError, match=message):
        policy(kind=policy.__name__.lower(), **keys)
