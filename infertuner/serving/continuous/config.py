"""Iteration-level batching as scenario parts, spelled as vLLM spells its knobs."""

from __future__ import annotations

from typing import Literal

from infertuner.errors import ScenarioError
from infertuner.parts import Count, CountOrZero, Ratio, part
from infertuner.serving.continuous.blocks import Blocks, OwnBlocks, PlainBlocks
from infertuner.serving.continuous.prefix_blocks import ListedBlocks, SessionBlocks
from infertuner.sources.requests import Requests


def _refuse_small_budget(max_num_batched_tokens: int, max_num_seqs: int) -> None:
    if max_num_batched_tokens < max_num_seqs:
        raise ValueError(
            f"max_num_batched_tokens: is {max_num_batched_tokens}, must be max_num_seqs ({max_num_seqs}) or more, "
            "so that every running request can decode"
        )


@part
class Continuous:
    """Batches formed anew at every iteration, in the order of vLLM V1: running requests first, then waiting ones."""

    kind: Literal["continuous"]
    num_gpu_blocks: Count
    """KV blocks as the engine reports them at start ("num_gpu_blocks" in its log or metrics). Measured, not derived:
    it depends on activation memory and CUDA graphs. As in vLLM V1, one of them holds nothing."""
    max_num_seqs: Count = 256
    """Requests running at most."""
    max_num_batched_tokens: Count = 8192
    """Tokens of one iteration at most: one for each decoding request, the rest for prefills."""
    max_model_len: Count | None = None
    """Prompt and output of a request at most; longer ones are rejected. Without it only memory limits them."""
    block_size: Count = 16
    """Tokens in a KV block."""
    watermark: Ratio = 0.0
    """Share of the blocks that admitting a waiting request must leave free; 0 as in vLLM V1."""
    enable_prefix_caching: bool = True
    """Whether computed blocks can be found again, by other requests and by preempted ones."""
    enable_chunked_prefill: bool = True
    """Whether a prompt may be computed over several iterations; if not, it waits until it fits into one."""
    long_prefill_token_threshold: CountOrZero = 0
    """Most prefill tokens of one request in one iteration; 0 sets no bound."""
    scheduler_reserve_full_isl: bool = True
    """Whether a request is admitted only if blocks for all its tokens are free, and not just for its first chunk."""
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    """Who goes first, and who is preempted last: first come, or the lowest priority number (then first come)."""

    prefill_first = False

    def __post_init__(self) -> None:
        _refuse_small_budget(self.max_num_batched_tokens, self.max_num_seqs)

    @property
    def usable_blocks(self) -> int:
        """All but the one that vLLM V1 sets aside as a placeholder."""
        return self.num_gpu_blocks - 1

    def blocks(self, asked: Requests) -> Blocks:
        """The KV memory of one GPU, in the cheapest form that this workload allows.

        Raises ScenarioError if the workload's blocks cannot be cut into blocks of this size.
        """
        if not self.enable_prefix_caching:
            return PlainBlocks(self.usable_blocks, self.block_size)
        if asked.blocks is not None:
            if asked.blocks.block_tokens % self.block_size:
                raise ScenarioError(
                    f"cluster.batcher.block_size: is {self.block_size}, must divide the {asked.blocks.block_tokens} "
                    "tokens behind each block id of the workload; change it or set enable_prefix_caching: false"
                )
            return ListedBlocks(self.usable_blocks, self.block_size, asked.blocks)
        if int(asked.prefix_tokens.max(initial=0)) >= self.block_size:
            return SessionBlocks(self.usable_blocks, self.block_size)
        return OwnBlocks(self.usable_blocks, self.block_size)


@part
class PrefillFirst:
    """Batches formed anew at every iteration, in the order of vLLM V0: prefills whole and alone, decodes wait."""

    kind: Literal["prefill_first"]
    num_gpu_blocks: Count
    """KV blocks as the engine reports them at start: measured, not derived."""
    max_num_seqs: Count = 256
    """Requests running at most."""
    max_num_batched_tokens: Count = 8192
    """Prompt tokens of one iteration at most; a request with more is rejected."""
    max_model_len: Count | None = None
    """Prompt and output of a request at most; longer ones are rejected. Without it only memory limits them."""
    block_size: Count = 16
    """Tokens in a KV block."""
    watermark: Ratio = 0.01
    """Share of the blocks that admitting a waiting request must leave free."""

    prefill_first = True
    enable_prefix_caching = False
    enable_chunked_prefill = False
    scheduler_reserve_full_isl = True
    long_prefill_token_threshold = 0
    scheduling_policy = "fcfs"

    def __post_init__(self) -> None:
        _refuse_small_budget(self.max_num_batched_tokens, self.max_num_seqs)

    @property
    def usable_blocks(self) -> int:
        """All."""
        return self.num_gpu_blocks

    def blocks(self, asked: Requests) -> Blocks:
        """The KV memory of one GPU."""
        return PlainBlocks(self.usable_blocks, self.block_size)
