"""Step times for `vllm_fidelity.py` that no scenario needs: four coefficients, and published tables without a law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infertuner.latency.importers.llmservingsim import LayerTables
from infertuner.latency.lines import DecodeLine
from infertuner.latency.model import Chunk

FAR = 2**40
"""KV entries that nobody reads: the end of a line without bounds."""
CONTEXTS = (16, 64, 128, 256, 512, 768, 1024, 1152, 1536, 1728, 2048, 2592, 3888, 4096, 8192, 16384)
"""Contexts between which a table is taken to be straight: those at which it was timed, or nearly."""


@dataclass
class Affine:
    """Seconds of an iteration: fixed_s + prefill_token_s x new tokens + decode_s x decodes + kv_entry_s x entries."""

    fixed_s: float
    prefill_token_s: float
    decode_token_s: float
    kv_entry_s: float
    outside_calls = 0
    noise = None

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds of a prefill alone."""
        return self.fixed_s + self.prefill_token_s * batch_size * new_tokens

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds of so many decode steps."""
        mean_entries = batch_size * (context_tokens + 0.5 * (steps - 1))
        return steps * (self.fixed_s + self.decode_token_s * batch_size + self.kv_entry_s * mean_entries)

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Seconds of a mixed iteration."""
        new_tokens = sum(chunk.new_tokens for chunk in chunks)
        return (
            self.fixed_s
            + self.prefill_token_s * new_tokens
            + self.decode_token_s * decodes
            + self.kv_entry_s * kv_entries
        )

    def decode_line(self, batch_size: int) -> DecodeLine:
        """One decode iteration over the entries it reads."""
        first_s = self.fixed_s + self.decode_token_s * batch_size
        return DecodeLine(batch_size, [(0, first_s), (10**7, first_s + 1e7 * self.kv_entry_s)], 0, FAR)

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """Nothing: it has no bounds."""


@dataclass
class Tables:
    """Iterations looked up in kernel tables; several chunks count as one of their sum, decodes as equally long."""

    steps: LayerTables
    host_gap_s: float
    outside_calls = 0
    noise = None
    _lines: dict[int, DecodeLine] = field(default_factory=dict)

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Seconds of an iteration."""
        return self.host_gap_s + self.steps.iteration_s(
            new_tokens=sum(chunk.new_tokens for chunk in chunks),
            cached_tokens=sum(chunk.cached_tokens for chunk in chunks),
            decodes=decodes,
            context_tokens=kv_entries / decodes if decodes else 0.0,
            sequences=len(chunks) + decodes,
        )

    def decode_line(self, batch_size: int) -> DecodeLine:
        """One decode iteration over the entries it reads."""
        if batch_size not in self._lines:
            corners = [
                (batch_size * c, self.iteration_s(chunks=(), decodes=batch_size, kv_entries=batch_size * c))
                for c in CONTEXTS
            ]
            self._lines[batch_size] = DecodeLine(batch_size, corners, 0, FAR)
        return self._lines[batch_size]

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds of a prefill alone."""
        chunk = Chunk(batch_size * cached_tokens, batch_size * new_tokens)
        return self.iteration_s(chunks=[chunk], decodes=0, kv_entries=0)

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds of so many decode steps."""
        return self.decode_line(batch_size).span_ps(batch_size * context_tokens, steps) * 1e-12

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """Nothing: lookups go on in a straight line."""
