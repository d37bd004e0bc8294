"""FLUID repaired: follow the request rate, compared with what it used to be."""

from __future__ import annotations

import math
from typing import Literal

from infertuner.cache.sizing.controller import Proposal
from infertuner.cache.sizing.rates import SlowRate, Ticks
from infertuner.parts import Positive, part
from infertuner.sources.requests import Key


@part
class RateBand:
    """Grow when a window's rate leaves a band around the slow average of the windows before it, and shrink likewise.

    A window is the time between two ticks. Against the published rule: the average does not contain the rate it is
    compared with and is slow; band and step are symmetric, so that noise has no direction; and a window that differs
    from the average by less than three standard deviations of a Poisson count says nothing.

    What cannot be repaired: the hit ratio of an LRU tier does not depend on the request rate at all (Che et al., IEEE
    JSAC 20(7), 2002). A tier that follows the rate pays for hits it does not get by day and loses them at night. After
    a lasting step it takes a step of its own at every tick until the average has come after, which is an arbitrary
    size. Where the rate matters, because misses per second load something, use `miss_budget`.
    """

    kind: Literal["rate_band"]
    """Follow the request rate, repaired."""
    band_ratio: Positive = 1.35
    """Grow above this multiple of the average rate, shrink below its inverse; above 1."""
    step_ratio: Positive = 1.25
    """Growing multiplies the capacity by this, shrinking divides by it; above 1."""
    memory_windows: Positive = 10.0
    """Time constant of the average in windows, 10 or more: an average as fast as the rate follows it."""

    def __post_init__(self) -> None:
        for key, least in (("band_ratio", 1), ("step_ratio", 1), ("memory_windows", 10)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} ({getattr(self, key)}) must be {least} or more")
        self._ticks = Ticks()
        self._slow = SlowRate(self.memory_windows)

    def observe(self, key: Key, size: int, hit: bool, now_s: float) -> None:
        """Count the request; which key it asks for does not matter to this controller."""
        self._ticks.count(now_s)

    def propose(self, now_s: float, capacity: int) -> Proposal:
        """One step up, one step down or the present capacity. There is no aim that could be out of reach."""
        requests, seconds = self._ticks.take(now_s)
        if not seconds:
            return Proposal(capacity, feasible=True)
        expected = self._slow.per_s * seconds
        self._slow.add(requests, seconds)
        if abs(requests - expected) > 3 * math.sqrt(expected):
            if requests > self.band_ratio * expected:
                return Proposal(capacity * self.step_ratio, feasible=True)
            if requests * self.band_ratio < expected:
                return Proposal(capacity / self.step_ratio, feasible=True)
        return Proposal(capacity, feasible=True)
