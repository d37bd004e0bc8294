"""Several tiers seen as one cache: where something is found, and how entries move between tiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from infertuner.cache.eviction.policy import Entry
from infertuner.cache.tiers.config import Tiered
from infertuner.cache.tiers.tier import Tier
from infertuner.sources.requests import Key


class Lookup(NamedTuple):
    """The leading keys that are there, without a gap."""

    tiers: list[int]
    """The fastest tier that holds each."""
    tokens: list[int]
    """What each gives: no more than was asked for, nor than that tier holds of it. Only the last may give less than
    was asked for, since tokens behind a gap are of no use."""


class Moves(NamedTuple):
    """Bytes moved, one number a tier."""

    read_bytes: list[int]
    """Out of each tier, towards the GPU."""
    written_bytes: list[int]
    """Into each tier."""


class TieredCache:
    """The tiers one GPU sees, from the fastest to the slowest; those that it shares are the same objects for all.

    A request looks up what it can reuse, uses the leading part of it that is worth loading, may pin that while it
    runs, and inserts everything it leaves behind when it has been served, after its pins are gone. Each tier that a
    request reaches notes it exactly once, at the insertion: that is where entries are touched and move up.

    Keys are noted from the last to the first, so that of a prefix the end is always older than the beginning: whatever
    an LRU tier holds of it then begins at its beginning.

    - Inclusive, write through: every tier gets every entry at once, so each behaves as if it were alone.
    - Inclusive, selective: a tier gets an entry once the next faster one has had `selective_uses` requests for it.
    - Inclusive, back: a tier gets an entry when the next faster one evicts it, and notes every request for it.
    - Exclusive: a request takes its entries out of where they are and puts them into the first tier; whoever leaves a
      tier goes into the next. An entry that is pinned stays where it is, too, until it is used again or evicted.
    """

    def __init__(self, tiers: Sequence[Tier], config: Tiered) -> None:
        self.tiers = list(tiers)
        self._back = config.write == "back"
        self._uses = config.selective_uses
        self._pinned: dict[Key, list[int]] = {}
        """In which tiers this GPU's requests keep each key, one index a pin."""
        notes = {"through": self._note_through, "selective": self._note_selective, "back": self._note_back}
        self.note = self._note_exclusive if config.placement == "exclusive" else notes[config.write]
        """Note a request for one key, as `insert` does for each of its keys."""

    def look_up(self, keys: Sequence[Key], tokens: Sequence[int]) -> Lookup:
        """What is there of `keys`, in the order of the prompt, of each of which `tokens` are asked for; no changes."""
        found: list[int] = []
        given: list[int] = []
        for key, asked in zip(keys, tokens, strict=True):
            for index, tier in enumerate(self.tiers):
                held = tier.held(key)
                if held:
                    found.append(index)
                    given.append(min(held, asked))
                    break
            else:
                break
            if given[-1] < asked:
                break
        return Lookup(found, given)

    def use(self, keys: Sequence[Key], lookup: Lookup, count: int) -> Moves:
        """Count what was found, of which the first `count` keys are loaded and the rest recomputed."""
        read = [0] * len(self.tiers)
        for place, (index, tokens) in enumerate(zip(lookup.tiers, lookup.tokens, strict=True)):
            tier = self.tiers[index]
            tier.hits += 1
            if place < count:
                tier.hit_tokens += tokens
                read[index] += tokens
            else:
                tier.recomputed_tokens += tokens
        for tier, read_tokens in zip(self.tiers, read, strict=True):
            tier.read_tokens += read_tokens
        return Moves([tier.to_bytes(n) for tier, n in zip(self.tiers, read, strict=True)], [0] * len(read))

    def insert(self, keys: Sequence[Key], tokens: Sequence[int]) -> Moves:
        """Note a request that was served and left `tokens` under each of its `keys`, in the order of the prompt."""
        before = [tier.written_tokens for tier in self.tiers]
        for key, there in zip(reversed(keys), reversed(tokens), strict=True):
            self.note(key, there)
        return self._written_since(before)

    def pin(self, keys: Sequence[Key]) -> None:
        """Keep those that are there from leaving the fastest tier that holds them."""
        for key in keys:
            for index, tier in enumerate(self.tiers):
                if tier.held(key):
                    tier.pin(key)
                    self._pinned.setdefault(key, []).append(index)
                    break

    def unpin(self, keys: Sequence[Key]) -> Moves:
        """Take one pin of each key back; what only pins had kept beyond a tier's capacity goes where evicted go."""
        before = [tier.written_tokens for tier in self.tiers]
        for key in keys:
            pinned = self._pinned.get(key)
            if pinned:
                index = pinned.pop()
                if not pinned:
                    del self._pinned[key]
                self._demote(index, self.tiers[index].unpin(key))
        return self._written_since(before)

    def resize(self, index: int, capacity: int) -> Moves:
        """Change the capacity of a tier, in its own unit; whoever leaves goes where evicted entries go."""
        before = [tier.written_tokens for tier in self.tiers]
        self._demote(index, self.tiers[index].resize(capacity))
        return self._written_since(before)

    def clear_own(self) -> None:
        """The GPU died: its own tiers are empty, and nothing that it used is pinned any more."""
        for key in list(self._pinned):
            self.unpin([key] * len(self._pinned[key]))
        for tier in self.tiers:
            if not tier.shared:
                tier.clear()

    def _note_through(self, key: Key, tokens: int) -> None:
        for tier in self.tiers:
            tier.touch(key)
            tier.put(key, tokens)

    def _note_selective(self, key: Key, tokens: int) -> None:
        wanted = True
        for tier in self.tiers:
            tier.touch(key)
            if wanted or tier.held(key):
                tier.put(key, tokens)
            requests = 0
            if tier.held(key):
                requests = tier.requests[key] = tier.requests.get(key, 0) + 1
            wanted = requests >= self._uses

    def _note_back(self, key: Key, tokens: int) -> None:
        for tier in self.tiers:
            tier.touch(key)
        self._demote(0, self.tiers[0].put(key, tokens))

    def _note_exclusive(self, key: Key, tokens: int) -> None:
        first = self.tiers[0]
        if not first.touch(key):
            for tier in self.tiers[1:]:
                if tier.touch(key):
                    tokens = max(tokens, tier.held(key))
                    if key not in tier.pins:
                        tier.take_out(key)
                    break
        self._demote(0, first.put(key, tokens))

    def _demote(self, index: int, leaving: Sequence[Entry]) -> None:
        """Give the next tiers what left tier `index`, where that is how they get it."""
        if not self._back or index + 1 == len(self.tiers):
            return
        below = self.tiers[index + 1]
        for key, tokens in leaving:
            self._demote(index + 1, below.put(key, tokens))

    def _written_since(self, before: list[int]) -> Moves:
        written = [tier.to_bytes(tier.written_tokens - n) for tier, n in zip(self.tiers, before, strict=True)]
        return Moves([0] * len(written), written)
