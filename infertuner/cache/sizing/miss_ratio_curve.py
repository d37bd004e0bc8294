"""The size at which an LRU tier hits as often as wanted, read from its miss-ratio curve."""

from __future__ import annotations

from typing import Literal

from infertuner.cache.sizing.controller import Proposal
from infertuner.cache.sizing.reuse_times import ReuseTimes
from infertuner.parts import Count, Ratio, part
from infertuner.sources.requests import Key


@part
class MissRatioCurve:
    """Estimate the whole LRU curve online from reuse times (AET) and size for the target.

    It assumes nothing about popularities, so it works on real traces and follows churn within a window. It is a curve
    of LRU: with a better eviction policy the tier hits more than the target. The target is infeasible when keys come
    back too seldom within the window; the capacity is then where the curve has flattened.
    """

    kind: Literal["miss_ratio_curve"]
    """Read the size from an online miss-ratio curve."""
    target_hit_ratio: Ratio = 0.7
    """Share of the tier's requests that should hit."""
    window_requests: Count = 200_000
    """Requests the estimate looks back on; a few times as many as an entry lives for in the tier."""

    def __post_init__(self) -> None:
        self._reuse = ReuseTimes(self.window_requests)

    def observe(self, key: Key, size: int, hit: bool, now_s: float) -> None:
        """Note the request's reuse time."""
        self._reuse.observe(key, size)

    def propose(self, now_s: float, capacity: int) -> Proposal:
        """The least capacity that reaches the target."""
        return self._reuse.propose(self.target_hit_ratio, capacity)
