"""When each key of a trace was used last and will be used next, from which everything else about the trace follows."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import count
from typing import TypeAlias

import numpy as np

from infertuner.sources.requests import Ints, Key

Keys: TypeAlias = Sequence[Key] | Ints
"""The keys of a trace, one for each request, in order; an array of whole numbers is read several times faster."""


def numbered(keys: Keys) -> Ints:
    """The keys as whole numbers, equal where the keys are, shape (n,): an array of them as it is, anything else by the
    place of its first use."""
    if isinstance(keys, np.ndarray | array):
        numbers = np.asarray(keys)
        if numbers.dtype.kind in "iu":
            return numbers
    first: dict[Key, int] = {}
    return np.fromiter(map(first.setdefault, keys, count()), dtype=np.int64, count=len(keys))


def uses(keys: Keys) -> tuple[Ints, Ints]:
    """The previous and the next uses at once, for the price of one."""
    earlier, later = _neighbours(keys)
    previous, following = np.full(len(keys), -1, dtype=np.int64), np.full(len(keys), len(keys), dtype=np.int64)
    previous[later], following[earlier] = earlier, later
    return previous, following


def previous_uses(keys: Keys) -> Ints:
    """For each request the index of the last one for the same key, -1 for a first use; shape (n,)."""
    return uses(keys)[0]


def next_uses(keys: Keys) -> Ints:
    """For each request the index of the next one for the same key, len(keys) if there is none; shape (n,)."""
    return uses(keys)[1]


def _neighbours(keys: Keys) -> tuple[Ints, Ints]:
    """Every request that is used again, and beside it the request that does so."""
    numbers = numbered(keys)
    by_key = np.argsort(numbers, kind="stable")
    in_order = numbers[by_key]
    again = np.flatnonzero(in_order[1:] == in_order[:-1])
    return by_key[again], by_key[again + 1]
