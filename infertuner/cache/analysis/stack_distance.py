"""Hits of an LRU cache on a trace at every size at once, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infertuner.cache.analysis.inversions import greater_before
from infertuner.cache.analysis.uses import Keys, previous_uses
from infertuner.sources.requests import Ints


def lru_hit_curve(keys: Keys) -> Ints:
    """Hits of an LRU cache of every size c = 0 .. distinct keys, in one pass; shape (distinct + 1,).

    An access hits in c entries exactly if its stack distance is at most c
    (Mattson et al., IBM Systems Journal 9(2), 1970).
    """
    distances = stack_distances(keys)
    return np.cumsum(np.bincount(distances, minlength=len(keys) - len(distances) + 1))


def lru_hits_in_bytes(keys: Keys, sizes: ArrayLike, capacities: ArrayLike) -> Ints:
    """Hits of LRU caches of the given capacities for entries of unequal sizes; shape that of `capacities`.

    `sizes` has the size of its key's entry after each request, shape (n,); see `stack_distances` for when it is exact.
    """
    return np.searchsorted(np.sort(stack_distances(keys, sizes)), capacities, side="right")


def stack_distances(keys: Keys, sizes: ArrayLike | None = None) -> Ints:
    """For each request but the first of its key, the smallest LRU cache in which it hits; shape (n - distinct,).

    Counted in entries, the distinct keys since the key was last asked for, itself included. With `sizes`, their sizes:
    exact if no entry shrinks and none is larger than the cache, since then an entry's depth in the stack only grows
    until it is asked for again.

    With prev(t) the last access of the same key, the window from prev(t) up to t has t - prev(t) accesses, of which
    those used again within it are counted twice: one for each j < t with prev(j) > prev(t). So the distances follow
    from counting inversions.
    """
    previous = previous_uses(keys)
    repeats = np.flatnonzero(previous >= 0)
    previous = previous[repeats]
    used_again = np.zeros(len(keys), dtype=np.bool_)
    used_again[previous] = True
    order = (np.cumsum(used_again) - 1)[previous]
    if sizes is None:
        between, repeated = repeats - previous, greater_before(order)
    else:
        held = np.asarray(sizes, dtype=np.int64)
        before = np.concatenate([[0], np.cumsum(held)])
        between, repeated = before[repeats] - before[previous], greater_before(order, held[previous])
    distances: Ints = between - repeated
    return distances
