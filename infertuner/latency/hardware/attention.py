"""Attention without a mask tensor, over KV caches that are written in place.

The slot cache moves the bytes a paged engine moves; a cache that concatenates would copy itself at every step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

ATTENTION = "infertuner"
"""Name under which the mask-free attention is registered with transformers."""
BLOCK_TOKENS = 256
"""Queries of a chunk behind a cached prefix that a CPU attends for at once."""


class SlotCache:
    """KV cache of one batch: a slot a sequence, `cached_tokens` of it filled, the rest for the step's new tokens."""

    def __init__(self, layers: list[tuple[Any, Any]], cached_tokens: int) -> None:
        self.layers = layers
        self.cached_tokens = cached_tokens

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write the step's keys and values in place and return all there are; called by transformers."""
        stored_keys, stored_values = self.layers[layer]
        stored_keys[:, :, self.cached_tokens :] = keys
        stored_values[:, :, self.cached_tokens :] = values
        return stored_keys, stored_values

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens in the cache before the step; called by transformers."""
        return self.cached_tokens


class Packed(NamedTuple):
    """Keys, or values, of a mixed iteration: (1, KV heads, context, head dim) and (decodes, KV heads, context, ...)."""

    chunk: Any
    decodes: Any


class PackedCache:
    """KV cache of a mixed iteration: a slot for the chunk and one for each sequence that decodes beside it."""

    def __init__(self, chunk: SlotCache, decodes: SlotCache, new_tokens: int) -> None:
        self.chunk, self.decodes = chunk, decodes
        self.new_tokens = new_tokens

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Packed, Packed]:
        """Write the packed row's keys and values to where they belong; called by transformers."""
        new = self.new_tokens
        chunk_keys, chunk_values = self.chunk.update(keys[:, :, :new], values[:, :, :new], layer)
        own_keys, own_values = (packed[:, :, new:].transpose(0, 2) for packed in (keys, values))
        decode_keys, decode_values = self.decodes.update(own_keys, own_values, layer)
        return Packed(chunk_keys, decode_keys), Packed(chunk_values, decode_values)

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens of the chunk's sequence before the step; called by transformers."""
        return self.chunk.cached_tokens


def register_attention() -> None:
    """Causal attention as a call says it, so that every step takes the same kernel whatever surrounds it.

    An attention transformers knows no mask for gets none; left to itself it may build one (while a CUDA graph is being
    captured, say) and then silently run masked attention over repeated keys and values.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)


def _attention(_: Any, queries: Any, keys: Any, values: Any, *__: Any, scaling: float, **___: Any) -> tuple[Any, None]:
    """What transformers calls in each layer; returns (batch, tokens, heads, head dim)."""
    if not isinstance(keys, Packed):
        return _attend(queries, keys, values, scaling).transpose(1, 2).contiguous(), None
    import torch

    new = queries.shape[2] - keys.decodes.shape[0]
    chunk = _attend(queries[:, :, :new], keys.chunk, values.chunk, scaling)
    own = _attend(queries[:, :, new:].transpose(0, 2), keys.decodes, values.decodes, scaling)
    return torch.cat([chunk.transpose(1, 2), own.transpose(0, 2).transpose(1, 2)], dim=1), None


def _attend(queries: Any, keys: Any, values: Any, scaling: float) -> Any:
    """Queries are the last tokens of their context: each sees everything up to itself.

    On a CPU, torch computes a chunk behind a prefix with a mask, hidden pairs included; block after block, hardly any
    are hidden. Real engines' kernels skip them.
    """
    import torch

    new, context = queries.shape[2], keys.shape[2]
    if queries.device.type != "cpu" or not BLOCK_TOKENS < new < context:
        return _attend_at_once(queries, keys, values, scaling)
    cached = context - new
    ends = [*range(BLOCK_TOKENS, new, BLOCK_TOKENS), new]
    blocks = [
        _attend_at_once(queries[:, :, begin:end], keys[:, :, : cached + end], values[:, :, : cached + end], scaling)
        for begin, end in zip([0, *ends], ends, strict=False)
    ]
    return torch.cat(blocks, dim=2)


def _attend_at_once(queries: Any, keys: Any, values: Any, scaling: float) -> Any:
    from torch.nn import functional
    from torch.nn.attention.bias import causal_lower_right

    new, context = queries.shape[2], keys.shape[2]
    return functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=causal_lower_right(new, context) if 1 < new < context else None,
        is_causal=new > 1 and new == context,
        scale=scaling,
        enable_gqa=True,
    )
