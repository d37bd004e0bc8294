"""Exact hit ratios under independent requests where there are few keys: the oracles of Che's approximation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from infertuner.cache.analysis.che import asked_for, characteristic_time
from infertuner.cache.analysis.ttl import ttl_hit_ratios

MOST_SETS = 10**6
"""Sets of keys King's formula may go through; more would take minutes."""


def king_hit_ratio(popularity: ArrayLike, entries: int) -> float:
    """Hit ratio of an LRU cache under independent requests (King, Proc. IFIP Congress 1971).

    The cache holds the last `entries` distinct keys. Looking back, keys are drawn without replacement, so a set is
    met by way of each of its members coming last: P(S) = sum_{i in S} P(S - i) p_i / (1 - p(S - i)).
    """
    p, _ = asked_for(popularity, None)
    if entries >= len(p):
        return 1.0
    if (sets := math.comb(len(p), min(entries, len(p) // 2))) > MOST_SETS:
        raise ValueError(
            f"up to {entries} of {len(p)} keys: {sets} sets of a size, above {MOST_SETS}; use che_hit_ratio"
        )
    chance = {0: (1.0, 0.0)}  # sets of keys as bits: how likely it is, and the popularity of its keys together
    for _ in range(entries):
        longer: dict[int, tuple[float, float]] = {}
        for held, (likely, popular) in chance.items():
            for i, p_i in enumerate(p.tolist()):
                if not held >> i & 1:
                    before, _ = longer.get(held | 1 << i, (0.0, 0.0))
                    longer[held | 1 << i] = (before + likely * p_i / (1 - popular), popular + p_i)
        chance = longer
    return math.fsum(likely * popular for likely, popular in chance.values())


def gelenbe_hit_ratio(popularity: ArrayLike, entries: int) -> float:
    """Hit ratio of a FIFO or RANDOM cache under independent requests (Gelenbe, IEEE Trans. Computers C-22(6), 1973).

    sum_i p_i^2 e_{C-1}(p without p_i) / e_C(p), with e the elementary symmetric polynomials; O(keys^2 entries).
    With x_i = p_i t / (1 + p_i t), e_k(p) t^k is proportional to the chance that k of independent events of chances
    x_i happen, for any t. At that of `che_fifo_hit_ratio` as many as there are entries are to be expected, so no chance
    overflows or vanishes.
    """
    p, one_each = asked_for(popularity, None)
    if entries >= len(p):
        return 1.0
    if entries == 0:
        return 0.0
    x = ttl_hit_ratios(p, characteristic_time(p, one_each, entries, reset=False), reset=False)
    without = np.zeros((len(p), entries + 1))  # row i: the chance of k events among all but the i-th, k = 0 .. entries
    without[:, 0] = 1.0
    for j, x_j in enumerate(x.tolist()):
        kept = without[j].copy()
        without[:, 1:] = without[:, 1:] * (1 - x_j) + without[:, :-1] * x_j
        without[:, 0] *= 1 - x_j
        without[j] = kept
    all_keys = without[0, entries] * (1 - x[0]) + without[0, entries - 1] * x[0]
    return float(p @ (x * without[:, entries - 1])) / float(all_keys)
