"""The tiers of every GPU, from the `cache` section."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from infertuner.cache.eviction.kinds import policy_of
from infertuner.cache.tiers.config import TierConfig, Tiered
from infertuner.cache.tiers.tier import EntryTier, Tier
from infertuner.errors import ScenarioError


def build_tiers(
    config: Tiered,
    bytes_per_token: float,
    *,
    gpus: int = 1,
    seed: int = 0,
    next_use: Callable[[int], Sequence[int]] | None = None,
) -> list[list[Tier]]:
    """The tiers that each GPU sees, in the order of looking; those that are shared are the same objects for all.

    bytes_per_token: KV of one token over all layers.
    seed: of what policies draw; each tier draws apart.
    next_use: what `policy_of` wants to know of the future of a GPU's tier, or, asked with -1, of one that all share;
        for eviction: belady, which is refused without it.
    """

    def build(gpu_id: int, place: int, name: str, of: TierConfig) -> Tier:
        future = None
        if of.eviction == "belady":
            if next_use is None:
                raise ScenarioError(f"tiers: {name}: eviction: belady knows the future; use it with driver: replay")
            if place and config.placement == "exclusive":
                raise ScenarioError(f"tiers: {name}: eviction: belady must see every request; use it in the first tier")
            future = next_use(gpu_id)
        own_seed = seed + (gpu_id + 1) * len(config.tiers) + place
        capacity = math.floor(of.capacity / bytes_per_token) if of.in_bytes else of.capacity
        policy = policy_of(of.eviction, capacity, seed=own_seed, next_use=future)
        kind = Tier if of.in_bytes else EntryTier
        return kind(name, policy, bytes_per_token=bytes_per_token, shared=of.shared)

    if not bytes_per_token > 0:
        raise ScenarioError(f"kv_bytes_per_token: is {bytes_per_token:g}, must be above 0")
    named = list(enumerate(config.tiers.items()))
    shared = {name: build(-1, place, name, of) for place, (name, of) in named if of.shared}
    return [
        [shared[name] if of.shared else build(gpu_id, place, name, of) for place, (name, of) in named]
        for gpu_id in range(gpus)
    ]
