"""What can be known of a cache from the requests alone: its ceiling, the best of all policies, an exact LRU.

All of it is costly and depends on nothing but the requests, so it is computed when asked for and once for all arms.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from infertuner.cache.analysis import aet_hit_curve, belady_hits, stack_distances
from infertuner.cache.analysis.uses import numbered, previous_uses
from infertuner.cache.tiers.config import Tiered
from infertuner.cache.tiers.keys import SessionKeys, keys_of
from infertuner.sources.requests import Floats, Ints, Requests


class Oracles:
    """The keys of all requests in the order in which a cache notes them, and what follows from that order."""

    def __init__(self, asked: Requests, config: Tiered) -> None:
        self.asked = asked
        keys = keys_of(asked, config)
        if isinstance(keys, SessionKeys):
            self._of_sessions(keys)
            return
        noted: list[int | str] = []
        sizes: list[int] = []
        noted_before: list[int] = []
        left: set[int | str] = set()
        self.asked_keys = self.attainable_keys = self.attainable_tokens = 0
        for row in range(len(asked)):
            wanted, served = keys.asked(row), keys.served(row)
            self.asked_keys += len(wanted.keys)
            for key, tokens in zip(*wanted, strict=True):
                if key not in left:
                    break
                self.attainable_keys += 1
                self.attainable_tokens += tokens
            left.update(served.keys)
            noted += reversed(served.keys)
            sizes += reversed(served.tokens)
            noted_before += range(len(served.keys))
        self._keys, self._sizes = numbered(noted), np.asarray(sizes, dtype=np.int64)
        self._noted_before = np.asarray(noted_before, dtype=np.int64)

    def _of_sessions(self, keys: SessionKeys) -> None:
        ids = np.asarray(self.asked.session_id)
        self._keys = ids if ids.dtype.kind in "iu" else numbered(self.asked.session_id)
        self._noted_before = np.zeros(len(ids), dtype=np.int64)
        self._sizes, known = _largest_so_far(self._keys, keys.served_tokens)
        self.asked_keys, self.attainable_keys = len(ids), int(np.count_nonzero(known))
        self.attainable_tokens = int(np.minimum(keys.asked_tokens, known).sum())

    @property
    def mean_tokens(self) -> float:
        """Of an entry, over requests: what turns a capacity in bytes into entries."""
        return float(self._sizes.mean())

    def lru_hits(self, entries: int) -> int:
        """Hits of one LRU cache of so many entries; exact."""
        return int(np.searchsorted(self._distances, entries, side="right"))

    def lru_hits_in_tokens(self, capacity_tokens: int) -> int:
        """Hits of one LRU cache that holds entries of so many tokens together; exact if the largest of them fits."""
        return int(np.searchsorted(self._distances_in_tokens, capacity_tokens, side="right"))

    def aet_hits(self, entries: int) -> float:
        """What reuse times alone say of such an LRU cache."""
        curve = self._aet
        return float(curve[min(entries, len(curve) - 1)]) * len(self._keys)

    def belady_hits(self, entries: int) -> int:
        """Hits of MIN in so many entries of one size, more than which no policy has.

        A policy may leave keys out, and it must find a prefix from its beginning: MIN may leave out as well, and sees
        each request's keys in that order.
        """
        if entries not in self._belady:
            place = np.arange(len(self._keys))
            from_beginning = np.lexsort((-self._noted_before, place - self._noted_before))
            self._belady[entries] = belady_hits(self._keys[from_beginning], entries, may_refuse=True)
        return self._belady[entries]

    @cached_property
    def _belady(self) -> dict[int, int]:
        return {}

    @cached_property
    def _distances(self) -> Ints:
        return self._at_arrival(stack_distances(self._keys), 1)

    @cached_property
    def _distances_in_tokens(self) -> Ints:
        return self._at_arrival(stack_distances(self._keys, self._sizes), int(self._sizes[0]))

    def _at_arrival(self, distances: Ints, size: int) -> Ints:
        """Stack distances when the request came, before it noted its own keys, rising.

        A request's keys are noted from the last to the first. Whoever used a block used all before it, and noted them
        after it, so each key that the request has noted before this one adds to its distance. Blocks are all of a size.
        """
        repeats = np.flatnonzero(previous_uses(self._keys) >= 0)
        return np.sort(distances - self._noted_before[repeats] * size)

    @cached_property
    def _aet(self) -> Floats:
        return aet_hit_curve(self._keys)


_LATEST: dict[tuple[int, str, int], Oracles] = {}
"""Those of the requests asked about last; they hold the requests, so that the identity in the key stays theirs."""


def oracles_of(asked: Requests, config: Tiered) -> Oracles:
    """The oracles of these requests, the same for every cache with the same keys."""
    key = (id(asked), config.keys, config.block_tokens)
    if key not in _LATEST:
        _LATEST.clear()
        _LATEST[key] = Oracles(asked, config)
    return _LATEST[key]


def _largest_so_far(keys: Ints, tokens: Ints) -> tuple[Ints, Ints]:
    """What the entry of each request's key holds after it, and before it, if an entry never shrinks; 0 for none."""
    by_key = np.argsort(keys, kind="stable")
    sorted_keys = keys[by_key]
    group = np.cumsum(np.append(False, sorted_keys[1:] != sorted_keys[:-1]))
    beyond = int(tokens.max(initial=0)) + 1
    largest = np.maximum.accumulate(group * beyond + tokens[by_key]) - group * beyond
    before = np.append(0, largest[:-1])
    before[np.append(True, group[1:] != group[:-1])] = 0
    after, earlier = np.empty_like(largest), np.empty_like(largest)
    after[by_key], earlier[by_key] = largest, before
    return after, earlier
