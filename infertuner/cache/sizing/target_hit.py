"""Feedback: grow while the tier hits less than wanted, shrink while it hits more."""

from __future__ import annotations

import math
from typing import Literal

from infertuner.cache.sizing.controller import Proposal
from infertuner.cache.sizing.hit_curve import HitCurve
from infertuner.cache.sizing.reuse_times import ReuseTimes
from infertuner.parts import Count, Positive, Ratio, part
from infertuner.sources.requests import Key


@part
class TargetHit:
    """Multiply the size by exp(gain (target - hit ratio since the last step)): d-TTL with a size in place of a TTL.

    It measures what the tier does, so it holds its target with any eviction policy and under any load that changes
    more slowly than the tier fills (Basu et al., IEEE/ACM ToN 26(3), 2018, prove convergence for TTLs). It knows no
    curve: how fast it gets there depends on the gain, and whether it can get there at all is judged by reuse times.
    """

    kind: Literal["target_hit"]
    """Steer by the measured hit ratio."""
    target_hit_ratio: Ratio = 0.7
    """Share of the tier's requests that should hit."""
    gain: Positive = 3.0
    """How strongly a step answers to an error: 3 grows by 3 % for each point of hit ratio that is missing."""
    min_requests: Count = 1000
    """Requests between two steps at least, so that chance does not steer."""
    window_requests: Count = 200_000
    """Requests on which the judgement whether the target can be reached looks back."""

    def __post_init__(self) -> None:
        self._reuse = ReuseTimes(self.window_requests)
        self._requests = 0
        self._hits = 0
        self._wish: Proposal | None = None

    def observe(self, key: Key, size: int, hit: bool, now_s: float) -> None:
        """Count the request and its hit."""
        self._requests += 1
        self._hits += hit
        self._reuse.observe(key, size)

    def propose(self, now_s: float, capacity: int) -> Proposal:
        """One step from the size wanted so far, so that small errors add up beneath the hysteresis.

        A wish that bounds have kept from coming true is not carried further than a factor of 2 from the capacity.
        """
        wish = self._wish or Proposal(capacity, feasible=True)
        if self._requests < self.min_requests:
            return wish
        error = self.target_hit_ratio - self._hits / self._requests
        self._requests = self._hits = 0
        curve = self._reuse.curve()
        if error > 0 and (curve is None or curve.ceiling < self.target_hit_ratio):
            self._wish = self._without_growth(curve, capacity)
        else:
            within_reach = min(max(wish.capacity, capacity / 2), capacity * 2)
            self._wish = Proposal(within_reach * math.exp(self.gain * error), feasible=True)
        return self._wish

    def _without_growth(self, curve: HitCurve | None, capacity: int) -> Proposal:
        """Nothing seen so far can give the hits that are missing: stay, or give a verdict once enough was seen."""
        if curve is None or not self._reuse.settled:
            return Proposal(capacity, feasible=True)
        return Proposal(curve.worth_having, feasible=False)
