"""Keys in order, constant time at both ends and in the middle: a plain dict has to search for its first key."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

from infertuner.sources.requests import Key

Queue: TypeAlias = OrderedDict[Key, None]
"""Keys, the next to leave first."""


class SizedQueue:
    """Keys with their sizes, the next to leave first, and the sum of the sizes."""

    __slots__ = ("sizes", "used")

    def __init__(self) -> None:
        self.sizes: OrderedDict[Key, int] = OrderedDict()
        self.used = 0

    def add(self, key: Key, size: int) -> None:
        """Append a key that is not here."""
        self.sizes[key] = size
        self.used += size

    def take(self, key: Key) -> int:
        """Take out a key that is here and return its size."""
        size = self.sizes.pop(key)
        self.used -= size
        return size

    def shift(self) -> tuple[Key, int]:
        """Take out the first key and return it with its size."""
        entry = self.sizes.popitem(last=False)
        self.used -= entry[1]
        return entry

    def grow(self, key: Key, by: int) -> None:
        """Give a key that is here another size."""
        self.sizes[key] += by
        self.used += by
