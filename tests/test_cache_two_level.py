"""A local tier in front of a shared one: where things are found, and what must always hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.config import TwoLevel
from infertuner.cache.lru import Lru
from infertuner.cache.replay import lru_hits, replay
from infertuner.cache.sizing.fluid import Fluid
from infertuner.cache.sizing.frequency import Frequency
from infertuner.cache.sizing.static import Static
from infertuner.cache.two_level import TwoLevelCache
from infertuner.records import CacheLevel

KEYS = st.lists(st.integers(0, 30), max_size=200)
SIZINGS = st.one_of(
    st.builds(Static, kind=st.just("static"), entries=st.integers(1, 12)),
    st.builds(
        Fluid,
        kind=st.just("fluid"),
        check_every_requests=st.integers(1, 10),
        max_entries=st.integers(5, 12),
    ),
    st.builds(
        Frequency,
        kind=st.just("frequency"),
        check_every_requests=st.integers(1, 10),
        max_entries=st.integers(5, 12),
    ),
)


def two_level(sizing, remote_entries=None):
    return TwoLevel(kind="two_level", sizing=sizing, remote_latency_s=0.05, remote_entries=remote_entries)


def test_a_remote_hit_is_copied_into_the_local_tier():
    cache = TwoLevelCache(Lru(1), Lru())
    cache.insert("a", 10)
    cache.insert("b", 20)
    assert cache.lookup("a") == (CacheLevel.REMOTE, 10)
    assert cache.lookup("a") == (CacheLevel.LOCAL, 10)
    assert cache.lookup("b") == (CacheLevel.REMOTE, 20)
    assert cache.lookup("c") == (CacheLevel.MISS, 0)
    assert (cache.local_hits, cache.remote_hits, cache.misses) == (1, 2, 1)


def test_another_gpu_finds_in_the_remote_tier_what_the_first_inserted():
    remote = Lru()
    first, second = TwoLevelCache(Lru(5), remote), TwoLevelCache(Lru(5), remote)
    first.insert("a", 10)
    assert second.lookup("a") == (CacheLevel.REMOTE, 10)
    assert first.lookup("a") == (CacheLevel.LOCAL, 10)
    assert (first.remote_hits, second.remote_hits) == (0, 1)
    assert (first.misses, second.misses) == (0, 0)


def test_shrinking_sends_lookups_to_the_remote_tier():
    cache = TwoLevelCache(Lru(3), Lru())
    for key in "abc":
        cache.insert(key, 1)
    cache.resize_local(1)
    assert [cache.lookup(key)[0] for key in "cb"] == [CacheLevel.LOCAL, CacheLevel.REMOTE]
    assert len(cache.local) == 1


@given(
    st.integers(1, 5),
    st.one_of(st.none(), st.integers(1, 8)),
    st.lists(
        st.one_of(
            st.tuples(st.just("lookup"), st.integers(0, 9)),
            st.tuples(st.just("insert"), st.integers(0, 9)),
            st.tuples(st.just("resize_local"), st.integers(1, 6)),
        ),
        max_size=80,
    ),
)
def test_lookups_add_up_and_capacity_is_never_exceeded(local_entries, remote_entries, operations):
    cache = TwoLevelCache(Lru(local_entries), Lru(remote_entries))
    lookups = 0
    for operation, value in operations:
        if operation == "insert":
            cache.insert(value, 1)
        elif operation == "resize_local":
            cache.resize_local(value)
            local_entries = value
        else:
            cache.lookup(value)
            lookups += 1
        assert len(cache.local) <= local_entries
        assert remote_entries is None or len(cache.remote) <= remote_entries
    assert cache.local_hits + cache.remote_hits + cache.misses == lookups
    assert min(cache.local_hits, cache.remote_hits, cache.misses) >= 0


@given(KEYS, SIZINGS)
def test_with_an_unbounded_remote_tier_only_first_lookups_miss(keys, sizing):
    result = replay(keys, range(len(keys)), two_level(sizing))
    assert result.misses == len(set(keys))
    assert result.local_hits + result.remote_hits + result.misses == len(keys)


@given(KEYS, SIZINGS, st.integers(12, 20))
def test_with_a_finite_remote_tier_sizing_moves_hits_between_the_tiers_and_makes_none(keys, sizing, remote_entries):
    result = replay(keys, range(len(keys)), two_level(sizing, remote_entries))
    assert result.local_hits + result.remote_hits == lru_hits(keys, remote_entries)


@given(KEYS, st.integers(1, 12))
def test_the_local_hits_of_a_static_size_are_those_of_one_lru(keys, entries):
    result = replay(keys, range(len(keys)), two_level(Static(kind="static", entries=entries)))
    assert result.local_hits == lru_hits(keys, entries)
    assert (result.local_entries == entries).all()


def test_a_replay_leaves_the_configured_policy_untouched():
    config = two_level(Frequency(kind="frequency", min_entries=1))
    keys = ["a", "b", "a", "c", "a"] * 20
    first, second = (replay(keys, range(len(keys)), config) for _ in range(2))
    assert first.local_entries.tolist() == second.local_entries.tolist()
    assert first.local_entries[-1] == 3
