"""What models of whole static batches have in common: an engine's questions are refused."""

from __future__ import annotations

from collections.abc import Sequence

from infertuner.errors import InferTunerError
from infertuner.latency.lines import DecodeLine
from infertuner.latency.model import Chunk


class StaticOnly:
    """A model that cannot say how long an iteration of an engine takes; each says in its own words why."""

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Refused."""
        raise self._refusal()

    def decode_line(self, batch_size: int) -> DecodeLine:
        """Refused."""
        raise self._refusal()

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """Refused."""
        raise self._refusal()

    def _refusal(self) -> InferTunerError:
        """Why there are only static batches, and what to use instead."""
        raise NotImplementedError
