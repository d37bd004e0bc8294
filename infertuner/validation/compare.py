"""How far a simulation is from what was measured: every metric's error, with an interval from resampling requests.

The error of a statistic is simulated / measured - 1: above 0 the simulation is too slow (or too fast in throughput).
Requests are resampled within their runs, the same ones on both sides (B. Efron and R. J. Tibshirani, An Introduction to
the Bootstrap (1993), chapters 6 and 8), so the interval says how much depends on which requests were asked. Requests of
one run also share its queue and its machine's mood, which no resampling sees; for that there is the noise floor, the
error of one measurement against another of the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infertuner.outcomes.statistics import Interval
from infertuner.outcomes.window import PERCENTILES, carried_percentiles
from infertuner.sources.requests import Floats, Ints
from infertuner.validation.runs import LATENCIES, Run

RESAMPLES = 1000
BLOCK = 2**21
"""Values times resamples that are held in memory at once."""
METRICS = (*LATENCIES[:2], "itl", LATENCIES[2])
STATISTICS = ("mean", *(f"p{q}" for q in PERCENTILES))
NAMES = (*(f"{metric}_{statistic}" for metric in METRICS for statistic in STATISTICS), "throughput")
"""Everything that is compared."""

Pair = tuple[Run, Run]
"""What was measured and what is held against it, request by request."""


@dataclass(frozen=True)
class Error:
    """One statistic on both sides."""

    measured: float
    other: float
    """The same of what is held against the measurement."""
    ratio: Interval
    """other / measured - 1; n counts requests, gaps or, of throughput, runs."""


def compare(pairs: Sequence[Pair], seed: int = 0) -> dict[str, Error]:
    """Every statistic of `NAMES` that these runs can carry, pooled over them.

    A percentile needs 5 measured values beyond it, as everywhere: p95 wants 100, p99 wants 500.
    """
    found: dict[str, Error] = {}
    for metric in METRICS:
        measured, other = _gaps(pairs) if metric == "itl" else _latencies(pairs, metric)
        if measured.values.size and other.values.size:
            rng = np.random.default_rng((seed, METRICS.index(metric)))
            found |= {f"{metric}_{name}": error for name, error in _errors(measured, other, rng).items()}
    finished = [pair for pair in pairs if all(run.finished and run.has_arrivals for run in pair)]
    if finished:
        measured_per_s, other_per_s = (
            sum(pair[side].finished for pair in finished) / sum(pair[side].makespan_s for pair in finished)
            for side in (0, 1)
        )
        ratio = Interval(other_per_s / measured_per_s - 1, None, None, len(finished))
        found["throughput"] = Error(measured_per_s, other_per_s, ratio)
    return found


@dataclass(frozen=True)
class _Sample:
    """Values in rising order, and which group each belongs to: what is drawn again is groups."""

    values: Floats
    group: Ints
    runs: list[int]
    """Groups of each run; a run's are drawn from that run."""


def _sample(groups: Sequence[Sequence[Floats]]) -> _Sample:
    """A sample from each run's groups of values."""
    flat = [values for run in groups for values in run]
    group = np.repeat(np.arange(len(flat)), [len(values) for values in flat])
    values = np.concatenate(flat) if flat else np.empty(0)
    order = np.argsort(values, kind="stable")
    return _Sample(values[order], group[order], [len(run) for run in groups])


def _latencies(pairs: Sequence[Pair], metric: str) -> tuple[_Sample, _Sample]:
    """Both sides of the requests that have this latency on both; of unlike requests, each side's own."""
    sides: tuple[list[list[Floats]], list[list[Floats]]] = ([], [])
    for pair in pairs:
        both = [run.latencies_s(metric) for run in pair]
        known = [~np.isnan(values) for values in both]
        if both[0].size == both[1].size:
            known = [known[0] & known[1]] * 2
        for side, values, mask in zip(sides, both, known, strict=True):
            side.append(list(values[mask][:, None]))
    return _sample(sides[0]), _sample(sides[1])


def _gaps(pairs: Sequence[Pair]) -> tuple[_Sample, _Sample]:
    """Both sides' gaps between tokens, of the runs that know them on both."""
    known = [pair for pair in pairs if pair[0].gaps_s and pair[1].gaps_s]
    return _sample([list(pair[0].gaps_s) for pair in known]), _sample([list(pair[1].gaps_s) for pair in known])


def _errors(measured: _Sample, other: _Sample, rng: np.random.Generator) -> dict[str, Error]:
    """Error of every statistic that the measured values can carry."""
    n = measured.values.size
    carried = carried_percentiles(n)
    quantiles = np.array(carried) / 100
    resampled = _resampled(measured, other, quantiles, rng)
    found = {}
    for name, here, there, ratios in zip(
        STATISTICS, _points(measured.values, carried), _points(other.values, carried), resampled.T, strict=False
    ):
        if here:
            finite = ratios[np.isfinite(ratios)]
            low, high = np.percentile(finite, (2.5, 97.5)).tolist() if finite.size else (None, None)
            found[name] = Error(here, there, Interval(there / here - 1, low, high, n))
    return found


def _points(values: Floats, percentiles: Sequence[int]) -> list[float]:
    """The mean, then the percentiles, of values that each count once."""
    return [float(values.mean()), *np.percentile(values, percentiles).tolist()]


def _resampled(measured: _Sample, other: _Sample, quantiles: Floats, rng: np.random.Generator) -> Floats:
    """Errors of the mean and of the quantiles when groups are drawn again, shape (resamples, 1 + quantiles).

    The same groups are drawn on both sides where they match.
    """
    at_once = max(1, BLOCK // max(measured.values.size, other.values.size))
    found = []
    for first in range(0, RESAMPLES, at_once):
        times = min(at_once, RESAMPLES - first)
        counts = _draw(measured.runs, times, rng)
        counts_of_other = counts if other.runs == measured.runs else _draw(other.runs, times, rng)
        here, there = (_statistics(*side, quantiles) for side in ((measured, counts), (other, counts_of_other)))
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(there / here - 1)
    return np.concatenate(found)


def _draw(runs: Sequence[int], times: int, rng: np.random.Generator) -> Ints:
    """How often each group is drawn when every run draws as many of its own as it has, shape (times, groups)."""
    drawn = [rng.multinomial(groups, np.full(groups, 1 / groups), size=times) for groups in runs if groups]
    return np.concatenate(drawn, axis=1)


def _statistics(sample: _Sample, counts: Ints, quantiles: Floats) -> Floats:
    """Mean and quantiles of values that count as often as their groups were drawn, a row a resample."""
    weights = counts[:, sample.group]
    running = np.cumsum(weights, axis=1)
    total = running[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [(weights @ sample.values)[:, None] / total]
    for q in quantiles:
        columns.append(sample.values[np.argmax(running >= q * total, axis=1)][:, None])
    return np.hstack(columns)
