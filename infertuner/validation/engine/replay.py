"""The measured iterations handed back to the simulator: what is left of the error is the schedule's."""

from __future__ import annotations

from collections.abc import Sequence

from infertuner.latency.lines import DecodeLine
from infertuner.latency.model import Chunk
from infertuner.latency.noise import NoiseRing

UNIT_S = 1e-6
"""Every iteration takes this long, times its noise in per mille: measured seconds to the nanosecond."""
ENDLESS = 1 << 60


class ReplayedIterations:
    """Iteration number i takes the seconds that iteration i took, whatever is in it; only for continuous batches."""

    outside_calls = 0

    def __init__(self, seconds: Sequence[float]) -> None:
        self.noise: NoiseRing | None = NoiseRing([max(1, round(1000 * one / UNIT_S)) for one in seconds])

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """As every iteration."""
        return UNIT_S

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """As every iteration."""
        return steps * UNIT_S

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """As every iteration."""
        return UNIT_S

    def decode_line(self, batch_size: int) -> DecodeLine:
        """As every iteration."""
        return DecodeLine(batch_size, [(0, UNIT_S)], 0, ENDLESS)

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """There is no outside."""
