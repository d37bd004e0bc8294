"""Bytes of KV cache that a sequence takes, from the shape of its model's attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class GroupedQuery:
    """Layers with a key and a value per KV head: MHA where every head has its own, MQA where all share one."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    sliding_window: int | None = None
    """Tokens each layer looks back on and keeps; without it all."""

    def bytes_of(self, tokens: int, element_bytes: float, tp: int) -> float:
        """On one of `tp` tensor-parallel GPUs, which divide the KV heads; fewer heads than GPUs are replicated."""
        kept = tokens if self.sliding_window is None else min(tokens, self.sliding_window)
        per_token = 2 * self.num_layers * self.num_kv_heads * self.head_dim * element_bytes
        return kept * per_token / min(tp, self.num_kv_heads)


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Layers with multi-head latent attention (MLA): one compressed vector and one rotary key for all heads.

    It has no heads to divide, so every tensor-parallel GPU keeps all of it.
    """

    num_layers: int
    kv_lora_rank: int
    qk_rope_head_dim: int

    def bytes_of(self, tokens: int, element_bytes: float, tp: int) -> float:
        """On each of `tp` tensor-parallel GPUs."""
        return tokens * self.num_layers * (self.kv_lora_rank + self.qk_rope_head_dim) * element_bytes


@dataclass(frozen=True, kw_only=True)
class ConstantState:
    """Layers whose state does not grow with the sequence, such as linear attention or a state space model."""

    num_layers: int
    state_bytes: float
    """Of one layer and sequence, over all tensor-parallel GPUs; it is divided among them."""

    def bytes_of(self, tokens: int, element_bytes: float, tp: int) -> float:
        """On one of `tp` tensor-parallel GPUs; 0 for an empty sequence."""
        return self.num_layers * self.state_bytes / tp if tokens else 0.0


Layers: TypeAlias = GroupedQuery | Latent | ConstantState
"""Layers of one kind; their names are those of the models' `config.json`."""


def kv_bytes(layers: Sequence[Layers], tokens: int, *, element_bytes: float = 2, tp: int = 1) -> float:
    """Bytes of KV cache of a sequence of `tokens` on one of `tp` tensor-parallel GPUs, over all its layers.

    A model with layers of several kinds lists each. `element_bytes` is 2 for bf16 and fp16, 1 for fp8.
    """
    return sum(kind.bytes_of(tokens, element_bytes, tp) for kind in layers)
