"""How a calibration measures: rounds of visits in random order, until intervals are narrow or time is up.

Calls of one visit share its luck, so visits are what is counted. Random order turns slow drift of the machine into
noise that hits every point alike and that `fitting.polish` can remove. A point whose interval is narrow enough sits out
the following rounds, which leaves the time to the others.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from infertuner.latency.fitting import MIN_VISITS, polish
from infertuner.latency.points import Point
from infertuner.latency.samples import SampleFile, Timing, Visit

TARGET_HALF_WIDTH = 0.02
"""Relative half-width of a point's 95 % interval at which it is settled."""
VISIT_S = 0.15
"""Seconds of timed calls in a visit, when the budget is not short."""

Stopped = Literal["interval", "budget"]


class Bench(Protocol):
    """Anything that can run a point and time it: a decoder on real hardware, or a law in a test."""

    def visit(self, point: Point, target_s: float) -> Timing:
        """Time `point` for about `target_s` seconds."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a calibration is, after a visit."""

    elapsed_s: float
    round: int
    settled: int
    points: int
    latest: Visit


def measure(
    bench: Bench,
    points: Sequence[Point],
    file: SampleFile,
    visits: list[Visit],
    *,
    budget_s: float,
    seed: int,
    tell: Callable[[Progress], None],
    clock: Callable[[], float] = time.monotonic,
) -> Stopped:
    """Visit `points` until all are settled or `budget_s` is spent; visits are appended to `visits` and to `file`.

    visits: what an interrupted calibration left, or nothing.
    """
    rng = random.Random(f"{seed}/{len(visits)}")
    target_s = min(VISIT_S, budget_s / (4 * len(points)))
    began_s, rounds = clock(), max((visit.round for visit in visits), default=-1)
    while unsettled := _unsettled(points, visits):
        rounds += 1
        rng.shuffle(unsettled)
        for point in unsettled:
            if clock() - began_s > budget_s:
                return "budget"
            visit = Visit(point, rounds, round(time.time(), 3), bench.visit(point, target_s))
            file.append(visit)
            visits.append(visit)
            tell(Progress(clock() - began_s, rounds, len(points) - len(unsettled), len(points), visit))
    return "interval"


def _unsettled(points: Sequence[Point], visits: Sequence[Visit]) -> list[Point]:
    """Points whose interval is still too wide, or that have too few visits to have one."""
    if len(visits) < MIN_VISITS * len(points):
        return list(points)
    polished = polish(visits)
    widths = dict(zip(polished.points, polished.half_widths(), strict=True))
    return [point for point in points if not widths.get(point, 1.0) < TARGET_HALF_WIDTH]
