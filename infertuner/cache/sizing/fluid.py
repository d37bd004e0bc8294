"""FLUID as published: follow the request rate."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from infertuner.cache.sizing.policy import check_order
from infertuner.parts import Count, NonNegative, PerSecond, Positive, PositiveSeconds, Ratio, part
from infertuner.sources.requests import Key


@part
class Fluid:
    """Grow when lookups come faster than they used to, shrink when they come slower; reproduced with its defects.

    At every check the rate r of the recent window updates a moving average, h' = max(0.7 h + 0.3 r, 0.1), and is then
    compared with that *new* average: grow if r > 1.35 h', shrink if r < 0.65 h'.

    Defects of the rule:

    - The average already contains r, so against the old average h the thresholds are wider than written:
      r > 1.35 (0.7 h + 0.3 r) is r > 0.945 / 0.595 h = 1.588 h, and r < 0.65 (0.7 h + 0.3 r) is
      r < 0.455 / 0.805 h = 0.565 h.
    - ceil(n / 1.15) = n for every n up to 7: a tier of 7 entries or fewer never shrinks.
    - Growing by 1.25 outruns shrinking by 1.15, so noise in a constant rate drives the size towards its maximum.
    - The average forgets within 15 / -ln 0.7 = 42 lookups. Once the window holds many more than that, consecutive
      rates hardly differ and even a lasting step of the rate goes unnoticed.
    - The hit ratio of an LRU tier does not depend on the request rate at all, only on which keys follow each other
      (Che et al., IEEE JSAC 20(7), 2002): rate is the wrong thing to watch.
    """

    kind: Literal["fluid"]
    """Follow the request rate, as published."""
    initial_entries: Count = 5
    """Entries before the first check."""
    min_entries: Count = 5
    """Shrinking stops here."""
    max_entries: Count = 50
    """Growing stops here."""
    check_every_requests: Count = 15
    """Lookups between two checks of the size."""
    min_requests: Count = 5
    """A check before this many lookups resets the average rate and the size to their initial values."""
    window_s: PositiveSeconds = 3.0
    """Lookups of this last stretch of time count into the rate."""
    min_window_s: PositiveSeconds = 1.0
    """The rate is taken over the age of the oldest lookup in the window, but at least over this."""
    initial_rate_per_s: PerSecond = 1.0
    """Average rate assumed before the first check."""
    min_rate_per_s: PerSecond = 0.1
    """The average rate never falls below this."""
    new_rate_weight: Ratio = 0.3
    """Weight of the newest rate in the moving average."""
    expand_above: Positive = 1.35
    """Grow when the rate exceeds this multiple of the updated average."""
    expand_factor: Positive = 1.25
    """Growing multiplies the size by this and rounds up."""
    shrink_below: NonNegative = 0.65
    """Shrink when the rate is below this multiple of the updated average; 0 never shrinks."""
    shrink_factor: Positive = 1.15
    """Shrinking divides the size by this and rounds up."""

    def __post_init__(self) -> None:
        self._check_keys()
        self._entries = self.initial_entries
        self._mean_per_s = self.initial_rate_per_s
        self._requests = 0
        self._looked_up_at_s: deque[float] = deque()

    def _check_keys(self) -> None:
        check_order(min_entries=self.min_entries, initial_entries=self.initial_entries, max_entries=self.max_entries)
        if self.shrink_below > self.expand_above:
            raise ValueError(f"shrink_below ({self.shrink_below}) must not exceed expand_above ({self.expand_above})")
        if self.expand_above * self.new_rate_weight >= 1:
            raise ValueError(
                f"expand_above ({self.expand_above}) must be below 1 / new_rate_weight "
                f"({1 / self.new_rate_weight:.3g}): a rate never exceeds an average that contains it that far"
            )
        for key in ("expand_factor", "shrink_factor"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} ({getattr(self, key)}) must be 1 or more")

    def observe(self, key: Key, now_s: float) -> int:
        """Note a lookup at `now_s`; the key does not matter to this policy."""
        self._requests += 1
        self._looked_up_at_s.append(now_s)
        if self._requests % self.check_every_requests == 0:
            self._check(now_s)
        return self._entries

    def _check(self, now_s: float) -> None:
        if self._requests < self.min_requests:
            self._mean_per_s = self.initial_rate_per_s
            self._entries = self.initial_entries
            return
        rate_per_s = self._rate_per_s(now_s)
        mean_per_s = (1 - self.new_rate_weight) * self._mean_per_s + self.new_rate_weight * rate_per_s
        self._mean_per_s = max(mean_per_s, self.min_rate_per_s)
        if rate_per_s > self.expand_above * self._mean_per_s:
            self._entries = min(math.ceil(self._entries * self.expand_factor), self.max_entries)
        elif rate_per_s < self.shrink_below * self._mean_per_s:
            self._entries = max(math.ceil(self._entries / self.shrink_factor), self.min_entries)

    def _rate_per_s(self, now_s: float) -> float:
        recent = self._looked_up_at_s
        while recent[0] < now_s - self.window_s:
            recent.popleft()
        return len(recent) / max(now_s - recent[0], self.min_window_s)
