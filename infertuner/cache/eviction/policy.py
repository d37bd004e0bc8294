"""The question every eviction policy answers: who leaves when a tier is full?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

from infertuner.sources.requests import Key

Entry: TypeAlias = tuple[Key, int]
"""A key and its size."""


class EvictionPolicy(Protocol):
    """The entries of one tier and the order in which they leave; the policy owns its queues and its ghosts.

    Sizes, above 0, and the capacity are whole numbers of one unit: bytes, or 1 for each entry. After every call the
    sizes of the entries held sum to `used`, and `used` exceeds `capacity` only by what is pinned.
    """

    @property
    def capacity(self) -> int:
        """Most that may be held."""
        ...

    @property
    def used(self) -> int:
        """The sizes of all entries held, ghosts not counted."""
        ...

    def __len__(self) -> int:
        """Entries held."""
        ...

    def __contains__(self, key: Key) -> bool:
        """Whether it is held; asking changes nothing."""
        ...

    def __iter__(self) -> Iterator[Key]:
        """The keys held, in any order."""
        ...

    def size_of(self, key: Key) -> int:
        """The size of an entry held, 0 for any other; asking changes nothing."""
        ...

    def touch(self, key: Key) -> bool:
        """Note a request for `key`; whether it is held."""
        ...

    def insert(self, key: Key, size: int) -> Sequence[Entry]:
        """Put in a key, or give one that is held a new size, and return whoever had to leave for it.

        An entry that cannot fit beside what is pinned is not put in: it is the one returned.
        """
        ...

    def access(self, key: Key, size: int) -> bool:
        """`touch`, and `insert` on a miss: one request of a replay. Whether it was a hit."""
        ...

    def remove(self, key: Key) -> int:
        """Take out an entry that is held, as when it moves to another tier, and return its size; no eviction."""
        ...

    def resize(self, capacity: int) -> Sequence[Entry]:
        """Change the capacity and return whoever had to leave, in the policy's order."""
        ...

    def pin(self, key: Key) -> None:
        """Keep an entry that is held from leaving; pins count, as requests that use one block do."""
        ...

    def unpin(self, key: Key) -> Sequence[Entry]:
        """Take one pin back and return whoever had to leave, where pins alone had kept more than the capacity."""
        ...
