"""Where the warm-up of a run ends: MSER-5, and Welch's moving average to look at.

A run begins empty, so its first requests wait less than those of a service that has been up for a while. Both methods
look at the end-to-end latency of the answered requests in the order of their arrival, warm-up included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infertuner.outcomes.latencies import durations
from infertuner.outcomes.window import finished, view
from infertuner.records import Records
from infertuner.sources.requests import Floats

BATCH = 5
"""Observations averaged before the search, which is the 5 of MSER-5."""
FEWEST_BATCHES = 20
"""Fewer batches have no second half worth the name."""
GROUPS = 100
"""Points of a course: enough for a figure, few enough to be kept of every run."""


def mser5(values: Floats) -> int | None:
    """How many leading observations to leave out, so that the rest has the smallest standard error.

    Over batch means Z of five observations, the truncation d minimises sum over i > d of (Z_i - mean)^2 / (k - d)^2
    among the first half of the k batches (White, Cobb and Spratt, A comparison of five steady-state truncation
    heuristics for simulation, WSC 2000). None where the minimum lies at the end of that half or there are fewer than
    100 observations: the run is too short to tell.
    """
    count = len(values) // BATCH
    if count < FEWEST_BATCHES:
        return None
    means = values[: count * BATCH].reshape(count, BATCH).mean(axis=1)
    means = means - means.mean()  # sums of squares of what is left lose no digits
    left = np.arange(count, 0, -1)
    sums, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    half = count // 2
    errors = ((squares - sums**2 / left) / left**2)[: half + 1]
    best = int(np.argmin(errors))
    return None if best == half else best * BATCH


def mser5_warmup_s(records: Records) -> float | None:
    """The least `warmup_s` that leaves out what MSER-5 would, in seconds; None where the run is too short to tell."""
    arrived_at_s, e2e_s = _in_order_of_arrival(records)
    leave_out = mser5(e2e_s)
    if leave_out is None:
        return None
    return float(arrived_at_s[leave_out]) if leave_out else 0.0


@dataclass(frozen=True)
class Course:
    """How latency went in one run: means of up to 100 equal groups of requests in the order of arrival.

    Groups belong to numbers of requests, answered or not, so those of several replications can be averaged; one in
    which nobody was answered is None.
    """

    arrived_at_s: list[float | None]
    e2e_s: list[float | None]


def course(records: Records) -> Course:
    """The course of a run, to six digits, which is more than a figure shows."""
    arrived_at_s, e2e_s = view(records.requests.arrived_at_s), durations(records).e2e_s
    order = np.argsort(arrived_at_s, kind="stable")
    groups = np.array_split(order, min(GROUPS, len(order)) or 1)
    return Course([_mean(arrived_at_s[group]) for group in groups], [_mean(e2e_s[group]) for group in groups])


def welch(courses: Sequence[Course], reach: int = 5) -> tuple[list[float], list[float]]:
    """Welch's moving average of several replications: instants of arrival and latencies in seconds.

    The mean over replications at each place, then over `reach` places on either side; near the beginning the window
    shrinks to what is there, and the last `reach` places have no average (Law, 5th edition, 9.5.1). NaN where no
    replication has a value.
    """
    at_s = _over_replications([one.arrived_at_s for one in courses])
    e2e_s = _over_replications([one.e2e_s for one in courses])
    reaches = [min(place, reach) for place in range(max(len(e2e_s) - reach, 0))]
    smooth = [float(e2e_s[place - near : place + near + 1].mean()) for place, near in enumerate(reaches)]
    return at_s[: len(smooth)].tolist(), smooth


def _over_replications(courses: Sequence[Sequence[float | None]]) -> Floats:
    """The mean of what is known at each place."""
    places = np.array(courses, dtype=np.float64)
    known = ~np.isnan(places)
    counts = known.sum(axis=0)
    sums = np.where(known, places, 0.0).sum(axis=0)
    means: Floats = np.divide(sums, counts, out=np.full(places.shape[1], np.nan), where=counts > 0)
    return means


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(f"{known.mean():.6g}") if known.size else None


def _in_order_of_arrival(records: Records) -> tuple[Floats, Floats]:
    """Arrivals and end-to-end latencies of the answered requests."""
    answered = finished(records)
    arrived_at_s, e2e_s = view(records.requests.arrived_at_s)[answered], durations(records).e2e_s[answered]
    order = np.argsort(arrived_at_s, kind="stable")
    return arrived_at_s[order], e2e_s[order]
