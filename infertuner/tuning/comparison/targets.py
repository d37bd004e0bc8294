"""What each optimiser is asked, what it can measure, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

MOST_GPUS = 19
BATCH_SIZES = (1, 2, 4, 8)
TOLERANCE = 0.05
"""Share of the target rate that may be missing, as in the first publication."""


@dataclass(frozen=True)
class Target:
    """A load with a promise: so many requests a second, answered within a mean latency."""

    name: str
    throughput_per_s: float
    latency_s: float


class Outcome(NamedTuple):
    """What a configuration does under a target's load."""

    throughput_per_s: float
    latency_s: float
    """Mean, or the upper end of its interval where the measurement has one."""
    utilization_ratio: float = 1.0
    """Share of its GPUs' time in which they worked: what DS2 calls useful time."""


Measure: TypeAlias = Callable[[int, int], Outcome]
"""Run so many GPUs with this batch size."""


class Choice(NamedTuple):
    """A configuration that was chosen; its cost is its number of GPUs."""

    gpus: int
    batch_size: int


def keeps(target: Target, outcome: Outcome) -> bool:
    """Whether an outcome satisfies a target: the one test for every optimiser."""
    enough = outcome.throughput_per_s >= (1 - TOLERANCE) * target.throughput_per_s
    return enough and outcome.latency_s <= target.latency_s


TARGETS = [
    Target("Ultra Low", 0.17, 12.0),
    Target("Low", 0.5, 14.0),
    Target("Medium Low", 0.8, 16.0),
    Target("Medium 1", 1.0, 18.0),
    Target("Medium 2", 1.2, 20.0),
    Target("Medium High", 1.4, 22.0),
    Target("High", 1.5, 25.0),
    Target("Very High", 1.6, 30.0),
    Target("Near Saturation", 1.69, 38.0),
    Target("Peak Saturation", 1.78, 48.0),
]
"""The ten loads of the first publication: requests per second and mean latency."""
