"""Hit ratios of entries that leave after a time, whatever else is held."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infertuner.sources.requests import Floats


def ttl_hit_ratios(rates_per_s: ArrayLike, ttl_s: ArrayLike, *, reset: bool = True) -> Floats:
    """Hit ratio of each key, asked for at random instants at its rate and kept for `ttl_s`; shape that of the rates.

    With `reset` a hit starts the time again and an entry is there if it was asked for within the last `ttl_s`:
    1 - exp(-rate ttl). Without, the time runs from the miss that brought it: rate ttl / (1 + rate ttl).
    Poisson arrivals see time averages, so this is also the share of time during which the entry is held.
    """
    expected = np.asarray(rates_per_s, dtype=np.float64) * np.asarray(ttl_s, dtype=np.float64)
    return -np.expm1(-expected) if reset else expected / (1 + expected)
