"""What an importer hands on: seconds of whole iterations, and what they were measured on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from infertuner.latency.importers.gpus import Gpu
from infertuner.latency.models import ModelConfig
from infertuner.latency.points import Point


@dataclass(frozen=True)
class Observation:
    """One iteration and how long it took."""

    point: Point
    seconds: float


@dataclass(frozen=True)
class Origin:
    """Where numbers were published."""

    url: str
    licence: str
    software: str
    """The engine and version whose kernels were timed."""
    attention: str
    note: str
    """How iterations were put together, and what is not in them."""


@dataclass(frozen=True)
class Reach:
    """How far a table reaches, smallest and largest of each axis, and the KV entries that the GPU can hold."""

    decode_batch: tuple[int, int]
    context_tokens: tuple[int, int]
    prefill_batch: tuple[int, int]
    new_tokens: tuple[int, int]
    """Of one sequence in a prefill, or of a chunk beside decodes."""
    batch_tokens: int
    """The most new tokens of one iteration."""
    timed_tokens: tuple[int, ...]
    """Numbers of tokens whose matrix products were timed."""
    kv_entries: int
    """The most KV entries of all sequences together."""
    cached: bool
    """Whether prefills behind a cached prefix were measured."""


class Steps(Protocol):
    """A published table that can say how long an iteration takes."""

    reach: Reach

    def step_s(self, point: Point) -> float:
        """Seconds of one iteration: sums of measured kernels, interpolated between the table's rows."""
        ...


@dataclass(frozen=True)
class Published:
    """Everything an importer found in a file."""

    origin: Origin
    gpu: Gpu
    model_name: str
    config: ModelConfig
    tensor_parallel: int
    files: list[Path]
    steps: Steps | None = None
    """The table, where iterations can be asked of it at will."""
    observations: list[Observation] = field(default_factory=list)
    """Otherwise the iterations that were published."""
    left_out: list[str] = field(default_factory=list)
    """Rows that cannot be, each with the reason."""
