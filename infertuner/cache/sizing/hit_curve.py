"""From reuse times to sizes: how much an LRU tier must hold for a hit ratio (average eviction time, AET)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infertuner.sources.requests import Floats, Ints

WORTH_RATIO = 0.95
"""Share of the attainable hits that is worth having when the aim cannot be reached: there the curve has flattened."""


@dataclass(frozen=True)
class HitCurve:
    """Hit ratio and size of an LRU tier whose entries leave after t requests untouched, for t = 0 .. longest.

    Both are non-decreasing columns of the same length.
    """

    hit_ratio: Floats
    capacity: Floats
    """In the unit of the sizes the curve was made of."""

    @property
    def ceiling(self) -> float:
        """The hit ratio with room for everything seen."""
        return float(self.hit_ratio[-1])

    def capacity_for(self, hit_ratio: float) -> float:
        """The least capacity that reaches `hit_ratio`, or the ceiling where that is lower."""
        first = np.searchsorted(self.hit_ratio, min(hit_ratio, self.ceiling))
        return float(self.capacity[first])

    @property
    def worth_having(self) -> float:
        """The capacity at which the curve has flattened: it brings `WORTH_RATIO` of the attainable hits."""
        return self.capacity_for(WORTH_RATIO * self.ceiling)


def hit_curve(times: Ints, seen: Ints | int, longest: int, sizes: Ints | None = None) -> HitCurve:
    """The curve of requests with reuse times `times`, each of which could look back on `seen` requests; shape (n,).

    A reuse time is the number of requests since the last one for the same key, 1 or more; a time above `seen` says
    only that there was none within `seen`. P(t), the share of reuse times above t, is then Kaplan and Meier's
    product-limit estimate (JASA 53(282), 1958): plainly the share, where all look back on `longest` or more.

    An entry that leaves after T requests untouched hits with 1 - P(T), and there are sum_{t<T} P(t) of them (Hu et
    al., USENIX ATC 2016). In bytes the same holds with each request weighing its size: a sum of weighted shares times
    the mean size. Entries that grow count with the size they have grown to, which is slightly too much.
    """
    reused, known = times <= seen, np.minimum(np.minimum(times, seen), longest + 1)
    requests = weighted = _share_above(known, reused, None, longest)
    size = 1.0
    if sizes is not None and len(sizes):
        weighted, size = _share_above(known, reused, sizes, longest), float(sizes.mean())
    capacity = size * np.concatenate(([0.0], np.cumsum(weighted[:-1])))
    return HitCurve(1.0 - requests, capacity)


def _share_above(known: Ints, reused: NDArray[np.bool_], weights: Ints | None, longest: int) -> Floats:
    """P(t) for t = 0 .. longest."""
    bins = longest + 2
    ends = np.bincount(known, weights, minlength=bins)
    reuses = np.bincount(known[reused], None if weights is None else weights[reused], minlength=bins)
    at_risk = np.cumsum(ends[::-1])[::-1]
    stay = 1.0 - np.divide(reuses, at_risk, out=np.zeros(bins), where=at_risk > 0)
    return np.asarray(np.cumprod(stay)[: longest + 1], dtype=np.float64)
