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


class Ceilings(Section):
    """The best of a short bench of copies, reads and matrix products on random numbers, in the model's data type."""

    read_bytes_per_s: NonNegative
    flops_per_s: NonNegative
    """Floating-point operations; a multiply and an add are two."""


class DeviceState(Section):
    """A GPU's clocks, temperature and power, asked of nvidia-smi and never set."""

    sm_clock_mhz: float
    memory_clock_mhz: float
    temperature_c: float
    power_w: float | None


class CopySegment(Section):
    """Sizes from `from_bytes` up to the next segment take `alpha_s` + `beta_s_per_byte` x size."""

    from_bytes: int
    alpha_s: NonNegative
    beta_s_per_byte: NonNegative


class CopyLaw(Section):
    """Seconds of one copy over its size, in at least two straight segments."""

    segments: list[CopySegment]
    largest_bytes: int
    """The largest copy that was measured; the last segment goes on in line beyond it."""
    mean_error_ratio: NonNegative
    """Mean absolute relative error of each size when the law is fitted without it."""

    def copy_s(self, size_bytes: float) -> float:
        """Seconds to copy `size_bytes`; below the smallest measured size the first segment goes on."""
        segment = next((s for s in reversed(self.segments) if s.from_bytes <= size_bytes), self.segments[0])
        return segment.alpha_s + segment.beta_s_per_byte * size_bytes


Direction = Literal["host_to_device", "device_to_host", "device_to_device", "host"]
"""Where bytes go; `host` is a copy within the host's own memory."""


class HostGap(Section):
    """Seconds an iteration keeps the device waiting: per_iteration_s + per_sequence_s x sequences in it."""

    per_iteration_s: NonNegative
    per_sequence_s: NonNegative
    eager_per_iteration_s: NonNegative | None = None
    """The same with every kernel launched by Python, as generate() does; None where nothing ran eagerly beside it."""
    how: str
    """How it was measured, or why it is 0."""


class EndToEnd(Section):
    """One call of transformers' own generate(), never fitted, against the sum of the law over its steps."""

    batch_size: int
    prompt_tokens: int
    output_tokens: int
    measured_s: NonNegative
    predicted_s: NonNegative
    """Prefill and every decode step by the law, with the profile's host gap (eager where it is known)."""
    error_ratio: float
    """Predicted over measured, minus 1."""
    with_host_term_ratio: float | None
    """The same error once each step also pays what the other calls lacked on average: generate()'s own host time and
    the growth of its cache. None where there are fewer than two others."""


class Hardware(Section):
    """The machine the steps ran on."""

    name: str
    device: Literal["cpu", "cuda"]
    threads: int
    """Threads torch used on the host."""
    memory_bytes: int
    """Memory of the device."""
    ceilings: Ceilings | None = None
    """What the device can do at most; no step is faster."""


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
    """Of this shard, where it is one."""
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    """1: the whole model. N: one of N shards, measured alone, without the all-reduces between them."""

    @classmethod
    def of(cls, name: str, config: ModelConfig, *, dtype: str, weights: str, tensor_parallel: int) -> Model:
        """The section for a whole model, or for the shard of it that `config` is."""
        return cls(
            name=name if tensor_parallel == 1 else f"{name}-tp{tensor_parallel}",
            config=config,
            params=config.num_params,
            dtype=dtype,
            weights=weights,
            kv_bytes_per_token=config.kv_bytes_per_token(dtype),
            tensor_parallel=tensor_parallel,
        )


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
    skipped: list[str] = []
    """Points that could not be measured, each with the reason."""
    faster_than_peak: list[str] = []
    """Visits left out of the fit because the device cannot be that fast."""
    device_before: DeviceState | None = None
    device_after: DeviceState | None = None


class Samples(Section):
    """The raw measurements, beside the profile."""

    file: str
    sha256: str
