"""The most that any cache can hit when requests are independent and only the popularities can be known."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infertuner.sources.requests import Floats


def static_optimum(popularity: ArrayLike, entries: int) -> float:
    """Hit ratio of a cache that holds the most popular keys for ever: the sum of the `entries` largest popularities.

    No policy that does not know the future has more under independent requests. LFU tends to it if it may refuse.
    """
    return float(_descending(popularity)[:entries].sum())


def a0_hit_ratio(popularity: ArrayLike, entries: int) -> float:
    """The most where every key asked for must be let in (policy A0 of Aho, Denning and Ullman, JACM 18(1), 1971).

    All but one of the entries hold the most popular keys; the last holds whichever other key was asked for last.
    """
    p = _descending(popularity)
    if entries >= np.count_nonzero(p):
        return 1.0
    if entries == 0:
        return 0.0
    others = p[entries - 1 :]
    return float(p[: entries - 1].sum() + others @ others / others.sum())


def _descending(popularity: ArrayLike) -> Floats:
    weights: Floats = np.sort(np.asarray(popularity, dtype=np.float64))[::-1]
    return weights / float(weights.sum())
