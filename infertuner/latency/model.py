"""The questions every latency model answers: how long does a batch take, and how long an iteration of an engine?

Everything else in the package decides; a latency model alone says how long a step lasts.
Real hardware answers the same questions by running the batch, which is what makes validation possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from infertuner.latency.lines import DecodeLine
from infertuner.latency.noise import NoiseRing


class Chunk(NamedTuple):
    """Part of one prompt, prefilled in one iteration: new token i attends to `cached_tokens` + i entries."""

    cached_tokens: int
    new_tokens: int


class LatencyModel(Protocol):
    """Seconds for the work of a decoder. Implementations are deterministic and keep no clock."""

    outside_calls: int
    """Answers given so far beyond what was measured; a model that refuses those, or knows no bounds, stays at 0.
    A static batch asks once for all its steps; a continuous engine counts every iteration."""

    @property
    def noise(self) -> NoiseRing | None:
        """Multipliers of iteration times; None where a step always takes the same. The GPU applies them."""
        ...

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds to prefill `batch_size` sequences of `new_tokens` each.

        cached_tokens: KV entries each sequence already has and its new tokens attend to.
        0 new tokens take 0 seconds. Sequences of a static batch are padded to one length, hence one number for all.
        """
        ...

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds for `steps` decode iterations of a constant batch.

        context_tokens: KV entries each sequence attends to in the first of these iterations; one more in each next.
        """
        ...

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Seconds of an iteration that carries prefill: one chunk or more, beside `decodes` sequences decoding a token.

        kv_entries: entries those decodes attend to, summed over sequences, each one's own new token included.
        """
        ...

    def decode_line(self, batch_size: int) -> DecodeLine:
        """Seconds of one iteration in which `batch_size` sequences decode and nobody prefills, over KV entries read."""
        ...

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """Learn that `steps` iterations lay outside `low` .. `high` of a decode line: count them, or refuse.

        kv_entries: what the first such iteration reads. Raises OutOfRangeError when the scenario wants refusal.
        """
        ...
