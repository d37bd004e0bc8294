"""Do arrivals outpace service? Then the queue grows with the horizon, and a latency says when the run was stopped.

Two one-sided questions, asked while requests arrive, each with a known error.

Saturated: has a queue grown, since it was last empty, by more than a queue at load exactly 1 grows by chance? Such a
queue is a random walk without drift, held above 0; the part since its last visit to 0 is a Brownian meander, whose end
divided by its own standard deviation has P(Z > z) = exp(-z²/2) (Durrett, Iglehart and Miller, Weak convergence to
Brownian meander and Brownian excursion, Annals of Probability 5, 1977). The deviation is estimated from the increments
over B equal stretches of time, which makes the tail that of an F ratio, (1 + z²/(B - 1))^(-(B - 1)/2). Below load 1 the
question is answered yes more rarely still.

Stable: over the second half of the run, is the growth of requests in the system below 5 % of arrivals, by the upper
95 % Student bound? The standard error is that of the increments or, where it is smaller, that of a population which
returns to its mean: a walk without drift has on average 6 times the variance over walks that one walk has over time;
12 times errs on the safe side.

Neither: undecided. Replications are independent, so their chances are combined by Fisher's method and their growths
averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from infertuner.outcomes.statistics import student_quantile
from infertuner.outcomes.window import Metrics, view
from infertuner.records import Records, Status
from infertuner.sources.requests import Floats, Ints, OpenLoop

STRETCHES = 20
"""Equal stretches of time whose increments tell chance from growth."""
MIN_ARRIVALS = 100
"""Arrivals in a question's time below which it is not asked: five a stretch."""
SATURATED_BELOW = 0.01
"""The chance that a queue at load 1 looks saturated."""
STABLE_BELOW = 0.05
"""Growth, as a share of arrivals, that a stable queue's upper bound stays below."""
AT_ONCE_S = 1e-6
"""What rounding may put between an arrival and a router that holds nothing back."""
RETURNING = 12.0
"""Variance of a population's growth over its variance over time, at most."""
ROUNDING = 1 / 6
"""Variance of an increment between two counts that are rounded to whole requests."""

NAMES = ("queue_growth_p_value", "queue_growth_ratio", "queue_growth_error_ratio")


def queue_growth(records: Records) -> Metrics:
    """What the verdict needs of one run: the chance of such a queue at load 1, and the growth with its standard error.

    All are None where users wait for answers, for then arrivals cannot outpace service.
    """
    if not isinstance(records.asked.pacing, OpenLoop):
        return dict.fromkeys(NAMES)
    growth = _growth_ratio(records)
    return dict(zip(NAMES, (_p_value(records), *growth), strict=True))


def saturation(replications: Sequence[Metrics]) -> str | None:
    """`saturated`, `stable` or `undecided`, of one arm in all its replications; None where users wait for answers."""
    p_values, ratios, errors = ([run[name] for run in replications] for name in NAMES)
    if any(p_value is None for p_value in p_values):
        return None
    if fisher(p_value for p_value in p_values if p_value is not None) < SATURATED_BELOW:
        return "saturated"
    known = [(ratio, error) for ratio, error in zip(ratios, errors, strict=True) if ratio is not None and error]
    if not known or len(known) < len(replications):
        return "undecided"
    mean = sum(ratio for ratio, _ in known) / len(known)
    error = math.sqrt(sum(error**2 for _, error in known)) / len(known)
    t = student_quantile(0.95, (STRETCHES - 1) * len(known))
    return "stable" if mean + t * error < STABLE_BELOW else "undecided"


def fisher(p_values: Iterator[float]) -> float:
    """The chance of independent p-values as small as these together: the tail of chi-squared with 2 degrees each."""
    chances = list(p_values)
    half = -sum(math.log(p_value) for p_value in chances)
    logs = [k * math.log(half) - math.lgamma(k + 1) - half if half else -half for k in range(1, len(chances))]
    return min(1.0, math.exp(-half) + sum(math.exp(log) for log in logs))


