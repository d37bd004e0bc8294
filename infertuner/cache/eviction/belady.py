"""Belady's MIN: what a policy that knows the future would do."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from infertuner.cache.eviction.base import Base
from infertuner.cache.eviction.queues import Queue
from infertuner.sources.requests import Key


class Belady(Base):
    """The entry whose next request is farthest away leaves first; offline, and the bound for all policies.

    Belady, A study of replacement algorithms for a virtual-storage computer, IBM Systems Journal 5(2), 1966. As there,
    every missed key comes in, even one that is never asked for again. That is optimal for entries of one size; with
    different sizes nothing simple is, and this is a heuristic.

    Each `touch` (or `access`) is one request of the trace, in order; `next_use[i]` is the index of the request
    for the same key after request i, and len(next_use) or more if there is none.
    """

    def __init__(self, capacity: int, next_use: Sequence[int]) -> None:
        super().__init__(capacity)
        self._next_use = next_use
        self._requests = 0
        self._next: dict[Key, int] = {}
        """The next request of each key asked for so far that has one."""
        self._key_at: list[Key | None] = [None] * len(next_use)
        """Who is asked for at each request to come, as far as known."""
        self._farthest: list[int] = []
        """A heap of the next requests of the entries held, negative so that the farthest comes first.

        Those that have passed are nearest of all and stay at its bottom until they may outnumber the others.
        """
        self._most_waiting = 1000
        """How long the heap gets before those that have passed are dropped."""
        self._never = Queue()
        """The entries held that nobody will ask for."""

    def touch(self, key: Key) -> bool:
        """Note the next request of the trace, which is for `key`; IndexError after the last."""
        at = self._next_use[self._requests]
        self._requests += 1
        held = key in self._sizes
        if at < len(self._key_at):
            self._next[key] = at
            self._key_at[at] = key
            if held:
                heappush(self._farthest, -at)
                if len(self._farthest) > self._most_waiting:
                    self._drop_passed()
        else:
            self._next.pop(key, None)
            if held:
                self._never[key] = None
        return held

    def _drop_passed(self) -> None:
        """Keep in the heap only what is still to come."""
        self._farthest = [-self._next[key] for key in self._sizes if key in self._next]
        heapify(self._farthest)
        self._most_waiting = 2 * len(self._farthest) + 1000

    def _enqueue(self, key: Key) -> None:
        at = self._next.get(key)
        if at is None:
            self._never[key] = None
        else:
            heappush(self._farthest, -at)

    def _dequeue(self, key: Key) -> None:
        self._never.pop(key, None)

    def _evict(self) -> Key:
        key = self._first(self._never)
        if key is not None:
            del self._never[key]
            return key
        pinned = []
        while True:
            at = heappop(self._farthest)
            key = self._key_at[-at]
            if key in self._pins:
                pinned.append(at)
            elif key in self._sizes:
                break
        for at in pinned:
            heappush(self._farthest, at)
        return key
