"""The `cache` section of a scenario: which tiers there are, what they cost and what a hit saves."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from infertuner.cache.sizing.fluid import Fluid
from infertuner.cache.sizing.frequency import Frequency
from infertuner.cache.sizing.static import Static
from infertuner.cache.tiers.config import Tiered
from infertuner.parts import Bytes, BytesPerSecond, CountOrZero, Seconds, part
from infertuner.records import CacheLevel

Sizing: TypeAlias = Annotated[Static | Fluid | Frequency, Field(discriminator="kind")]


@part
class TwoLevel:
    """A local tier per GPU in front of one remote tier that all GPUs share, both LRU and counted in entries.

    One entry is one session's KV. The local tier is resized by a policy; looking into it costs nothing. Whatever it
    does not hold is looked for in the remote tier, which costs the remote latency whether it is found there or not.
    """

    kind: Literal["two_level"]
    """A local tier per GPU in front of one that all GPUs share."""
    sizing: Sizing
    """How many entries the local tier of each GPU has."""
    remote_entries: CountOrZero | None = None
    """Entries of the remote tier, 0 for none; without it the tier is unbounded, as in the published experiment."""
    remote_latency_s: Seconds
    """Time to look into the remote tier, found or not; 50ms in the published experiment."""
    remote_bandwidth_bytes_per_s: BytesPerSecond | None = None
    """Bandwidth at which a remote hit is copied to the GPU; without it the copy takes no time beyond the latency."""
    kv_bytes_per_token: Bytes | None = None
    """Size of one token's keys and values over all layers; needed with remote_bandwidth_bytes_per_s, and only then."""
    miss_penalty_s: Seconds = 0.0
    """Time a miss costs beyond the look into the remote tier; 1s in the published experiment, for a refetch."""
    saves_prefill: bool = True
    """Whether cached tokens need no prefill; false in the published experiment, where a hit only spares the penalty."""
    fetch_occupies_gpu: bool = False
    """Whether the GPU stands still while a prefix is fetched; true in the published experiment."""

    def __post_init__(self) -> None:
        if (self.remote_bandwidth_bytes_per_s is None) != (self.kv_bytes_per_token is None):
            raise ValueError(
                f"remote_bandwidth_bytes_per_s ({self.remote_bandwidth_bytes_per_s}) and kv_bytes_per_token "
                f"({self.kv_bytes_per_token}) must be given together: tokens x bytes / bandwidth is the copying time"
            )

    def fetch_s(self, level: CacheLevel, tokens: int) -> float:
        """Seconds until the prefix found at `level` is on the GPU: 0 for a local hit.

        A remote hit takes the latency plus tokens x kv_bytes_per_token / bandwidth, the link to itself.
        A miss pays the same latency, since only looking tells that the prefix is not there, and then the penalty.
        """
        if level is CacheLevel.REMOTE:
            return self.remote_latency_s + self._copy_s(tokens)
        if level is CacheLevel.MISS:
            return self.remote_latency_s + self.miss_penalty_s
        return 0.0

    def _copy_s(self, tokens: int) -> float:
        if self.remote_bandwidth_bytes_per_s is None or self.kv_bytes_per_token is None:
            return 0.0
        return tokens * self.kv_bytes_per_token / self.remote_bandwidth_bytes_per_s


Cache: TypeAlias = Annotated[TwoLevel | Tiered, Field(discriminator="kind")]
