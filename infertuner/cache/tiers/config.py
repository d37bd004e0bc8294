"""The `cache` section of kind `tiered`: which tiers there are, what they hold, and how entries move between them."""

from __future__ import annotations

from typing import Literal

from infertuner.cache.sizing.elastic import Elastic
from infertuner.parts import Bytes, BytesPerSecond, Count, NonNegative, Seconds, part

Eviction = Literal["lru", "fifo", "lfu", "sieve", "s3fifo", "arc", "wtinylfu", "random", "belady"]
"""Who leaves a full tier; `belady` knows the future and works in a replay only."""


@part
class TierConfig:
    """One tier: how much it holds, who leaves first, and the link over which its entries reach the GPU."""

    capacity_bytes: Bytes | None = None
    """Most bytes held. Give this or capacity_entries."""
    capacity_entries: Count | None = None
    """Most entries held, whatever their size: sessions or blocks."""
    eviction: Eviction = "lru"
    """Who leaves when it is full."""
    read_bytes_per_s: BytesPerSecond | None = None
    """Bandwidth from this tier towards the GPU, shared by all that is read at once; without it reading takes no time,
    as for the GPU's own memory."""
    write_bytes_per_s: BytesPerSecond | None = None
    """Bandwidth into this tier; without it the same as for reading."""
    latency_s: Seconds = 0.0
    """Time before the first byte of a read."""
    shared: bool = False
    """Whether all GPUs share the tier and its link; otherwise each has its own."""
    price_per_gb_hour: NonNegative = 0.0
    """What 10**9 bytes cost an hour, in the currency of your choice."""
    sizing: Elastic | None = None
    """A controller that resizes it; without one the capacity stays."""

    def __post_init__(self) -> None:
        if (self.capacity_bytes is None) == (self.capacity_entries is None):
            raise ValueError("give capacity_bytes or capacity_entries, and not both")
        if self.sizing is not None:
            self.sizing.check_unit(self.in_bytes)

    @property
    def capacity(self) -> int:
        """In the tier's own unit."""
        return int(self.capacity_bytes) if self.capacity_bytes is not None else self.capacity_entries or 0

    @property
    def in_bytes(self) -> bool:
        """Whether sizes are bytes; otherwise each entry counts 1."""
        return self.capacity_bytes is not None


@part
class Tiered:
    """Tiers from the fastest to the slowest, by name; each is looked into when those before it do not have a key."""

    kind: Literal["tiered"]
    """Tiers in bytes or entries."""
    tiers: dict[str, TierConfig]
    """Each tier by its name, such as hbm, dram, nvme, remote; the order is that of looking."""
    keys: Literal["session", "block"] = "session"
    """What is one entry: all KV of a session, found whole or not at all, or a block of tokens, found by its prefix."""
    block_tokens: Count = 16
    """Tokens of a block where keys are blocks and the workload does not bring blocks of its own."""
    kv_bytes_per_token: Bytes | None = None
    """KV of one token over all layers; without it, that of the model in the latency profile."""
    placement: Literal["inclusive", "exclusive"] = "inclusive"
    """Whether what a tier holds is in slower ones too, or in one tier only: moved up when used, down when evicted."""
    write: Literal["through", "selective", "back"] = "through"
    """When an entry is copied to the next slower tier: at once, after `selective_uses` requests, or when it is evicted.
    Exclusive tiers write back."""
    selective_uses: Count = 2
    """Requests for an entry before it is worth a copy in the next tier; for write: selective."""
    load: Literal["always", "faster"] = "faster"
    """Whether what is found is always loaded, or only where loading it over the link as it is now takes less time than
    prefilling it."""

    def __post_init__(self) -> None:
        if not self.tiers:
            raise ValueError("tiers: is empty; name at least one, such as {dram: {capacity_bytes: 1TB}}")
        if self.placement == "exclusive" and self.write != "back":
            raise ValueError(f"write: is {self.write!r} and exclusive tiers hold one copy; use write: back")
