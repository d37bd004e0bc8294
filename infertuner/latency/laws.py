"""Latency laws written down by hand, for published experiments and for reasoning on paper."""

from __future__ import annotations

from typing import Literal

from infertuner.parts import Seconds, part


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

    def model(self) -> PerToken:
        """The law itself; it reads no file."""
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
