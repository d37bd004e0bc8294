"""The least time a step can take on hardware whose ceilings are known, for any mixture of work."""

from __future__ import annotations

from dataclasses import dataclass

from infertuner.latency.forms import Work
from infertuner.latency.physics import SLACK, operations, read_bytes
from infertuner.latency.points import Point
from infertuner.latency.profile import Calibration

NOTHING = Point("decode", 0, 0, 0, "fit")
ONE_TOKEN = Point("decode", 1, 1, -1, "fit")
"""One token of one sequence that attends to nothing."""


@dataclass(frozen=True)
class Bounds:
    """Bytes and operations of a step as sums over its work, and the ceilings they are divided by.

    A law that fits its points well is never below; one that is extrapolated might be.
    """

    weights_s: float
    """Reading every weight."""
    entry_s: float
    """Reading a KV entry."""
    token_s: float
    """Computing a token in all layers."""
    sequence_s: float
    """Computing the logits of one token."""
    pair_s: float
    """Computing the attention between two tokens in all layers."""

    @classmethod
    def of(cls, calibration: Calibration) -> Bounds | None:
        """Those of a profile; None where the ceilings are not known."""
        peak, model = calibration.hardware.ceilings, calibration.model
        if peak is None or not (peak.read_bytes_per_s and peak.flops_per_s):
            return None
        config = model.config
        byte_s, operation_s = 1 / (SLACK * peak.read_bytes_per_s), 1 / (SLACK * peak.flops_per_s)
        head = 2 * config.hidden_size * config.vocab_size
        return cls(
            weights_s=byte_s * read_bytes(NOTHING, config, model.dtype),
            entry_s=byte_s * model.kv_bytes_per_token,
            token_s=operation_s * (operations(ONE_TOKEN, config) - head),
            sequence_s=operation_s * head,
            pair_s=operation_s * 4 * config.num_layers * config.num_heads * config.head_dim,
        )

    def least_s(self, work: Work) -> float:
        """Seconds below which no step can do this work."""
        return max(
            self.weights_s + self.entry_s * work.entries,
            self.token_s * work.tokens + self.sequence_s * work.sequences + self.pair_s * work.pairs,
        )
