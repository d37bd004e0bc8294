"""How a calibration measures: rounds of visits in random order, until intervals are narrow or time is up.

Calls of one visit share its luck, so visits are what is counted. Random order turns slow drift of the machine into
noise that hits every point alike and that `polish` can remove. A point whose interval is narrow enough sits out
the following rounds, which leaves the time to the others.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from infertuner.latency.machine import DeviceState
from infertuner.latency.measuring.extras import EXTRA_VISITS, Extra
from infertuner.latency.measuring.polish import MIN_VISITS, polish
from infertuner.latency.measuring.samples import ExtraVisit, Measurements, SampleFile, Skipped, Timing, Visit, Work
from infertuner.latency.points import Point

TARGET_HALF_WIDTH = 0.02
"""Relative half-width of a point's 95 % interval at which it is settled."""
VISIT_S = 0.06
"""Seconds of timed calls in a visit, when the budget is not short."""

Stopped = Literal["interval", "budget"]


class CannotMeasureError(Exception):
    """This point cannot be run on this machine; the others can. The message is the reason."""


class Bench(Protocol):
    """Anything that can run a point and time it: a decoder on real hardware, or a law in a test."""

    def visit(self, work: Work, target_s: float) -> Timing:
        """Time `work` for about `target_s` seconds; raises CannotMeasureError."""
        ...

    def state(self) -> DeviceState | None:
        """Clocks and temperature of the device now, where it tells them."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a calibration is, after a visit."""

    elapsed_s: float
    round: int
    settled: int
    """Points whose interval was narrow enough when the round began."""
    points: int
    left_s: float
    """Seconds until it ends, at most: the budget that is left, or less if every point needs no more visits."""


def measure(
    bench: Bench,
    points: Sequence[Point],
    extras: Sequence[Extra],
    file: SampleFile,
    measured: Measurements,
    *,
    budget_s: float,
    seed: int,
    tell: Callable[[Progress], None],
    clock: Callable[[], float] = time.monotonic,
) -> Stopped:
    """Visit `points` until all are settled or `budget_s` is spent, and `extras` in the first rounds.

    measured: what an interrupted calibration left, or nothing; what is measured is appended to it and to `file`.
    A round that was interrupted is gone on with where it was: nothing is visited twice in one round.
    """
    target_s = min(VISIT_S, budget_s / (8 * len(points)))
    began_s, number = clock(), max((visit.round for visit in measured.visits), default=0)
    finished, unsettled = 0, _unsettled(points, measured)
    while unsettled:
        done, gone = measured.done(), {one.work for one in measured.skipped}
        todo: list[Work] = [*unsettled, *(extras if number < EXTRA_VISITS else ())]
        todo = [work for work in todo if (work, number) not in done and work not in gone]
        random.Random(f"{seed}/{number}").shuffle(todo)
        for place, work in enumerate(todo):
            elapsed_s = clock() - began_s
            if elapsed_s > budget_s:
                return "budget"
            one = _visited(bench, work, number, target_s)
            file.append(one)
            measured.add(one)
            finished += 1
            left = len(todo) - place - 1 + len(points) * max(0, MIN_VISITS - 1 - number)
            elapsed_s = clock() - began_s
            left_s = min(budget_s - elapsed_s, left * elapsed_s / finished if number < MIN_VISITS else budget_s)
            tell(Progress(elapsed_s, number, len(points) - len(unsettled), len(points), max(0.0, left_s)))
        number += 1
        unsettled = _unsettled(points, measured)
    return "interval"


def _visited(bench: Bench, work: Work, number: int, target_s: float) -> Visit | ExtraVisit | Skipped:
    try:
        timing = bench.visit(work, target_s)
    except CannotMeasureError as error:
        return Skipped(work, str(error))
    at_s = round(time.time(), 3)
    return Visit(work, number, at_s, timing) if isinstance(work, Point) else ExtraVisit(work, number, at_s, timing)


def _unsettled(points: Sequence[Point], measured: Measurements) -> list[Point]:
    """Points whose interval is still too wide, or that have too few visits to have one."""
    gone = {one.work for one in measured.skipped}
    points = [point for point in points if point not in gone]
    if len(measured.visits) < MIN_VISITS * len(points):
        return list(points)
    polished = polish(measured.visits)
    widths = dict(zip(polished.points, polished.half_widths(), strict=True))
    return [point for point in points if not widths.get(point, 1.0) < TARGET_HALF_WIDTH]
