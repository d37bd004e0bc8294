"""Latency laws written down by hand, for published experiments and for reasoning on paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from infertuner.latency.lines import DecodeLine
from infertuner.latency.model import Chunk
from infertuner.parts import Seconds, part
from infertuner.streams import Streams

FAR = 2**62
"""More KV entries than anybody reads: the end of a line that has no bounds."""


@part
class PerToken:
    """So many seconds a token: service time proportional to length, the law of the published single-request services.

    A prefill yields the first output token and decode steps the others. A service that takes 9.9 ms an output token
    and nothing else is `base_s: 9.9ms, per_output_token_s: 9.9ms`.
    """

    kind: Literal["per_token"]
    base_s: Seconds = 0.0
    """Seconds of every prefill whatever its size, its first output token included."""
    per_prompt_token_s: Seconds = 0.0
    """Seconds of every prompt token that is not cached, added over the sequences of a batch."""
    per_output_token_s: Seconds
    """Seconds of one decode step of a single sequence."""
    per_sequence_s: Seconds = 0.0
    """Seconds each further sequence of a batch adds to a decode step."""

    outside_calls = 0
    noise = None

    def model(self, streams: Streams) -> PerToken:
        """The law itself; it reads no file and draws nothing."""
        return self

    def source(self) -> str:
        """Where its seconds come from."""
        return "a law written in the scenario"

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds to prefill a batch; cached tokens cost nothing."""
        return self.base_s + self.per_prompt_token_s * batch_size * new_tokens if new_tokens else 0.0

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds for `steps` decode steps; the context does not matter."""
        return steps * (self.per_output_token_s + self.per_sequence_s * (batch_size - 1))

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Seconds of an iteration: those of its prefill and those of its decode step, one after the other."""
        new_tokens = sum(chunk.new_tokens for chunk in chunks)
        prefill_s = self.prefill_s(batch_size=1, new_tokens=new_tokens, cached_tokens=0)
        return prefill_s + self.decode_s(batch_size=decodes, context_tokens=0, steps=1 if decodes else 0)

    def decode_line(self, batch_size: int) -> DecodeLine:
        """Seconds of one decode iteration, whatever it reads."""
        return DecodeLine(batch_size, [(0, self.decode_s(batch_size=batch_size, context_tokens=0, steps=1))], 0, FAR)

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """Nothing: a law has no bounds."""
