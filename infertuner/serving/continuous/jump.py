"""A run of decode iterations of one batch: how long any number of them takes, and how many fit into a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

from infertuner.latency.lines import DecodeLine, Stretch
from infertuner.latency.noise import NoiseRing
from infertuner.serving.clock import FS_PER_PS


class StraightJump:
    """`steps` iterations from iteration number `first` on, whose durations rise evenly; the usual case."""

    __slots__ = ("first", "first_ps", "kv_entries", "line", "rise_ps", "started_fs", "steps", "waiting")

    def __init__(
        self,
        line: DecodeLine,
        started_fs: int,
        first: int,
        kv_entries: int,
        steps: int,
        waiting: int,
        first_ps: int,
        rise_ps: int,
    ) -> None:
        self.line, self.started_fs, self.first, self.kv_entries, self.steps = line, started_fs, first, kv_entries, steps
        self.waiting, self.first_ps, self.rise_ps = waiting, first_ps, rise_ps

    def span_fs(self, steps: int) -> int:
        """Femtoseconds of its first `steps` iterations."""
        return FS_PER_PS * (steps * self.first_ps + self.rise_ps * (steps * (steps - 1) // 2))

    def parts(self, steps: int) -> Iterator[tuple[int, Stretch, int]]:
        """The first `steps` of its iterations in straight pieces: number of the first, the piece, its femtoseconds."""
        yield self.first, Stretch(self.first_ps, self.rise_ps, steps), self.span_fs(steps)

    def boundary(self, elapsed_fs: int) -> int:
        """The first iteration, counted from 1, that ends `elapsed_fs` after the start or later; at most `steps`.

        A guess from the quadratic, then exactly.
        """
        first_ps, rise_ps, steps = self.first_ps, self.rise_ps, self.steps
        guess = elapsed_fs / FS_PER_PS / first_ps
        if rise_ps:
            half = first_ps - rise_ps / 2
            guess = (math.sqrt(max(half * half + 2 * rise_ps * (elapsed_fs / FS_PER_PS), 0.0)) - half) / rise_ps
        found = int(guess) + 1
        if found > steps:
            found = steps
        while found < steps and self.span_fs(found) < elapsed_fs:
            found += 1
        while found > 1 and self.span_fs(found - 1) >= elapsed_fs:
            found -= 1
        return found


class NoisyJump:
    """The same in the general case: a line that bends, multipliers that differ from iteration to iteration, or both."""

    __slots__ = ("_noise", "_stretches", "first", "kv_entries", "line", "started_fs", "steps", "waiting")

    def __init__(
        self,
        line: DecodeLine,
        started_fs: int,
        first: int,
        kv_entries: int,
        steps: int,
        waiting: int,
        noise: NoiseRing | None,
    ) -> None:
        self.line, self.started_fs, self.first, self.kv_entries, self.steps = line, started_fs, first, kv_entries, steps
        self.waiting, self._noise = waiting, noise
        self._stretches = list(line.stretches(kv_entries, steps))

    def span_fs(self, steps: int) -> int:
        """Femtoseconds of its first `steps` iterations."""
        return sum(span_fs for _, _, span_fs in self.parts(steps))

    def parts(self, steps: int) -> Iterator[tuple[int, Stretch, int]]:
        """The first `steps` of its iterations in straight pieces: number of the first, the piece, its femtoseconds."""
        number = self.first
        for stretch in self._stretches:
            piece = stretch if stretch.steps <= steps else Stretch(stretch.first_ps, stretch.rise_ps, steps)
            yield number, piece, self._span_fs(number, piece)
            number += piece.steps
            steps -= piece.steps
            if not steps:
                return

    def boundary(self, elapsed_fs: int) -> int:
        """The first iteration, counted from 1, that ends `elapsed_fs` after the start or later; at most `steps`."""
        done = 0
        for number, piece, span_fs in self.parts(self.steps):
            if span_fs >= elapsed_fs:
                low, high = 1, piece.steps
                while low < high:
                    middle = (low + high) // 2
                    if self._span_fs(number, Stretch(piece.first_ps, piece.rise_ps, middle)) >= elapsed_fs:
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


Jump = StraightJump | NoisyJump


def jump_from(
    line: DecodeLine, started_fs: int, first: int, kv_entries: int, steps: int, waiting: int, noise: NoiseRing | None
) -> Jump:
    """`steps` iterations of a batch on its `line`, the first with number `first` and reading `kv_entries`.

    waiting: how many requests wait when it begins, for the log.
    """
    straight = line.straight(kv_entries, steps) if noise is None else None
    if straight is None:
        return NoisyJump(line, started_fs, first, kv_entries, steps, waiting, noise)
    return StraightJump(line, started_fs, first, kv_entries, steps, waiting, *straight)
