"""FREQUENCY as published: hold the hottest keys that cover a share of the accesses."""

from __future__ import annotations

import math
from array import array
from typing import Literal

import numpy as np

from infertuner.cache.sizing.policy import check_order
from infertuner.parts import Count, Ratio, part
from infertuner.sources.requests import Key


@part
class Frequency:
    """Count accesses and distinct keys in hash buckets, and size for the buckets with the most accesses per key.

    At every check the buckets are taken in falling order of accesses per distinct key until they cover
    ceil(target x accesses); the size is the number of distinct keys in them, within the bounds. Buckets with equal
    means are taken in order of their number, as in the first implementation.

    Defects of the rule:

    - First accesses count, although no cache can hit them: the hit ratio is at most 1 - distinct / accesses, so on a
      short or spread-out trace the target is out of reach and the size grows to no avail.
    - Counts are never forgotten: a key that was hot once is paid for until the end.
    - Covering a share of the accesses is the size at which an ideal frequency cache, which holds exactly the hottest
      keys, reaches the target. An LRU tier of that size hits less (Che et al., IEEE JSAC 20(7), 2002).
    - With many more keys than buckets every bucket mixes hot keys with cold ones and the size comes out far too large;
      the estimate also depends on how the keys are spelled.
    - The first implementation crashed on a key whose hash is -2^31, which has no absolute value in 32 bits. Here it
      falls into bucket 2^31 mod `buckets`.
    """

    kind: Literal["frequency"]
    """Hold the hottest keys, as published."""
    initial_entries: Count = 5
    """Entries before the first check."""
    min_entries: Count = 5
    """The size never falls below this."""
    max_entries: Count = 50
    """The size never exceeds this."""
    check_every_requests: Count = 15
    """Lookups between two checks of the size."""
    min_requests: Count = 10
    """A check before this many lookups resets the size to its initial value."""
    target_hit_ratio: Ratio = 0.85
    """Share of all accesses that the chosen keys should cover."""
    buckets: Count = 200
    """Hash buckets over which keys are spread."""

    def __post_init__(self) -> None:
        check_order(min_entries=self.min_entries, initial_entries=self.initial_entries, max_entries=self.max_entries)
        self._entries = self.initial_entries
        self._requests = 0
        self._bucket_of: dict[Key, int] = {}
        self._accesses = array("q", [0]) * self.buckets
        self._distinct = array("q", [0]) * self.buckets

    def observe(self, key: Key, now_s: float) -> int:
        """Note a lookup of `key`; the time does not matter to this policy."""
        bucket = self._bucket_of.get(key)
        if bucket is None:
            bucket = self._bucket_of[key] = abs(java_hash(str(key))) % self.buckets
            self._distinct[bucket] += 1
        self._accesses[bucket] += 1
        self._requests += 1
        if self._requests % self.check_every_requests == 0:
            self._entries = self._checked_entries()
        return self._entries

    def covering_entries(self) -> int:
        """Distinct keys in the hottest buckets that cover the target: the size before bounds."""
        accesses, distinct = np.asarray(self._accesses), np.asarray(self._distinct)
        used = np.flatnonzero(distinct)
        hottest = used[np.argsort(-accesses[used] / distinct[used], kind="stable")]
        wanted = math.ceil(self._requests * self.target_hit_ratio)
        last = np.searchsorted(np.cumsum(accesses[hottest]), wanted)
        return int(distinct[hottest[: last + 1]].sum())

    def _checked_entries(self) -> int:
        if self._requests < self.min_requests:
            return self.initial_entries
        return max(self.min_entries, min(self.max_entries, self.covering_entries()))


def java_hash(text: str) -> int:
    """Java's `String.hashCode`: sum of c_i 31^(n-1-i) over the UTF-16 code units c_i, as a signed 32-bit number.

    >>> java_hash("hello"), java_hash("user_001_1")
    (99162322, 1870858287)
    """
    units = text.encode("utf-16-be")
    unsigned = 0
    for high, low in zip(units[::2], units[1::2], strict=True):
        unsigned = (31 * unsigned + (high << 8 | low)) & 0xFFFF_FFFF
    return unsigned - (unsigned >> 31 << 32)
