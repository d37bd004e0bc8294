"""SIEVE: a queue that a hand goes through."""

from __future__ import annotations

from infertuner.cache.eviction.base import Base
from infertuner.cache.eviction.queues import Queue
from infertuner.sources.requests import Key


class Sieve(Base):
    """A hand goes from old to new again and again, evicts, and spares once whoever was asked for since it passed.

    Zhang et al., SIEVE is Simpler than LRU, NSDI 2024. New keys join at the new end and nothing is ever moved, so the
    hand cuts the queue into the keys it has passed and those ahead of it, each in order of age.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._ahead = Queue()
        self._passed = Queue()
        self._asked_for: set[Key] = set()
        """The keys with a request since the hand last passed them."""

    def touch(self, key: Key) -> bool:
        """Note a request for `key`, which the hand will spare once."""
        if key in self._sizes:
            self._asked_for.add(key)
            return True
        return False

    def access(self, key: Key, size: int) -> bool:
        """`touch`, and `insert` on a miss, in one call."""
        if key in self._sizes:
            self._asked_for.add(key)
            return True
        self.insert(key, size)
        return False

    def _enqueue(self, key: Key) -> None:
        self._ahead[key] = None

    def _dequeue(self, key: Key) -> None:
        self._asked_for.discard(key)
        if key in self._ahead:
            del self._ahead[key]
            self._turn_back_at_the_end()
        else:
            del self._passed[key]

    def _evict(self) -> Key:
        asked_for, pins = self._asked_for, self._pins
        while True:
            key, _ = self._ahead.popitem(last=False)
            spared = key in asked_for
            if spared or key in pins:
                asked_for.discard(key)
                self._passed[key] = None
            self._turn_back_at_the_end()
            if not spared and key not in pins:
                return key

    def _turn_back_at_the_end(self) -> None:
        """The hand is past the newest key: it starts again from the oldest, before any newer one comes."""
        if not self._ahead:
            self._ahead, self._passed = self._passed, self._ahead
