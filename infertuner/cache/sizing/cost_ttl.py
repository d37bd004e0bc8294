"""How long an entry is worth keeping: a lifetime steered by what misses and memory cost."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from infertuner.cache.sizing.controller import Proposal
from infertuner.parts import NonNegative, Positive, PositiveSeconds, part
from infertuner.sources.requests import Floats, Ints, Key


@dataclass(slots=True)
class _Watch:
    """One key for one lifetime after a miss."""

    key: Key
    size: int
    ttl_s: float
    until_s: float
    requests: int = 0


@part
class CostTtl:
    """Find the lifetime T at which keeping entries costs least, and size for what was requested within the last T.

    With request rates r, a miss costing m and keeping an entry costing c a second, misses and memory together cost
    sum r m e^(-rT) + c (1 - e^(-rT)), which falls with T while misses, weighted by r m - c, are positive. So each miss
    of a key watches that key for a lifetime, which gives r, and T grows or shrinks with the sum of r m - c over what
    was watched (Carra, Neglia and Michiardi, IEEE/ACM ToN 28(3), 2020). Here the sum is taken at ticks and divided by
    that of r m + c, so that T moves in proportion to itself and steadily whatever the currency.

    There is no target, so nothing is infeasible: where memory costs more than misses the tier shrinks to its bound.
    It assumes Poisson requests for each key. Keys that return after a typical pause, such as users who think, have
    no request right after a miss, and T may settle at a local optimum.
    """

    kind: Literal["cost_ttl"]
    """Keep entries as long as it pays."""
    miss_cost: Positive
    """What a miss costs, in the currency of the price."""
    price_per_gb_hour: NonNegative | None = None
    """What holding 10**9 bytes costs an hour. Give this for a tier in bytes, or price_per_entry_hour."""
    price_per_entry_hour: NonNegative | None = None
    """What holding one entry costs an hour."""
    initial_ttl_s: PositiveSeconds = 600.0
    """The lifetime to begin with; nothing is decided before one has passed."""
    gain: Positive = 0.5
    """How fast the lifetime moves: at most by a factor e^gain within a lifetime."""

    def __post_init__(self) -> None:
        if (self.price_per_gb_hour is None) == (self.price_per_entry_hour is None):
            raise ValueError("give price_per_gb_hour or price_per_entry_hour, and not both")
        self._price_per_s = ((self.price_per_entry_hour or 0.0) + (self.price_per_gb_hour or 0.0) / 1e9) / 3600
        self._ttl_s = self.initial_ttl_s
        self._began_at_s: float | None = None
        self._ticked_at_s = 0.0
        self._last_s: dict[Key, float] = {}
        self._sizes: dict[Key, int] = {}
        self._watch_of: dict[Key, _Watch] = {}
        self._watches: deque[_Watch] = deque()

    def observe(self, key: Key, size: int, hit: bool, now_s: float) -> None:
        """Note the request. What counts as a miss is a lifetime without requests, not what the tier holds."""
        if self._began_at_s is None:
            self._began_at_s = self._ticked_at_s = now_s
        before_s = self._last_s.get(key, -math.inf)
        self._last_s[key] = now_s
        self._sizes[key] = size
        watch = self._watch_of.get(key)
        if watch is not None and now_s <= watch.until_s:
            watch.requests += 1
        elif now_s - before_s > self._ttl_s:
            watch = self._watch_of[key] = _Watch(key, size, self._ttl_s, now_s + self._ttl_s)
            self._watches.append(watch)

    def propose(self, now_s: float, capacity: int) -> Proposal:
        """The sizes of what was requested within the lifetime; the present capacity until one has passed.

        Where bounds hold the tier at less than half or more than twice of that, the lifetime goes no further.
        """
        if self._began_at_s is None or now_s - self._began_at_s < self._ttl_s:
            return Proposal(capacity, feasible=True)
        passed = min(1.0, (now_s - self._ticked_at_s) / self._ttl_s)
        self._ticked_at_s = now_s
        slope, (ages_s, sizes) = self._slope(now_s), self._seen(now_s)
        alive = sizes[ages_s <= self._ttl_s].sum()
        if (slope < 0 and alive > capacity / 2) or (slope > 0 and alive < 2 * capacity):
            self._ttl_s *= math.exp(self.gain * slope * passed)
        return Proposal(float(sizes[ages_s <= self._ttl_s].sum()), feasible=True)

    def _slope(self, now_s: float) -> float:
        """What a longer lifetime would save less what it would cost, over their sum, by the keys watched to the end."""
        saved = kept = 0.0
        while self._watches and self._watches[0].until_s <= now_s:
            watch = self._watches.popleft()
            if self._watch_of.get(watch.key) is watch:
                del self._watch_of[watch.key]
            saved += self.miss_cost * watch.requests / watch.ttl_s
            kept += self._price_per_s * watch.size
        return (saved - kept) / (saved + kept) if saved + kept else 0.0

    def _seen(self, now_s: float) -> tuple[Floats, Ints]:
        """Seconds since each key's last request, and sizes; forgets keys of several lifetimes ago once they abound."""
        ages_s = now_s - np.fromiter(self._last_s.values(), np.float64, len(self._last_s))
        sizes = np.fromiter(self._sizes.values(), np.int64, len(ages_s))  # keys come and go together in both
        if 2 * np.count_nonzero(ages_s > 4 * self._ttl_s) > len(ages_s):
            self._last_s = {key: at_s for key, at_s in self._last_s.items() if now_s - at_s <= 4 * self._ttl_s}
            self._sizes = {key: self._sizes[key] for key in self._last_s}
        return ages_s, sizes
