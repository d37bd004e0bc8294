"""A decoder on a device, ready to run any step of a design."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infertuner.latency.hardware.attention import PackedCache, SlotCache
from infertuner.latency.hardware.timing import Device, Graphs, Stopwatch
from infertuner.latency.measuring.samples import Timing
from infertuner.latency.models import ModelConfig
from infertuner.latency.points import Point

GRAPH_UP_TO_TOKENS = 2048
"""On CUDA steps of at most so many tokens replay a graph; in larger ones the kernels outlast the host anyway."""


@dataclass
class Decoder:
    """A decoder on a device, with memory for its KV cache, ready to run and time steps."""

    network: Any
    config: ModelConfig
    device: Device
    arena: list[tuple[Any, Any]]
    """Flat memory for keys and values of each layer; every step takes its slots from the beginning."""
    graphs: Graphs = field(default_factory=Graphs)

    def __post_init__(self) -> None:
        self.stopwatch = Stopwatch(self.device)

    def step(self, point: Point) -> Callable[[], Any]:
        """A call that runs one step of `point`: forward pass and the greedy choice of one token a sequence."""
        return self._mixed_step(point) if point.kind == "mixed" else self._even_step(point)

    def quick_step(self, point: Point) -> Callable[[], Any]:
        """The same without the host in between where an engine has it so: small steps replay a graph on CUDA."""
        if self.device == "cuda" and point.batch_tokens <= GRAPH_UP_TO_TOKENS:
            return self.graphs.replay(point, lambda: self.step(point))
        return self.step(point)

    def visit(self, point: Point, target_s: float) -> Timing:
        """Time `point` for about `target_s`."""
        import torch

        with torch.inference_mode():
            return self.stopwatch.time(self.quick_step(point), target_s)

    def slots(self, point: Point) -> SlotCache:
        """The KV cache `point` needs but for decodes beside a chunk, as views of the arena."""
        return self._slots(point.batch_size, point.context_tokens, point.cached_tokens, 0)

    def _slots(self, batch_size: int, context_tokens: int, cached_tokens: int, skipped: int) -> SlotCache:
        """(batch, KV heads, context, head dim) of the arena, after `skipped` KV entries."""
        entry = self.config.num_kv_heads * self.config.head_dim
        shape = (batch_size, self.config.num_kv_heads, context_tokens, self.config.head_dim)
        begin, end = skipped * entry, (skipped + batch_size * context_tokens) * entry
        layers = [(keys[begin:end].view(shape), values[begin:end].view(shape)) for keys, values in self.arena]
        return SlotCache(layers, cached_tokens)

    def _even_step(self, point: Point) -> Callable[[], Any]:
        """Equal sequences: a prefill, chunks behind a prefix, or a decode step."""
        import torch

        ids = self._random_ids(point.batch_size, point.new_tokens)
        positions = torch.arange(point.cached_tokens, point.context_tokens, device=self.device)[None]
        return self._forward(ids, positions, self.slots(point), last=1)

    def _mixed_step(self, point: Point) -> Callable[[], Any]:
        """One packed row: the chunk's tokens, then one token of each sequence that decodes beside it."""
        import torch

        context = point.decode_context_tokens
        chunk = torch.arange(point.cached_tokens, point.context_tokens, device=self.device)
        own = torch.full((point.decodes,), context - 1, device=self.device)
        cache = PackedCache(
            self.slots(point), self._slots(point.decodes, context, context - 1, point.kv_entries), point.new_tokens
        )
        ids = self._random_ids(1, point.batch_tokens)
        return self._forward(ids, torch.cat([chunk, own])[None], cache, last=1 + point.decodes)

    def _forward(self, ids: Any, positions: Any, cache: SlotCache | PackedCache, last: int) -> Callable[[], Any]:
        """The forward pass over these tokens; logits are computed for the `last` ones of each row."""

        def run() -> Any:
            output = self.network(
                ids, past_key_values=cache, position_ids=positions, use_cache=True, logits_to_keep=last
            )
            return output.logits.argmax(-1)

        return run

    def _random_ids(self, rows: int, tokens: int) -> Any:
        import torch

        return torch.randint(0, self.config.vocab_size, (rows, tokens), device=self.device)
