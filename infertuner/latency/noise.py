"""Multipliers of step times, tied to the number of the iteration and not to how the simulator gets there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


class NoiseRing:
    """A multiplier in per mille for every iteration number, repeating after `len(permille)` iterations.

    Sums over any range are differences of two prefix sums, so a jump over many iterations costs as much as one.
    """

    def __init__(self, permille: Sequence[int]) -> None:
        self.permille = list(permille)
        self._sum = [0, *accumulate(self.permille)]
        self._weighted = [0, *accumulate(i * m for i, m in enumerate(self.permille))]

    def at(self, iteration: int) -> int:
        """The multiplier of one iteration."""
        return self.permille[iteration % len(self.permille)]

    def sums(self, iteration: int, steps: int) -> tuple[int, int]:
        """Sums over j below `steps` of m and of j x m, where m is the multiplier of `iteration` + j."""
        plain_to, weighted_to = self._until(iteration + steps)
        plain_from, weighted_from = self._until(iteration)
        plain = plain_to - plain_from
        return plain, weighted_to - weighted_from - iteration * plain

    def _until(self, iteration: int) -> tuple[int, int]:
        """Sums over i below `iteration` of m and of i x m."""
        length = len(self.permille)
        turns, rest = divmod(iteration, length)
        plain = turns * self._sum[-1] + self._sum[rest]
        whole = turns * self._weighted[-1] + length * self._sum[-1] * (turns * (turns - 1) // 2)
        return plain, whole + turns * length * self._sum[rest] + self._weighted[rest]
