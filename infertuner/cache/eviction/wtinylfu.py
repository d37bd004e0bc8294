"""W-TinyLFU: a key gets in if it has been asked for more often than the one that would leave."""

from __future__ import annotations

from infertuner.cache.eviction.base import Base
from infertuner.cache.eviction.policy import Entry
from infertuner.cache.eviction.queues import SizedQueue
from infertuner.sources.requests import Key

WINDOW_PART = 100
"""The window has one part in so many of the capacity, rounded up."""
PROTECTED_RATIO = 0.8
"""Share of the rest for keys that were asked for again."""
MOST_REQUESTS = 15
"""A count goes no further."""
SAMPLE = 10
"""Requests for each entry held after which the counts are halved."""


class WTinyLfu(Base):
    """New keys have a small LRU window to be asked for again; to stay they must be more popular than who would leave.

    Einziger, Friedman and Manes, TinyLFU, ACM Transactions on Storage 13(4), 2017, with the parameters of their
    library Caffeine: a window of 1 %, the rest a segmented LRU with four fifths protected, counts up to 15 that are
    halved every ten requests for each entry. Counts are exact where Caffeine has a sketch, so that no result depends
    on how keys are hashed; and ties always go to the entry that is held, with no draw.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._window = SizedQueue()
        self._probation = SizedQueue()
        self._protected = SizedQueue()
        self._candidates: list[Key] = []
        """The keys that have left the window for the one that is coming in, while room is made."""
        self._requests: dict[Key, int] = {}
        """Requests of each key, held or not, halved from time to time."""
        self._counted = 0
        """Requests since the counts were zero, taken to be half of a sample when they were halved."""
        self._recapacitated()

    def touch(self, key: Key) -> bool:
        """Note a request for `key`, held or not."""
        requests = self._requests.get(key, 0)
        if requests < MOST_REQUESTS:
            self._requests[key] = requests + 1
        self._counted += 1
        if key in self._protected.sizes:
            self._protected.sizes.move_to_end(key)
        elif key in self._probation.sizes:
            self._protect(key)
        elif key in self._window.sizes:
            self._window.sizes.move_to_end(key)
        else:
            return False
        return True

    def _protect(self, key: Key) -> None:
        """Promote a key on probation; the least recently used protected ones make room."""
        self._protected.add(key, self._probation.take(key))
        while self._protected.used > self._protected_most:
            self._probation.add(*self._protected.shift())

    def _put(self, key: Key, size: int) -> list[Entry]:
        self._sizes[key] = size
        self.used += size
        self._window.add(key, size)
        self._leave_window()
        if self.used <= self.capacity:
            gone = []
        else:
            if self._counted >= SAMPLE * len(self._sizes):
                self._age()
            gone = self._make_room(self.capacity)
        self._candidates.clear()
        return gone

    def _leave_window(self) -> None:
        """Move what is too much for the window to probation, as candidates."""
        window = self._window
        while window.used > self._window_most and (key := self._first(window.sizes)) is not None:
            self._probation.add(key, window.take(key))
            self._candidates.append(key)

    def _age(self) -> None:
        """Halve all counts."""
        self._requests = {key: requests // 2 for key, requests in self._requests.items() if requests > 1}
        self._counted = SAMPLE * len(self._sizes) // 2

    def _evict(self) -> Key:
        for queue in (self._probation, self._protected, self._window):
            victim = self._first(queue.sizes)
            if victim is not None:
                break
        else:
            raise AssertionError("everything is pinned")
        if self._candidates:
            candidate, requests = self._candidates[0], self._requests
            if candidate == victim or requests.get(candidate, 0) <= requests.get(victim, 0):
                del self._candidates[0]
                self._probation.take(candidate)
                return candidate
        queue.take(victim)
        return victim

    def _dequeue(self, key: Key) -> None:
        self._queue_of(key).take(key)

    def _regrown(self, key: Key, by: int) -> None:
        self._queue_of(key).grow(key, by)

    def _queue_of(self, key: Key) -> SizedQueue:
        if key in self._probation.sizes:
            return self._probation
        return self._window if key in self._window.sizes else self._protected

    def _recapacitated(self) -> None:
        self._window_most = -(-self.capacity // WINDOW_PART)
        self._protected_most = int(PROTECTED_RATIO * (self.capacity - self._window_most))
        self._leave_window()
        self._candidates.clear()
