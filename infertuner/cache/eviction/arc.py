"""ARC: recency and frequency, balanced by what would have been hits."""

from __future__ import annotations

from infertuner.cache.eviction.base import Base
from infertuner.cache.eviction.policy import Entry
from infertuner.cache.eviction.queues import SizedQueue
from infertuner.sources.requests import Key


class Arc(Base):
    """Keys asked for once and keys asked for again each have a queue; ghosts of both tell which deserves more room.

    Megiddo and Modha, ARC: a self-tuning, low overhead replacement cache, FAST 2003: the queues are its T1 and T2,
    their ghosts B1 and B2, the target is p. Where it counts pages this counts sizes, and a ghost moves the target by
    its own size; with unit sizes that is the paper's algorithm.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._once, self._again = SizedQueue(), SizedQueue()
        self._once_ghosts, self._again_ghosts = SizedQueue(), SizedQueue()
        self._target = 0.0
        """How much keys asked for once should have."""
        self._for_ghost_of_again = False
        """Whether room is made for a key that was asked for again before it left."""

    def touch(self, key: Key) -> bool:
        """Note a request for `key`."""
        if key in self._again.sizes:
            self._again.sizes.move_to_end(key)
            return True
        if key in self._once.sizes:
            self._again.add(key, self._once.take(key))
            return True
        return False

    def _put(self, key: Key, size: int) -> list[Entry]:
        queue = self._adapt(key, size)
        gone = self._make_room(self.capacity - size)
        self._for_ghost_of_again = False
        queue.add(key, size)
        self._sizes[key] = size
        self.used += size
        self._trim_ghosts()
        return gone

    def _adapt(self, key: Key, size: int) -> SizedQueue:
        """Move the target if the key has a ghost, and return the queue it is to join."""
        once, again = self._once_ghosts, self._again_ghosts
        if key in once.sizes:
            self._target = min(self._target + size * max(again.used / once.used, 1.0), self.capacity)
            once.take(key)
            return self._again
        if key in again.sizes:
            self._target = max(self._target - size * max(once.used / again.used, 1.0), 0.0)
            again.take(key)
            self._for_ghost_of_again = True
            return self._again
        return self._once

    def _evict(self) -> Key:
        """REPLACE of the paper: from the queue that has more than its target."""
        once, again = self._first(self._once.sizes), self._first(self._again.sizes)
        used, target = self._once.used, self._target
        if again is None or (once is not None and (used > target or (used == target and self._for_ghost_of_again))):
            assert once is not None
            self._once_ghosts.add(once, self._once.take(once))
            return once
        self._again_ghosts.add(again, self._again.take(again))
        return again

    def _trim_ghosts(self) -> None:
        """Once-keys with their ghosts have at most the capacity, all keys with all ghosts twice as much."""
        once, again = self._once_ghosts, self._again_ghosts
        while once.used and self._once.used + once.used > self.capacity:
            once.shift()
        while again.used and self.used + once.used + again.used > 2 * self.capacity:
            again.shift()

    def _dequeue(self, key: Key) -> None:
        (self._once if key in self._once.sizes else self._again).take(key)

    def _regrown(self, key: Key, by: int) -> None:
        (self._once if key in self._once.sizes else self._again).grow(key, by)

    def _recapacitated(self) -> None:
        self._target = min(self._target, self.capacity)
        self._trim_ghosts()
