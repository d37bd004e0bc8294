"""Least recently used."""

from __future__ import annotations

from infertuner.cache.eviction.fifo import Fifo
from infertuner.sources.requests import Key


class Lru(Fifo):
    """The entry that nobody has asked for the longest leaves first: on request a key goes back to the queue's end."""

    def touch(self, key: Key) -> bool:
        """Note a request for `key`, which thereby becomes the last to leave."""
        queue = self._queue
        if key in queue:
            queue.move_to_end(key)
            return True
        return False

    def access(self, key: Key, size: int) -> bool:
        """`touch`, and `insert` on a miss, in one call."""
        queue = self._queue
        if key in queue:
            queue.move_to_end(key)
            return True
        if size <= self.capacity - self._pinned:
            self._put(key, size)
        return False
