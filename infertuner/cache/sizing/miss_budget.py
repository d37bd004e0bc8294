"""The size at which misses come no faster than what is behind the tier can take."""

from __future__ import annotations

from typing import Literal

from infertuner.cache.sizing.controller import Proposal
from infertuner.cache.sizing.rates import SlowRate, Ticks
from infertuner.cache.sizing.reuse_times import ReuseTimes
from infertuner.parts import Count, PerSecond, Positive, part
from infertuner.sources.requests import Key


@part
class MissBudget:
    """Keep misses per second within a budget: at request rate r the hit ratio must be 1 - budget / r.

    Here the request rate rightly matters: the same hit ratio means more misses by day than at night. The size follows
    from the online LRU curve, as FaasCache sizes a keep-alive cache (Fuerst and Sharma, ASPLOS 2021). At rates below
    the budget nothing need be held. The budget is infeasible when even a tier with room for everything seen would
    miss more often; the capacity is then where the curve has flattened.
    """

    kind: Literal["miss_budget"]
    """Keep misses per second within a budget."""
    misses_per_s: PerSecond
    """What may miss: the prefills the GPUs can do, or the reads the next tier can serve."""
    window_requests: Count = 200_000
    """Requests the curve looks back on; a few times as many as an entry lives for in the tier."""
    memory_windows: Positive = 3.0
    """Time constant of the request rate, in ticks."""

    def __post_init__(self) -> None:
        self._reuse = ReuseTimes(self.window_requests)
        self._ticks = Ticks()
        self._rate = SlowRate(self.memory_windows)

    def observe(self, key: Key, size: int, hit: bool, now_s: float) -> None:
        """Note the request's reuse time, and count it into the rate."""
        self._ticks.count(now_s)
        self._reuse.observe(key, size)

    def propose(self, now_s: float, capacity: int) -> Proposal:
        """The least capacity that keeps the budget at the present rate."""
        requests, seconds = self._ticks.take(now_s)
        if seconds:
            self._rate.add(requests, seconds)
        if not self._rate.per_s > 0:
            return Proposal(capacity, feasible=True)
        return self._reuse.propose(max(0.0, 1.0 - self.misses_per_s / self._rate.per_s), capacity)
