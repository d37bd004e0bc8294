"""Anybody."""

from __future__ import annotations

from random import Random as Chance

from infertuner.cache.eviction.base import Base
from infertuner.sources.requests import Key


class Random(Base):
    """Each entry is as likely to leave as any other, by a chance that knows places, not keys."""

    def __init__(self, capacity: int, seed: int = 0) -> None:
        super().__init__(capacity)
        self._chance = Chance(seed)
        self._keys: list[Key] = []
        self._place: dict[Key, int] = {}

    def touch(self, key: Key) -> bool:
        """Note a request for `key`; whether it is held."""
        return key in self._place

    def _enqueue(self, key: Key) -> None:
        self._place[key] = len(self._keys)
        self._keys.append(key)

    def _dequeue(self, key: Key) -> None:
        place, last = self._place.pop(key), self._keys.pop()
        if last != key:
            self._keys[place] = last
            self._place[last] = place

    def _evict(self) -> Key:
        while True:
            key = self._keys[int(self._chance.random() * len(self._keys))]
            if key not in self._pins:
                self._dequeue(key)
                return key
