"""The question every latency model answers: how long does a batch take?

Everything else in the package decides; a latency model alone says how long a step lasts.
Real hardware answers the same two questions by running the batch, which is what makes validation possible.
"""

from __future__ import annotations

from typing import Protocol


class LatencyModel(Protocol):
    """Seconds for the two kinds of work of a decoder. Implementations are deterministic and keep no clock."""

    outside_calls: int
    """Answers given so far beyond what was measured; a model that refuses those, or knows no bounds, stays at 0."""

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
