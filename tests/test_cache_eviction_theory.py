"""Eviction policies: what theory says of some of them."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.eviction_cases import hits

BELADYS_STRING = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]


def best_with_forced_insertion(requests, entries):
    """Most hits of any policy that lets every missed key in, by trying all."""

    @cache
    def best(at, held):
        if at == len(requests):
            return 0
        key = requests[at]
        if key in held:
            return 1 + best(at + 1, held)
        if len(held) < entries:
            return best(at + 1, held | {key})
        return max(best(at + 1, held - {leaver} | {key}) for leaver in held)

    return best(0, frozenset())


@given(requests=st.lists(st.integers(0, 5), max_size=25), entries=st.integers(1, 4))
def test_belady_is_the_best_of_all_choices(requests, entries):
    assert hits("belady", entries, requests) == best_with_forced_insertion(tuple(requests), entries)


def test_beladys_anomaly():
    assert hits("fifo", 3, BELADYS_STRING) == 3
    assert hits("fifo", 4, BELADYS_STRING) == 2
    assert hits("belady", 3, BELADYS_STRING) == 5
    assert hits("belady", 4, BELADYS_STRING) == 6


def exact_hit_ratio(name, popularity, entries):
    """Under independent requests: LRU by King (1971), FIFO and random by Gelenbe (1973)."""
    keys = range(len(popularity))
    if name == "lru":
        ratio = 0.0
        for order in permutations(keys, entries):
            chance, rest = 1.0, 1.0
            for key in order:
                chance *= popularity[key] / rest
                rest -= popularity[key]
            ratio += chance * (1.0 - rest)
        return ratio
    chances = {cache: math.prod(popularity[key] for key in cache) for cache in combinations(keys, entries)}
    return sum(w * sum(popularity[key] for key in cache) for cache, w in chances.items()) / sum(chances.values())


@pytest.mark.parametrize("name", ["lru", "fifo", "random"])
def test_hit_ratios_of_independent_requests_are_exact(name):
    popularity = 1.0 / np.arange(1, 8)
    popularity /= popularity.sum()
    n = 60_000
    requests = np.random.default_rng(3).choice(7, size=n, p=popularity).tolist()
    ratio = exact_hit_ratio(name, popularity, 2)
    # successive requests find nearly the same cache: twice the deviation of independent hits, times three
    assert hits(name, 2, requests) / n == pytest.approx(ratio, abs=6 * math.sqrt(ratio * (1 - ratio) / n))
