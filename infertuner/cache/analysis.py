"""What theory says of an LRU cache: its hits on a trace at every size at once, and Che's formula for popularities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from infertuner.sources.requests import Floats, Ints, Key


def lru_hit_curve(keys: Sequence[Key]) -> Ints:
    """Hits of an LRU cache of every size c = 0 .. distinct keys, in one pass; shape (distinct + 1,).

    An access hits in c entries exactly if its stack distance, the number of distinct keys since the key was last
    accessed, itself included, is at most c (Mattson et al., IBM Systems Journal 9(2), 1970).
    With prev(t) the last access of the same key, the window after prev(t) up to t has t - prev(t) accesses, and each
    j < t with prev(j) > prev(t) is a repeat within it. So the distances follow from counting inversions.
    """
    previous = _previous_accesses(keys)
    repeats = np.flatnonzero(previous >= 0)
    by_previous = repeats[np.argsort(previous[repeats])]
    rank = np.empty(len(keys), dtype=np.int64)
    rank[by_previous] = np.arange(len(repeats))
    distance = by_previous - previous[by_previous] - _greater_before(rank[repeats])
    return np.cumsum(np.bincount(distance, minlength=len(keys) - len(repeats) + 1))


def che_hit_ratio(popularity: ArrayLike, entries: int, requests: int | None = None) -> float:
    """Hit ratio of an LRU cache under independent requests with the given popularities, which need not sum to 1.

    Che's approximation (Che et al., IEEE JSAC 20(7), 2002): an entry not asked for during the next T requests
    is evicted, where T solves sum_i 1 - exp(-p_i T) = entries; key i hits with h_i = 1 - exp(-p_i T).

    With `requests` the mean over a run of that length from an empty cache, that is h_i at min(k, T) averaged over
    k from 0 to `requests`: while the cache fills, each distinct key misses once; then misses are steady.
    """
    weights = np.asarray(popularity, dtype=np.float64)
    p = weights[weights > 0] / weights.sum()
    lifetime = _che_lifetime(p, entries)
    steady_miss_ratio = float(p @ np.exp(-p * lifetime))
    if requests is None:
        return 1.0 - steady_miss_ratio
    filling = min(requests, lifetime)
    misses = float(-np.expm1(-p * filling).sum()) + (requests - filling) * steady_miss_ratio
    return 1.0 - misses / requests


def _che_lifetime(p: Floats, entries: int) -> float:
    """Requests an entry survives untouched: the root T of sum_i 1 - exp(-p_i T) = entries.

    The sum is concave, increasing and at most T, so Newton's steps from T = entries climb to the root from below.
    """
    if entries >= len(p):
        return math.inf
    lifetime = float(entries)
    while True:
        stays = np.exp(-p * lifetime)
        step = (entries - len(p) + float(stays.sum())) / float(p @ stays)
        lifetime += step
        if step <= 1e-9 * lifetime:
            return lifetime


def _previous_accesses(keys: Sequence[Key]) -> Ints:
    """For each access the index of the last one of the same key, -1 for a first access."""
    last: dict[Key, int] = {}
    previous = np.empty(len(keys), dtype=np.int64)
    for t, key in enumerate(keys):
        previous[t] = last.get(key, -1)
        last[key] = t
    return previous


def _greater_before(permutation: Ints) -> Ints:
    """How many greater values precede each value of a permutation of 0 .. n-1, indexed by value.

    Sorts by one bit after the other, highest first. Two values part at the highest bit in which they differ, so each
    zero then counts the ones that precede it in its block of equal higher bits. O(n log n), no loop over elements.
    """
    values, counts = permutation, np.zeros_like(permutation)
    for bit in reversed(range(len(values).bit_length())):
        is_one = (values >> bit) & 1
        ones_before = np.cumsum(is_one) - is_one
        block = values >> (bit + 1) << (bit + 1)
        ones_in_block = ones_before - ones_before[block]
        counts += np.where(is_one, 0, ones_in_block)
        places = np.where(is_one, block + (1 << bit) + ones_in_block, np.arange(len(values)) - ones_in_block)
        values, counts = _placed(values, places), _placed(counts, places)
    return counts


def _placed(column: Ints, places: Ints) -> Ints:
    """`column` with each element moved to its place."""
    moved = np.empty_like(column)
    moved[places] = column
    return moved
