"""First in, first out."""

from __future__ import annotations

from collections import OrderedDict

from infertuner.cache.eviction.base import Base
from infertuner.cache.eviction.policy import Entry
from infertuner.sources.requests import Key


class Fifo(Base):
    """The entry that came first leaves first; requests change nothing."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._sizes = self._queue = OrderedDict[Key, int]()
        """The sizes are the queue: a new key is their last."""

    def touch(self, key: Key) -> bool:
        """Note a request for `key`; whether it is held."""
        return key in self._queue

    def _evict(self) -> Key:
        key = self._first(self._queue)
        assert key is not None
        return key

    def _make_room(self, limit: int) -> list[Entry]:
        if self._pins:
            return super()._make_room(limit)
        gone: list[Entry] = []
        queue = self._queue
        while self.used > limit and queue:
            entry = queue.popitem(last=False)
            self.used -= entry[1]
            gone.append(entry)
        return gone
