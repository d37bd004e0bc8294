"""One tier of remembered prefixes: the least recently used entry leaves first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from infertuner.sources.requests import Key


@dataclass(slots=True)
class Lru:
    """A map from key to cached tokens that holds at most `capacity_entries` of them; every operation is O(1).

    An entry is one session's KV, whatever its length: capacity counts entries, as the published experiment did.
    """

    capacity_entries: int | None = None
    """Most entries held at once; None holds everything."""
    hits: int = field(init=False, default=0)
    misses: int = field(init=False, default=0)
    evictions: int = field(init=False, default=0)
    _tokens: OrderedDict[Key, int] = field(init=False, default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._tokens)

    def get(self, key: Key) -> int | None:
        """The tokens cached under `key`, which thereby becomes the most recently used; None on a miss."""
        tokens = self._tokens.get(key)
        if tokens is None:
            self.misses += 1
            return None
        self._tokens.move_to_end(key)
        self.hits += 1
        return tokens

    def put(self, key: Key, tokens: int) -> None:
        """Cache `tokens` under `key` as the most recently used entry; a longer one of the same key stays as long."""
        self._tokens[key] = max(tokens, self._tokens.get(key, 0))
        self._tokens.move_to_end(key)
        self._evict()

    def resize(self, capacity_entries: int | None) -> None:
        """Change the capacity; entries that no longer fit leave at once, least recently used first."""
        self.capacity_entries = capacity_entries
        self._evict()

    def _evict(self) -> None:
        if self.capacity_entries is None:
            return
        while len(self._tokens) > self.capacity_entries:
            self._tokens.popitem(last=False)
            self.evictions += 1
