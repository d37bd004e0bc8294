"""The sections of a profile file that say what was run, where and how; no law in them.

Units are in the names (`_s`, `_tokens`, `_bytes`); ratios are of 1.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from infertuner.latency.models import ModelConfig

NonNegative = Annotated[float, Field(ge=0)]
Range = tuple[int, int]
"""Smallest and largest value that was measured, both included."""


class Section(BaseModel):
    """A part of the profile file: unknown keys are refused, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Hardware(Section):
    """The machine the steps ran on."""

    name: str
    device: Literal["cpu", "cuda"]
    threads: int
    """Threads torch used on the host."""
    memory_bytes: int
    """Memory of the device."""


class Software(Section):
    """The programs that ran the steps."""

    python: str
    torch: str
    transformers: str
    cuda: str | None
    attention: str
    execution: str
    kv_cache: str


class Model(Section):
    """The decoder that was run."""

    name: str
    config: ModelConfig
    params: int
    dtype: str
    weights: str
    kv_bytes_per_token: int


class Protocol(Section):
    """How it was measured."""

    measured_at: str
    """When the first visit ended (UTC)."""
    seed: int
    """Seed of the design and of the order of visits."""
    fit_points: int
    holdout_points: int
    visits: int
    calls: int
    """Timed calls, over all visits."""
    stopped: Literal["interval", "budget"]
    """Whether every point's interval was narrow enough, or time was up."""
    median_interval_ratio: NonNegative
    """Half-width of the 95 % interval of a point, relative to its seconds: the median over points."""
    widest_interval_ratio: NonNegative
    """The same, the widest of all points."""
    drift_ratio: tuple[float, float]
    """The common change of step time that was removed: least and most, relative to the run's median."""
    preempted_ratio: NonNegative
    """Share of calls during which the operating system took the core away."""


class Samples(Section):
    """The raw measurements, beside the profile."""

    file: str
    sha256: str
