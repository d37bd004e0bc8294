"""What tests of eviction policies share."""

from __future__ import annotations

from infertuner.cache.analysis.uses import next_uses
from infertuner.cache.eviction.kinds import policy_of

NAMES = ("lru", "fifo", "lfu", "sieve", "s3fifo", "arc", "wtinylfu", "random", "belady")


def made(name, capacity, requests=(), seed=0):
    """An empty policy; `requests` is the future that belady is told."""
    return policy_of(name, capacity, seed=seed, next_use=next_uses(requests).tolist())


def hits(name, capacity, requests, seed=0):
    """Hits of a trace with unit sizes."""
    policy = made(name, capacity, requests, seed)
    return sum(policy.access(key, 1) for key in requests)


def left(policy, keys):
    """Who leaves, one after the other, when `keys` come in with size 1."""
    return [key for new in keys for key, _ in policy.insert(new, 1)]
