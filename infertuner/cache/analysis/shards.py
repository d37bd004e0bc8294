"""LRU's hit ratio at every size from a sample of the keys."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infertuner.cache.analysis.stack_distance import lru_hit_curve
from infertuner.cache.analysis.uses import Keys, numbered
from infertuner.sources.requests import Floats, Ints


def shards_hit_curve(keys: Keys, rate: float, *, adjusted: bool = True, seed: int = 0) -> Floats:
    """Estimated hit ratio of an LRU cache of every size c = 0, 1, ...; beyond the end it stays at the last.

    Spatially hashed sampling (Waldspurger et al., USENIX FAST 2015): all requests for a share `rate` of the keys,
    chosen by a seeded hash, see a cache of c x rate entries as all requests see one of c. `adjusted` corrects for a
    sample that has more or fewer requests than its share by counting the difference as hits at distance 1 (SHARDS-adj).
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate is {rate}; give the share of keys to sample, above 0 and at most 1")
    numbers = numbered(keys)
    sample = numbers[splitmix64(numbers, seed) < rate * 2.0**64]
    hits = lru_hit_curve(sample)
    entries = np.arange(int(np.ceil((len(hits) - 1) / rate)) + 1)
    sampled = np.floor((entries * rate).round(9)).astype(np.int64)  # 100 x 0.29 is 29 and not a little less
    held = hits[np.minimum(sampled, len(hits) - 1)]
    requests = len(keys) * rate if adjusted else len(sample)
    correction = np.where(entries > 0, requests - len(sample), 0)
    curve: Floats = np.clip((held + correction) / max(requests, 1), 0, 1)
    return curve


def splitmix64(numbers: Ints, seed: int) -> NDArray[np.uint64]:
    """A hash of each number, uniform over 64 bits (Steele, Lea and Flood, OOPSLA 2014)."""
    z = numbers.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
