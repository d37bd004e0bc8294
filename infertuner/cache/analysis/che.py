"""Hit ratios from popularities alone: Che's approximation, which takes a full cache for one with a lifetime."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from infertuner.cache.analysis.ttl import ttl_hit_ratios
from infertuner.sources.requests import Floats


def che_hit_ratio(
    popularity: ArrayLike, capacity: float, requests: int | None = None, *, sizes: ArrayLike | None = None
) -> float:
    """Hit ratio of an LRU cache under independent requests with the given popularities, which need not sum to 1.

    Che's approximation (Che et al., IEEE JSAC 20(7), 2002): an entry not asked for during the next T requests
    is evicted, where T solves sum_i 1 - exp(-p_i T) = capacity; key i hits with h_i = 1 - exp(-p_i T).
    With `sizes`, one for each popularity, the sum is of s_i (1 - exp(-p_i T)) and the capacity in their unit.

    With `requests` the mean over a run of that length from an empty cache, that is h_i at min(k, T) averaged over
    k from 0 to `requests`: while the cache fills, each distinct key misses once; then misses are steady.
    """
    p, s = asked_for(popularity, sizes)
    lifetime = characteristic_time(p, s, capacity)
    steady_miss_ratio = float(p @ np.exp(-p * lifetime))
    if requests is None:
        return 1.0 - steady_miss_ratio
    filling = min(requests, lifetime)
    misses = float(ttl_hit_ratios(p, filling).sum()) + (requests - filling) * steady_miss_ratio
    return 1.0 - misses / requests


def che_fifo_hit_ratio(popularity: ArrayLike, capacity: float, *, sizes: ArrayLike | None = None) -> float:
    """Hit ratio of a FIFO or RANDOM cache under independent requests (Martina et al., IEEE INFOCOM 2014).

    As Che's, but a hit does not prolong a stay: h_i = p_i T / (1 + p_i T), where T solves sum_i s_i h_i = capacity.
    """
    p, s = asked_for(popularity, sizes)
    lifetime = characteristic_time(p, s, capacity, reset=False)
    return 1.0 if math.isinf(lifetime) else float(p @ ttl_hit_ratios(p, lifetime, reset=False))


def che_capacity(popularity: ArrayLike, hit_ratio: float, *, sizes: ArrayLike | None = None) -> float:
    """The capacity at which `che_hit_ratio` is `hit_ratio`, 0 to 1: Che's formula read backwards."""
    if not 0 <= hit_ratio <= 1:
        raise ValueError(f"hit_ratio is {hit_ratio}; no cache is outside 0 to 1")
    p, s = asked_for(popularity, sizes)
    lifetime = characteristic_time(p, p, hit_ratio)
    return float(s.sum()) if math.isinf(lifetime) else float(s @ ttl_hit_ratios(p, lifetime))


def asked_for(popularity: ArrayLike, sizes: ArrayLike | None) -> tuple[Floats, Floats]:
    """Popularities that sum to 1 and sizes, both of the keys that are ever asked for."""
    weights = np.asarray(popularity, dtype=np.float64)
    s = np.ones_like(weights) if sizes is None else np.asarray(sizes, dtype=np.float64)
    return weights[weights > 0] / weights.sum(), s[weights > 0]


def characteristic_time(p: Floats, sizes: Floats, capacity: float, *, reset: bool = True) -> float:
    """Requests an entry survives: the root T of sum_i s_i h_i(T) = capacity, infinite if all fit.

    The sum is concave and increasing, so Newton's steps from T = 0 climb to the root from below.
    """
    if capacity >= sizes.sum():
        return math.inf
    lifetime = 0.0
    while True:
        held = ttl_hit_ratios(p, lifetime, reset=reset)
        leaving = p * (1 - held) if reset else p * (1 - held) ** 2
        step = (capacity - float(sizes @ held)) / float(sizes @ leaving)
        lifetime += step
        if step <= 1e-9 * lifetime:
            return lifetime