def _p_value(records: Records) -> float:
    """The smallest chance of any queue, times the number of queues asked (Bonferroni); 1 where none can be asked."""
    chances = [chance for queue in _queues(records) if (chance := _meander_chance(*queue)) is not None]
    return min(1.0, min(chances) * len(chances)) if chances else 1.0


def _queues(records: Records) -> Iterator[tuple[Floats, Floats, float]]:
    """Instants at which requests joined and left each queue, sorted, and when to stop looking.

    Every GPU has a queue, unless the router holds requests back, which makes one queue of all.
    """
    requests = records.requests
    arrived_at_s, started_at_s = view(requests.arrived_at_s), view(requests.started_at_s)
    queued = ~np.isnan(arrived_at_s) & (~np.isnan(started_at_s) | (view(requests.status) == Status.UNFINISHED))
    if not queued.any():
        return
    until_s = float(arrived_at_s[queued].max())
    once = queued & (view(requests.retries) == 0)
    held = bool((view(requests.routed_at_s)[once] - arrived_at_s[once] > AT_ONCE_S).any())
    gpu_id = np.zeros(int(queued.sum())) if held else view(requests.gpu_id)[queued]
    order = np.argsort(gpu_id, kind="stable")
    cuts = np.flatnonzero(np.diff(gpu_id[order])) + 1
    for members in np.split(np.flatnonzero(queued)[order], cuts):
        left_at_s = started_at_s[members]
        yield np.sort(arrived_at_s[members]), np.sort(left_at_s[left_at_s <= until_s]), until_s


def _meander_chance(joined_at_s: Floats, left_at_s: Floats, until_s: float) -> float | None:
    """The chance that a queue at load 1 has grown as much since it was last empty; None for too few arrivals."""
    if len(joined_at_s) < MIN_ARRIVALS:
        return None
    gone = np.searchsorted(left_at_s, left_at_s, side="right")
    empty = left_at_s[np.searchsorted(joined_at_s, left_at_s, side="right") == gone]
    since_s = float(empty[-1]) if empty.size else float(joined_at_s[0])
    if np.count_nonzero(joined_at_s > since_s) < MIN_ARRIVALS or until_s <= since_s:
        return 1.0
    added = np.diff(_population(joined_at_s, left_at_s, since_s, until_s))
    z = max(float(added.sum()), 0.0) / _error(added.var(ddof=1))
    freedom = STRETCHES - 1
    return float((1 + z**2 / freedom) ** (-freedom / 2))


def _growth_ratio(records: Records) -> tuple[float | None, float | None]:
    """Growth of requests in the system over the second half of the arrivals' time, and its error, per arrival."""
    requests = records.requests
    there = ~np.isnan(view(requests.arrived_at_s))
    ended = np.isin(view(requests.status), (Status.REJECTED_LENGTH, Status.REJECTED_KV, Status.FAILED))
    there &= ~ended
    joined_at_s = np.sort(view(requests.arrived_at_s)[there])
    finished_at_s = view(requests.finished_at_s)[there]
    if not joined_at_s.size:
        return None, None
    until_s = float(joined_at_s[-1])
    since_s = (float(joined_at_s[0]) + until_s) / 2
    arrivals = int(np.count_nonzero(joined_at_s > since_s))
    if arrivals < MIN_ARRIVALS:
        return None, None
    inside = _population(joined_at_s, np.sort(finished_at_s[finished_at_s <= until_s]), since_s, until_s)
    added = np.diff(inside)
    error = _error(min(added.var(ddof=1), RETURNING * inside.var() / STRETCHES))
    return float(added.sum()) / arrivals, error / arrivals


def _population(joined_at_s: Floats, left_at_s: Floats, since_s: float, until_s: float) -> Ints:
    """How many are inside at the edges of equal stretches between two instants."""
    edges_s = np.linspace(since_s, until_s, STRETCHES + 1)
    joined: Ints = np.searchsorted(joined_at_s, edges_s, side="right")
    return joined - np.searchsorted(left_at_s, edges_s, side="right")


def _error(variance: float) -> float:
    """The standard error of what all stretches together add, from the variance of one's increment."""
    return math.sqrt(max(float(variance), ROUNDING) * STRETCHES)
