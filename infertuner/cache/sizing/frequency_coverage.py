"""FREQUENCY repaired: room for the hottest keys, counted exactly and over a window."""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np

from infertuner.cache.sizing.controller import Proposal
from infertuner.cache.sizing.hit_curve import WORTH_RATIO
from infertuner.parts import Count, Ratio, part
from infertuner.sources.requests import Key


@part
class FrequencyCoverage:
    """Hold the fewest keys, or bytes, whose requests within the window make up the target share of all.

    Against the published rule: every key has its own count, so nothing depends on how keys are spelled or how many
    there are; counts leave with the window; and requests for keys seen only once do not count as coverable, since no
    cache can hit what does not come back. Their share estimates what any cache must miss next (Good, Biometrika 40,
    1953), so a target above 1 minus that share is infeasible.

    This is the size at which an ideal frequency cache (LFU) reaches the target, and a lower bound for every other
    policy: an LRU tier of that size hits less, by 10 points and more on Zipf popularities. Size LRU tiers by
    `miss_ratio_curve`.
    """

    kind: Literal["frequency_coverage"]
    """Hold the hottest keys."""
    target_hit_ratio: Ratio = 0.7
    """Share of all requests that the chosen keys should cover."""
    window_requests: Count = 200_000
    """Requests over which keys are counted."""

    def __post_init__(self) -> None:
        self._recent: deque[Key] = deque()
        self._counts: dict[Key, int] = {}
        self._sizes: dict[Key, int] = {}

    def observe(self, key: Key, size: int, hit: bool, now_s: float) -> None:
        """Count the request, and forget the one that leaves the window."""
        self._counts[key] = self._counts.get(key, 0) + 1
        self._sizes[key] = size
        self._recent.append(key)
        if len(self._recent) > self.window_requests:
            self._forget(self._recent.popleft())

    def _forget(self, key: Key) -> None:
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key], self._sizes[key]

    def propose(self, now_s: float, capacity: int) -> Proposal:
        """The least that covers the target, or while the window fills the present capacity if nothing does."""
        counts = np.fromiter(self._counts.values(), np.int64, len(self._counts))
        sizes = np.fromiter(self._sizes.values(), np.int64, len(counts))  # keys come and go together in both
        again = counts > 1
        counts, sizes = counts[again], sizes[again]
        hottest = np.lexsort((-counts, sizes / counts))
        covered, held = np.cumsum(counts[hottest]), np.cumsum(sizes[hottest])
        attainable, wanted = int(counts.sum()), self.target_hit_ratio * len(self._recent)
        if wanted <= attainable and attainable:
            return Proposal(float(held[np.searchsorted(covered, wanted)]), feasible=True)
        if len(self._recent) < self.window_requests:
            return Proposal(capacity, feasible=True)
        worth = np.searchsorted(covered, WORTH_RATIO * attainable)
        return Proposal(float(held[worth]) if attainable else 0.0, feasible=False)
