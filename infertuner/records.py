"""What happened: columns the simulation appends to and outcomes read, and nothing that computes.

Times are seconds on the simulated clock; a missing value is NaN in float columns and never 0.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import IntEnum

from infertuner.sources.requests import Requests


class Status(IntEnum):
    """How a request ended."""

    UNFINISHED = 0
    """Still waiting or running at the horizon, or never sent because of it."""
    FINISHED = 1


class CacheLevel(IntEnum):
    """Where a request's prefix was found."""

    NONE = 0
    """No cache in this scenario, or the request never started."""
    LOCAL = 1
    REMOTE = 2
    MISS = 3


def _nans(n: int) -> array[float]:
    return array("d", [float("nan")]) * n


def _zeros(n: int) -> array[int]:
    return array("q", [0]) * n


@dataclass
class RequestColumns:
    """One row a request, indexed by request id; the columns the workload does not already know."""

    n: int
    gpu_id: array[int] = field(init=False)
    """Which GPU it was routed to; -1 until then."""
    arrived_at_s: array[float] = field(init=False)
    started_at_s: array[float] = field(init=False)
    """When its batch began on the GPU (after any deliberate batching delay)."""
    first_token_at_s: array[float] = field(init=False)
    finished_at_s: array[float] = field(init=False)
    batch_size: array[int] = field(init=False)
    cache_level: array[int] = field(init=False)
    cached_tokens: array[int] = field(init=False)
    fetch_s: array[float] = field(init=False)
    """Seconds spent fetching its prefix from a slower tier, or refetching it after a miss; 0 without."""

    def __post_init__(self) -> None:
        self.gpu_id = array("q", [-1]) * self.n
        self.arrived_at_s, self.started_at_s = _nans(self.n), _nans(self.n)
        self.first_token_at_s, self.finished_at_s = _nans(self.n), _nans(self.n)
        self.batch_size, self.cache_level, self.cached_tokens = _zeros(self.n), _zeros(self.n), _zeros(self.n)
        self.fetch_s = array("d", [0.0]) * self.n


@dataclass
class StepColumns:
    """One row a batch run on a GPU, in the order in which batches ended."""

    gpu_id: array[int] = field(default_factory=lambda: array("q"))
    started_at_s: array[float] = field(default_factory=lambda: array("d"))
    batch_size: array[int] = field(default_factory=lambda: array("q"))
    fetch_s: array[float] = field(default_factory=lambda: array("d"))
    """Seconds the GPU stood still for the cache, when the scenario says that fetching occupies it."""
    prefill_s: array[float] = field(default_factory=lambda: array("d"))
    decode_s: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class CacheSizeColumns:
    """One row a change of a local cache's size, the initial size included."""

    gpu_id: array[int] = field(default_factory=lambda: array("q"))
    at_s: array[float] = field(default_factory=lambda: array("d"))
    entries: array[int] = field(default_factory=lambda: array("q"))


@dataclass
class Records:
    """Everything one simulated run leaves behind."""

    asked: Requests
    requests: RequestColumns
    steps: StepColumns
    cache_sizes: CacheSizeColumns
    num_gpus: int
    ended_at_s: float
    """Simulated time at which the run stopped: the last completion, or the horizon."""
    events: int
    """Simulation events processed."""
    cache_logs: list[array[int]] = field(default_factory=list)
    """What each GPU's cache went through, in order: a request id for its lookup, ~id for its insertion when served."""
    outside_calls: int = 0
    """Answers of the latency model beyond what was measured."""
