"""Eviction policies by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infertuner.cache.eviction.arc import Arc
from infertuner.cache.eviction.belady import Belady
from infertuner.cache.eviction.fifo import Fifo
from infertuner.cache.eviction.lfu import Lfu
from infertuner.cache.eviction.lru import Lru
from infertuner.cache.eviction.policy import EvictionPolicy
from infertuner.cache.eviction.random import Random
from infertuner.cache.eviction.s3fifo import S3Fifo
from infertuner.cache.eviction.sieve import Sieve
from infertuner.cache.eviction.wtinylfu import WTinyLfu
from infertuner.errors import ScenarioError

ONLINE: dict[str, Callable[[int], EvictionPolicy]] = {
    "lru": Lru,
    "fifo": Fifo,
    "lfu": Lfu,
    "sieve": Sieve,
    "s3fifo": S3Fifo,
    "arc": Arc,
    "wtinylfu": WTinyLfu,
}
"""The policies that need to know nothing but their capacity."""


def policy_of(name: str, capacity: int, *, seed: int = 0, next_use: Sequence[int] | None = None) -> EvictionPolicy:
    """An empty policy of the given name; `seed` is for random, `next_use` for belady (see there).

    Raises ScenarioError for an unknown name, and for belady without a future.
    """
    if name == "random":
        return Random(capacity, seed)
    if name == "belady":
        if next_use is None:
            raise ScenarioError("belady: needs to know all requests; use it to replay a trace, not in a simulation")
        return Belady(capacity, next_use)
    if name not in ONLINE:
        raise ScenarioError(f"eviction {name}: no such policy; one of {', '.join([*ONLINE, 'random', 'belady'])}")
    return ONLINE[name](capacity)
