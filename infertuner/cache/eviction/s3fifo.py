"""S3-FIFO: three queues, all of them first in, first out."""

from __future__ import annotations

from infertuner.cache.eviction.base import Base
from infertuner.cache.eviction.policy import Entry
from infertuner.cache.eviction.queues import Queue, SizedQueue
from infertuner.sources.requests import Key

SMALL_PART = 10
"""The small queue has one part in so many of the capacity."""
MOST_REQUESTS = 3
"""A count goes no further."""
PROMOTED_AT = 2
"""Requests after the first with which a key in the small queue is kept."""


class S3Fifo(Base):
    """New keys wait in a small queue; most leave from there, those asked for again get into the main queue.

    Yang et al., FIFO queues are all you need for cache eviction, SOSP 2023, with its parameters: the small queue has a
    tenth of the capacity, ghosts of keys that left it are remembered for nine tenths, and a key that comes back while
    it has a ghost joins the main queue, where each request spares a key once, up to three. What the paper leaves open
    is as in its authors' library libCacheSim: until anybody has had to leave, new keys for which the small queue has
    no room join the main queue.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._requests: dict[Key, int] = {}
        """Requests of each key held since it joined its queue."""
        self._small = Queue()
        self._main = SizedQueue()
        self._ghosts = SizedQueue()
        self._filling = True
        """Whether nobody has had to leave yet."""
        self._recapacitated()

    def touch(self, key: Key) -> bool:
        """Note a request for `key`."""
        requests = self._requests.get(key)
        if requests is None:
            return False
        if requests < MOST_REQUESTS:
            self._requests[key] = requests + 1
        return True

    def _put(self, key: Key, size: int) -> list[Entry]:
        promoted = key in self._ghosts.sizes
        if promoted:
            self._ghosts.take(key)
        gone = self._make_room(self.capacity - size)
        if promoted or (self._filling and self.used - self._main.used >= self._small_most):
            self._main.add(key, size)
        else:
            self._small[key] = None
        self._requests[key] = 0
        self._sizes[key] = size
        self.used += size
        return gone

    def _evict(self) -> Key:
        self._filling = False
        key = None
        if self._main.used <= self.capacity - self._small_most:
            key = self._evict_small()
        if key is None:
            key = self._evict_main()
        if key is None:  # everything in the main queue is pinned
            key = self._first(self._small)
            assert key is not None
            self._dequeue(key)
        return key

    def _evict_small(self) -> Key | None:
        """The first key with too few requests leaves a ghost; those before it join the main queue."""
        requests, small = self._requests, self._small
        while (key := self._first(small)) is not None:
            del small[key]
            size = self._sizes[key]
            if requests[key] < PROMOTED_AT:
                del requests[key]
                self._ghosts.add(key, size)
                self._trim_ghosts()
                return key
            requests[key] = 0
            self._main.add(key, size)
        return None

    def _evict_main(self) -> Key | None:
        """The first key without requests; those before it go back to the end with one request fewer."""
        requests, main = self._requests, self._main
        while (key := self._first(main.sizes)) is not None:
            if not requests[key]:
                del requests[key]
                main.take(key)
                return key
            requests[key] -= 1
            main.sizes.move_to_end(key)
        return None

    def _trim_ghosts(self) -> None:
        """Forget the oldest ghosts that are too many."""
        while self._ghosts.used > self.capacity - self._small_most:
            self._ghosts.shift()

    def _dequeue(self, key: Key) -> None:
        del self._requests[key]
        if key in self._small:
            del self._small[key]
        else:
            self._main.take(key)

    def _regrown(self, key: Key, by: int) -> None:
        if key in self._main.sizes:
            self._main.grow(key, by)

    def _recapacitated(self) -> None:
        self._small_most = self.capacity // SMALL_PART
        self._trim_ghosts()
