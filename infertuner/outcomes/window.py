"""Columns as arrays, the part of a run that is measured, and means and percentiles of what lies in it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from infertuner.records import Records
from infertuner.sources.requests import Floats

Metrics: TypeAlias = dict[str, float | None]
"""Metric name, unit included, to value."""
Mask: TypeAlias = NDArray[np.bool_]

PERCENTILES = (50, 95, 99)
MIN_SAMPLES_BEYOND = 5


def view(column: array[Any] | NDArray[Any]) -> NDArray[Any]:
    """A column as a numpy array of the same memory, read-only."""
    values = np.asarray(column).view()
    values.flags.writeable = False
    return values


def finished(records: Records) -> Mask:
    """Which requests were answered, shape (n,)."""
    answered: Mask = ~np.isnan(view(records.requests.finished_at_s))
    return answered


@dataclass(frozen=True)
class Window:
    """The part of a run that is measured: from the end of the warm-up to the end of the run."""

    since_s: float
    until_s: float

    def rate_per_s(self, amount: float) -> float | None:
        """`amount` per second of the window; None for a run that ended within its warm-up."""
        length_s = self.until_s - self.since_s
        return float(amount / length_s) if length_s > 0 else None

    def overlap_s(self, start_s: Floats, end_s: Floats) -> Floats:
        """Seconds of each interval that lie within the window."""
        overlap_s: Floats = np.minimum(end_s, self.until_s) - np.maximum(start_s, self.since_s)
        return np.maximum(overlap_s, 0.0)


def mean(values: NDArray[Any]) -> float | None:
    """The mean, or None of nothing."""
    return float(values.mean()) if values.size else None


def carried_percentiles(samples: int) -> list[int]:
    """The percentiles that so many samples can carry.

    A percentile is refused unless at least 5 of the samples are expected beyond it: p50 wants 10 samples, p95 100, p99
    500. The chance that n samples hold nothing at all beyond the true q-quantile is q^n <= exp(-n (1 - q)), here at
    most exp(-5) = 0.7 %. So the sample brackets the quantile and a 95 % distribution-free interval for it exists (David
    and Nagaraja, Order Statistics, section 7.1); with fewer, the number is little but the largest sample.
    Latencies of one queue depend on each other, so this is the least to ask, and intervals come from replications.
    """
    return [q for q in PERCENTILES if samples * (100 - q) >= 100 * MIN_SAMPLES_BEYOND]


def distribution(name: str, values: Floats) -> Metrics:
    """Mean and percentiles of a latency (numpy's linear method, as vLLM's benchmark takes them)."""
    carried = carried_percentiles(values.size)
    found = dict(zip(carried, np.percentile(values, carried), strict=True)) if carried else {}
    percentiles = {f"{name}_p{q}_s": float(found[q]) if q in found else None for q in PERCENTILES}
    return {f"{name}_mean_s": mean(values), **percentiles}
