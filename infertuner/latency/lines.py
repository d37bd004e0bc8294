"""One decode iteration of a fixed batch as a function of the KV entries it reads: straight lines in whole picoseconds.

While nobody joins or leaves, a batch reads one entry more for each sequence at every iteration, so the seconds of many
iterations are sums of arithmetic progressions. In whole numbers those sums are exact, which makes a jump over a
thousand iterations equal, to the last digit, to walking them one by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

PS_PER_S: Final = 10**12


class Stretch(NamedTuple):
    """Iterations whose durations rise evenly: `first_ps`, `first_ps + rise_ps`, ... , `steps` of them."""

    first_ps: int
    rise_ps: int
    steps: int


class Plain(NamedTuple):
    """Where single iterations lie on one rising line and were measured: the usual case, to be had without searching."""

    from_entries: int
    to_entries: int
    """The first KV entries beyond."""
    at_0_ps: int
    """What the line would say at 0 KV entries."""
    slope_ps: int


NOWHERE = Plain(0, 0, 0, 0)


class DecodeLine:
    """Picoseconds of one decode iteration over the KV entries read by `batch_size` sequences together.

    `low` and `high` are the fewest and most KV entries that were measured (both included); answers beyond them are
    extrapolations, and the engine tells the latency model how many it took.
    """

    __slots__ = ("_at_ps", "_slope_ps", "_starts", "batch_size", "high", "low", "plain")

    def __init__(self, batch_size: int, corners: Sequence[tuple[int, float]], low: int, high: int) -> None:
        """Straight lines through `corners` (KV entries, seconds), in rising order; going on in line beyond them.

        A single corner is a constant. Slopes are rounded to whole picoseconds an entry and each segment starts again at
        its own corner, so rounding never adds up: it is below half a picosecond for each entry of a segment.
        """
        self.batch_size, self.low, self.high = batch_size, low, high
        self._starts = [corner[0] for corner in corners]
        self._at_ps = [max(1, round(seconds * PS_PER_S)) for _, seconds in corners]
        pairs = pairwise(zip(self._starts, self._at_ps, strict=True))
        slopes = [round((after - before) / (end - start)) for (start, before), (end, after) in pairs]
        self._slope_ps = [*slopes, slopes[-1] if slopes else 0]
        self.plain = NOWHERE
        """Where the last `plain_at` was; batches that follow one another seldom leave it."""

    def step_ps(self, kv_entries: int) -> int:
        """Picoseconds of one iteration that reads `kv_entries`; at least 1."""
        i = bisect_right(self._starts, kv_entries, 1) - 1
        return max(1, self._at_ps[i] + self._slope_ps[i] * (kv_entries - self._starts[i]))

    def plain_at(self, kv_entries: int) -> Plain:
        """The straight line there; it goes nowhere (from 0 to 0) where it falls or was not measured."""
        starts = self._starts
        i = bisect_right(starts, kv_entries, 1) - 1
        slope_ps = self._slope_ps[i]
        at_0_ps = self._at_ps[i] - slope_ps * starts[i]
        low, high = self.low, self.high + 1
        if i:
            low = max(low, starts[i])
        if i + 1 < len(starts):
            high = min(high, starts[i + 1])
        if slope_ps < 0 or at_0_ps + slope_ps * kv_entries < 1 or not low <= kv_entries < high:
            low = high = 0
        self.plain = Plain(kv_entries if low < high else 0, high, at_0_ps, slope_ps)
        return self.plain

    def stretches(self, kv_entries: int, steps: int) -> Iterator[Stretch]:
        """`steps` iterations from `kv_entries` on, cut where the straight line bends; equal to as many `step_ps`."""
        batch_size, starts = self.batch_size, self._starts
        while steps:
            i = bisect_right(starts, kv_entries, 1) - 1
            first_ps = self._at_ps[i] + self._slope_ps[i] * (kv_entries - starts[i])
            here = steps
            if i + 1 < len(starts):
                here = min(steps, -((kv_entries - starts[i + 1]) // batch_size))
            rise_ps = self._slope_ps[i] * batch_size
            if first_ps < 1 or first_ps + rise_ps * (here - 1) < 1:  # a falling line reached nothing: walk it
                here, first_ps, rise_ps = 1, max(1, first_ps), 0
            yield Stretch(first_ps, rise_ps, here)
            kv_entries += here * batch_size
            steps -= here

    def span_ps(self, kv_entries: int, steps: int) -> int:
        """Picoseconds of `steps` iterations, the first reading `kv_entries`, each next one entry more a sequence."""
        return sum(
            part.steps * part.first_ps + part.rise_ps * (part.steps * (part.steps - 1) // 2)
            for part in self.stretches(kv_entries, steps)
        )
