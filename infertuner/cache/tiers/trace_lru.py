"""LRU tiers of which all requests are known beforehand, as in a replay: several times faster than any queue."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from infertuner.cache.analysis.uses import Keys, numbered, uses
from infertuner.cache.eviction.lru import Lru
from infertuner.cache.eviction.policy import Entry
from infertuner.cache.tiers.tier import EntryTier, Served, Tier
from infertuner.sources.requests import Ints, Key


class TraceLru(Tier):
    """A tier in bytes with policy LRU, to the last token, that can be asked to `serve` its trace and nothing else.

    The trace itself is its queue. It holds every key whose last use so far is not older than the oldest use that it
    remembers, and to evict it forgets that use, which takes an entry along only where the key was not used again.
    So nothing is searched and nothing moved; the policy's own queue stays empty.
    """

    def __init__(self, tier: Tier, previous: Ints, following: Ints) -> None:
        """tier: the empty tier whose place this takes.

        previous, following: of each of its requests to come, the index of the last and of the next for the same key,
            -1 and the number of requests where there is none, shape (n,).
        """
        super().__init__(tier.name, tier.policy, bytes_per_token=tier.bytes_per_token, shared=tier.shared)
        self._previous, self._next_use = previous, following
        self._following = memoryview(following.data)
        self._left = array("q")
        """The tokens that each request so far has left of its key."""
        self._oldest = self._held_tokens = 0

    @property
    def held_tokens(self) -> int:
        """Tokens held now."""
        return self._held_tokens

    @property
    def held_entries(self) -> int:
        """Entries held now."""
        now = len(self._left)
        left = np.frombuffer(self._left, dtype=np.int64)[self._oldest :]
        return int(np.count_nonzero((self._next_use[self._oldest : now] >= now) & (left > 0)))

    def serve(self, keys: Iterable[Key], tokens: Ints) -> Served:
        """Note the next requests of the trace, for `keys`, as any other tier does."""
        held_before, changed, held_after = array("q"), array("q"), array("q")
        gave, note_change, note_held = held_before.append, changed.append, held_after.append
        left, leave, following = self._left, self._left.append, self._following
        held_tokens, oldest, capacity = self._held_tokens, self._oldest, self.policy.capacity
        start = len(left)
        previous = self._previous[start : start + len(tokens)].tolist()
        for now, (last, there) in enumerate(zip(previous, tokens.tolist(), strict=True), start):
            held = left[last] if last >= oldest else 0
            gave(held)
            if there <= held:
                leave(held)
                continue
            before = held_tokens
            if there > capacity:
                leave(0)
                held_tokens -= held
            else:
                leave(there)
                held_tokens += there - held
                while held_tokens > capacity:
                    if following[oldest] > now:
                        held_tokens -= left[oldest]
                    oldest += 1
            if held_tokens != before:
                note_change(now - start)
                note_held(held_tokens)
        self._held_tokens, self._oldest = held_tokens, oldest
        refused = np.flatnonzero(tokens > capacity)
        return self._count(Served.of(held_before, changed, held_after), tokens, refused)

    def resize(self, capacity: int) -> Sequence[Entry]:
        """Change the capacity, in its own unit; whoever leaves is lost, as where every tier gets everything at once."""
        self.policy.resize(math.floor(capacity / self.bytes_per_token))
        while self._held_tokens > self.policy.capacity:
            if self._following[self._oldest] >= len(self._left):
                self._held_tokens -= self._left[self._oldest]
            self._oldest += 1
        return ()


def foresee(tiers: Sequence[Sequence[Tier]], keys: Keys, gpu_id: Ints) -> list[list[Tier]]:
    """The same tiers, empty still, with those that can be `TraceLru` so; written through, each notes every request.

    keys: one for each request, and gpu_id to which GPU it goes; that GPU's tiers, and those shared, note it.
    """
    numbers = numbered(keys)

    def lru(tier: Tier, previous: Ints, following: Ints) -> Tier:
        can = isinstance(tier.policy, Lru) and not isinstance(tier, EntryTier)
        return TraceLru(tier, previous, following) if can else tier

    of_all = uses(numbers)
    shared = {tier.name: lru(tier, *of_all) for tier in tiers[0] if tier.shared}
    foreseen = []
    for gpu, own in enumerate(tiers):
        of_own = of_all if len(tiers) == 1 else uses(numbers[gpu_id == gpu])
        foreseen.append([shared[tier.name] if tier.shared else lru(tier, *of_own) for tier in own])
    return foreseen
