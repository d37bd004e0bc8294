"""A run of decode iterations of one batch: how long any number of them takes, and how many fit into a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

from infertuner.latency.lines import DecodeLine, Stretch
from infertuner.latency.noise import NoiseRing
from infertuner.serving.clock import FS_PER_PS


class StraightJump:
    """`steps` iterations whose durations rise evenly and are not multiplied by anything: the usual case."""

    __slots__ = ("first_ps", "rise_ps", "steps")

    def __init__(self, steps: int, first_ps: int, rise_ps: int) -> None:
        self.steps, self.first_ps, self.rise_ps = steps, first_ps, rise_ps

    def span_fs(self, steps: int) -> int:
        """Femtoseconds of its first `steps` iterations."""
        return FS_PER_PS * (steps * self.first_ps + self.rise_ps * (steps * (steps - 1) // 2))

    def boundary(self, elapsed_fs: int) -> int:
        """The first iteration, counted from 1, that ends `elapsed_fs` after the start or later; at most `steps`.

        A guess from the quadratic, then exactly.
        """
        first_fs, rise_fs, steps = FS_PER_PS * self.first_ps, FS_PER_PS * self.rise_ps, self.steps
        if rise_fs:
            half = first_fs - rise_fs / 2
            square = half * half + 2 * rise_fs * elapsed_fs
            found = int((math.sqrt(square) - half) / rise_fs) + 1 if square > 0 else steps
        else:
            found = elapsed_fs // first_fs + 1
        found = min(found, steps)
        while found < steps and found * first_fs + rise_fs * (found * (found - 1) // 2) < elapsed_fs:
            found += 1
        while found > 1 and (found - 1) * first_fs + rise_fs * ((found - 1) * (found - 2) // 2) >= elapsed_fs:
            found -= 1
        return found


class CrookedJump:
    """The general case: a line that bends, multipliers that differ from iteration to iteration, or both."""

    __slots__ = ("_first", "_noise", "_stretches", "steps")

    def __init__(self, steps: int, stretches: list[Stretch], first: int, noise: NoiseRing | None) -> None:
        """`first`: the number of its first iteration, which chooses the multipliers."""
        self.steps, self._stretches, self._first, self._noise = steps, stretches, first, noise

    def span_fs(self, steps: int) -> int:
        """Femtoseconds of its first `steps` iterations."""
        return sum(span_fs for _, span_fs in self.parts(steps))

    def parts(self, steps: int) -> Iterator[tuple[Stretch, int]]:
        """The first `steps` of its iterations in straight pieces, with their femtoseconds."""
        number = self._first
        for first_ps, rise_ps, length in self._stretches:
            piece = Stretch(first_ps, rise_ps, min(length, steps))
            yield piece, self._span_fs(number, piece)
            number += piece.steps
            steps -= piece.steps
            if not steps:
                return

    def boundary(self, elapsed_fs: int) -> int:
        """The first iteration, counted from 1, that ends `elapsed_fs` after the start or later; at most `steps`."""
        done = 0
        for piece, span_fs in self.parts(self.steps):
            if span_fs >= elapsed_fs:
                low, high = 1, piece.steps
                while low < high:
                    middle = (low + high) // 2
                    if self._span_fs(self._first + done, piece._replace(steps=middle)) >= elapsed_fs:
                        high = middle
                    else:
                        low = middle + 1
                return done + low
            elapsed_fs -= span_fs
            done += piece.steps
        return self.steps

    def _span_fs(self, number: int, piece: Stretch) -> int:
        first_ps, rise_ps, steps = piece
        if self._noise is None:
            return FS_PER_PS * (steps * first_ps + rise_ps * (steps * (steps - 1) // 2))
        plain, weighted = self._noise.sums(number, steps)
        return first_ps * plain + rise_ps * weighted


Jump = StraightJump | CrookedJump


def jump_over(line: DecodeLine, kv_entries: int, steps: int, first: int, noise: NoiseRing | None) -> Jump:
    """`steps` iterations on `line`, the first with number `first` and reading `kv_entries`."""
    if noise is None:
        from_entries, to_entries, at_0_ps, slope_ps = line.plain
        if not from_entries <= kv_entries < to_entries:
            from_entries, to_entries, at_0_ps, slope_ps = line.plain_at(kv_entries)
        rise = line.batch_size
        if from_entries <= kv_entries and kv_entries + (steps - 1) * rise < to_entries:
            return StraightJump(steps, at_0_ps + slope_ps * kv_entries, slope_ps * rise)
    return CrookedJump(steps, list(line.stretches(kv_entries, steps)), first, noise)
