"""Bounds on every policy, against brute force and against the policies themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.analysis import belady_hits, compulsory_ceiling, good_turing_ceiling, lru_hit_curve, next_uses
from infertuner.cache.eviction.kinds import policy_of

ONLINE = ["lru", "fifo", "lfu", "sieve", "s3fifo", "arc", "wtinylfu", "random"]


def best_hits(keys, entries, *, may_refuse=False):
    """The most hits any choice of victims can have, by trying all of them."""
    hits_with = {frozenset(): 0}
    for key in keys:
        following: dict[frozenset, int] = {}
        for held, hits in hits_with.items():
            if key in held:
                choices = [held]
            elif len(held) < entries:
                choices = [held | {key}]
            else:
                choices = [held - {victim} | {key} for victim in held] + [held] * may_refuse
            for choice in choices:
                following[choice] = max(following.get(choice, 0), hits + (key in held))
        hits_with = following
    return max(hits_with.values())


@given(st.lists(st.integers(0, 6), max_size=25), st.integers(1, 4))
def test_belady_is_the_best_of_all_choices(keys, entries):
    assert belady_hits(keys, entries) == best_hits(keys, entries)


@given(st.lists(st.integers(0, 6), max_size=25), st.integers(1, 4))
def test_belady_that_may_refuse_is_the_best_of_still_more_choices(keys, entries):
    assert belady_hits(keys, entries, may_refuse=True) == best_hits(keys, entries, may_refuse=True)


@pytest.mark.parametrize("name", ONLINE)
@given(st.lists(st.integers(0, 20), max_size=150), st.integers(1, 15))
def test_no_policy_beats_belady_nor_belady_the_ceiling(name, keys, entries):
    policy = policy_of(name, entries)
    hits = sum(policy.access(key, 1) for key in keys)
    assert hits <= belady_hits(keys, entries) <= len(keys) - len(set(keys))


@given(st.lists(st.integers(0, 20), max_size=150), st.integers(1, 15))
def test_the_policy_that_knows_the_future_hits_as_often(keys, entries):
    policy = policy_of("belady", entries, next_use=next_uses(keys).tolist())
    assert sum(policy.access(key, 1) for key in keys) == belady_hits(keys, entries)


@given(st.lists(st.integers(0, 20), max_size=150))
def test_belady_grows_with_the_cache_up_to_the_ceiling(keys):
    hits = [belady_hits(keys, entries) for entries in range(22)]
    assert hits[0] == 0
    assert hits == sorted(hits)
    assert hits[-1] == len(keys) - len(set(keys)) == lru_hit_curve(keys)[-1]
    assert [belady_hits([f"k{key}" for key in keys], entries) for entries in range(22)] == hits


def test_ceilings():
    keys = ["a", "b", "a", "c", "a"]
    assert compulsory_ceiling(keys) == pytest.approx(2 / 5)
    assert good_turing_ceiling(keys) == pytest.approx(3 / 5)
    assert np.isnan(compulsory_ceiling([]))
    assert np.isnan(good_turing_ceiling([]))


def test_good_turing_foretells_how_much_of_what_follows_is_known():
    popularity = np.arange(1, 50_001) ** -0.9
    keys = np.random.default_rng(3).choice(50_000, 60_000, p=popularity / popularity.sum())
    known = np.isin(keys[30_000:], keys[:30_000])
    unseen = 1 - popularity[np.isin(np.arange(50_000), keys[:30_000])].sum() / popularity.sum()
    assert good_turing_ceiling(keys[:30_000]) == pytest.approx(1 - unseen, abs=0.01)
    assert good_turing_ceiling(keys[:30_000]) == pytest.approx(known.mean(), abs=0.015)


def test_belady_and_the_ceiling_of_the_conversation_trace(shared_data):
    with (shared_data / "traces" / "mooncake_conversation_trace.jsonl").open(encoding="utf-8") as rows:
        keys = np.array([block for row in rows for block in json.loads(row)["hash_ids"]])
    hits = [round(belady_hits(keys, entries) / len(keys), 4) for entries in (1000, 5000, 10_000, 50_000)]
    assert hits == [0.1906, 0.3412, 0.3664, 0.3664]
    assert round(compulsory_ceiling(keys), 4) == 0.3664
