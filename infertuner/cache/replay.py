"""A sequence of lookups without a simulation around it: what the cache alone does with it, fast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from infertuner.cache.config import TwoLevel
from infertuner.cache.lru import Lru
from infertuner.cache.two_level import TwoLevelCache
from infertuner.parts import fresh
from infertuner.sources.requests import Ints, Key


@dataclass(frozen=True)
class Replay:
    """What one GPU's two-level cache did with a sequence of lookups."""

    local_hits: int
    remote_hits: int
    misses: int
    local_entries: Ints
    """Size of the local tier in force at each lookup, shape (n,); its mean is the memory paid for."""


def replay(keys: Sequence[Key], at_s: Iterable[float], config: TwoLevel) -> Replay:
    """Look up `keys` at the instants `at_s`, one after the other, and insert each as a served request would.

    Transfer times do not feed back into the instants; that takes a simulation.
    """
    sizing = fresh(config.sizing)
    cache = TwoLevelCache(Lru(sizing.initial_entries), Lru(config.remote_entries))
    entries = np.empty(len(keys), dtype=np.int64)
    for i, (key, now_s) in enumerate(zip(keys, at_s, strict=True)):
        entries[i] = wanted = sizing.observe(key, now_s)
        if wanted != cache.local.capacity_entries:
            cache.resize_local(wanted)
        _, tokens = cache.lookup(key)
        cache.insert(key, tokens)
    return Replay(cache.local_hits, cache.remote_hits, cache.misses, entries)


def lru_hits(keys: Iterable[Key], entries: int) -> int:
    """Hits of one LRU cache of `entries` that starts empty and keeps every key it is asked for."""
    cache = Lru(entries)
    for key in keys:
        if cache.get(key) is None:
            cache.put(key, 0)
    return cache.hits


def local_hits_at(events: Iterable[tuple[Key, bool, bool]], entries: int) -> int:
    """Hits of a local LRU tier of `entries` over what one GPU's cache went through, in order.

    Each event is (key, looked up, found). A lookup that finds its key in either tier copies it here at once, another
    key comes here only when its request has been served, which is the other kind of event.
    """
    cache = Lru(entries)
    for key, looked_up, found in events:
        if not looked_up or (cache.get(key) is None and found):
            cache.put(key, 0)
    return cache.hits
