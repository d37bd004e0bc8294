"""A GPU's own cache in front of one that all GPUs share."""

from __future__ import annotations

from dataclasses import dataclass, field

from infertuner.cache.lru import Lru
from infertuner.records import CacheLevel
from infertuner.sources.requests import Key


@dataclass(slots=True)
class TwoLevelCache:
    """What one GPU can find: its local tier first, then the remote tier it shares with the other GPUs.

    Written through: an inserted entry is in both tiers. If every answered request is inserted, the remote tier sees
    every key in order; then, for one GPU whose local tier is never larger than the remote one, local and remote hits
    together are those of a single LRU of the remote's size, whatever the size of the local tier (inclusion property of
    LRU: Mattson et al., IBM Systems Journal 9(2), 1970).

    A local copy may be shorter than the remote one after its session was served elsewhere; it is used as it is.
    """

    local: Lru
    remote: Lru
    remote_hits: int = field(init=False, default=0)
    """Hits of this GPU; `remote.hits` counts those of every GPU."""

    @property
    def local_hits(self) -> int:
        """Lookups answered by the local tier."""
        return self.local.hits

    @property
    def misses(self) -> int:
        """Lookups that neither tier could answer."""
        return self.local.misses - self.remote_hits

    def lookup(self, key: Key) -> tuple[CacheLevel, int]:
        """Where `key` was found and how many of its tokens are cached; a remote hit is copied into the local tier."""
        tokens = self.local.get(key)
        if tokens is not None:
            return CacheLevel.LOCAL, tokens
        tokens = self.remote.get(key)
        if tokens is None:
            return CacheLevel.MISS, 0
        self.remote_hits += 1
        self.local.put(key, tokens)
        return CacheLevel.REMOTE, tokens

    def insert(self, key: Key, tokens: int) -> None:
        """Cache `tokens` under `key` in both tiers, each of which keeps what it has where that is longer."""
        self.local.put(key, tokens)
        self.remote.put(key, tokens)

    def resize_local(self, entries: int) -> None:
        """Give the local tier room for `entries` from now on."""
        self.local.resize(entries)
