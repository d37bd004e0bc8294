"""What all policies share: who is held and how large, what is pinned, and the loop that makes room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

from infertuner.cache.eviction.policy import Entry
from infertuner.sources.requests import Key


class Base(ABC):
    """An `EvictionPolicy` but for its queues: a policy says who comes, who leaves, and what a request changes."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._sizes: dict[Key, int] = {}
        self._pins: dict[Key, int] = {}
        self._pinned = 0
        """The sizes of all pinned entries."""

    @abstractmethod
    def touch(self, key: Key) -> bool:
        """Note a request for `key`; whether it is held."""

    @abstractmethod
    def _evict(self) -> Key:
        """Choose the next to leave among those that are not pinned, of which there is one, and forget it."""

    def _enqueue(self, key: Key) -> None:  # noqa: B027 the sizes may themselves be the queue
        """Let in a key that is not held and for which there is room; its size is noted afterwards."""

    def _dequeue(self, key: Key) -> None:  # noqa: B027
        """Forget a key that is taken out; its size is dropped afterwards."""

    def _regrown(self, key: Key, by: int) -> None:  # noqa: B027 most policies do not count sizes
        """Note that an entry held has a new size."""

    def _recapacitated(self) -> None:  # noqa: B027 most policies have one queue
        """Follow a new capacity."""

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, key: Key) -> bool:
        return key in self._sizes

    def __iter__(self) -> Iterator[Key]:
        return iter(self._sizes)

    def size_of(self, key: Key) -> int:
        """The size of an entry held, 0 for any other."""
        return self._sizes.get(key, 0)

    def insert(self, key: Key, size: int) -> Sequence[Entry]:
        """Put in a key, or give one that is held a new size without touching it, and return whoever had to leave."""
        if key in self._sizes:
            return self._regrow(key, size)
        if size > self.capacity - self._pinned:
            return [(key, size)]
        return self._put(key, size)

    def _put(self, key: Key, size: int) -> list[Entry]:
        """Insert a key that is not held and fits beside what is pinned."""
        gone = self._make_room(self.capacity - size) if self.used + size > self.capacity else []
        self._enqueue(key)
        self._sizes[key] = size
        self.used += size
        return gone

    def access(self, key: Key, size: int) -> bool:
        """`touch`, and `insert` on a miss. Whether it was a hit."""
        if self.touch(key):
            return True
        if size <= self.capacity - self._pinned:
            self._put(key, size)
        return False

    def remove(self, key: Key) -> int:
        """Take out an entry that is held, with its pins, and return its size."""
        self._dequeue(key)
        size = self._sizes.pop(key)
        self.used -= size
        if self._pins.pop(key, None) is not None:
            self._pinned -= size
        return size

    def resize(self, capacity: int) -> Sequence[Entry]:
        """Change the capacity and return whoever had to leave, in the policy's order."""
        if capacity == self.capacity:
            return []
        self.capacity = capacity
        self._recapacitated()
        return self._make_room(capacity)

    def pin(self, key: Key) -> None:
        """Keep an entry that is held from leaving."""
        pins = self._pins.get(key, 0)
        if not pins:
            self._pinned += self._sizes[key]
        self._pins[key] = pins + 1

    def unpin(self, key: Key) -> Sequence[Entry]:
        """Take one pin back and return whoever had to leave because pins alone had kept more than the capacity."""
        pins = self._pins[key] - 1
        if pins:
            self._pins[key] = pins
            return []
        del self._pins[key]
        self._pinned -= self._sizes[key]
        return self._make_room(self.capacity)

    def _make_room(self, limit: int) -> list[Entry]:
        """Evict until no more than `limit` is used, or all that is left is pinned."""
        gone: list[Entry] = []
        sizes = self._sizes
        while self.used > limit and len(sizes) > len(self._pins):
            key = self._evict()
            size = sizes.pop(key)
            self.used -= size
            gone.append((key, size))
        return gone

    def _regrow(self, key: Key, size: int) -> list[Entry]:
        """Give an entry that is held another size; one that is not pinned leaves if it no longer fits."""
        pins = self._pins
        pinned = key in pins
        if not pinned and size > self.capacity - self._pinned:
            self.remove(key)
            return [(key, size)]
        by = size - self._sizes[key]
        self._sizes[key] = size
        self.used += by
        self._regrown(key, by)
        if pinned:
            self._pinned += by
            return self._make_room(self.capacity)
        if self.used <= self.capacity:
            return []
        pins[key] = 1
        gone = self._make_room(self.capacity)
        del pins[key]
        return gone

    def _first(self, queue: Iterable[Key]) -> Key | None:
        """The first key that is not pinned; None if there is none."""
        pins = self._pins
        for key in queue:
            if key not in pins:
                return key
        return None
