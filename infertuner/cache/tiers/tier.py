"""One tier: what it holds, who leaves when it is full, and what went in and out."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from infertuner.cache.eviction.policy import Entry, EvictionPolicy
from infertuner.records import TierUse
from infertuner.sources.requests import Ints, Key


class Served(NamedTuple):
    """What a tier did with requests for one key each."""

    held_before: Ints
    """The tokens it held of each, 0 where it held nothing."""
    changed: Ints
    """The places of those after which it held more or fewer tokens in all."""
    held_after: Ints
    """How many it then held in all."""

    @classmethod
    def of(cls, held_before: array[int], changed: array[int], held_after: array[int]) -> Served:
        """The columns, each in an array of type q."""
        return cls(*(np.frombuffer(column, dtype=np.int64) for column in (held_before, changed, held_after)))


class Tier:
    """A tier with so many bytes; the policy knows who leaves, and nobody here knows the time.

    Everything is counted in tokens, whole numbers that become bytes when asked: the policy's sizes and capacity are
    tokens too. At every moment `written_tokens` = `held_tokens` + `evicted_tokens` + `removed_tokens`.
    """

    in_bytes = True
    """Whether its capacity is in bytes."""

    def __init__(self, name: str, policy: EvictionPolicy, *, bytes_per_token: float, shared: bool = False) -> None:
        """bytes_per_token: KV of one token over all layers."""
        self.name, self.policy, self.shared, self.bytes_per_token = name, policy, shared, bytes_per_token
        self.touch: Callable[[Key], bool] = policy.touch
        """Note a request for a key; whether it is here. The policy's own method, so that it costs no more."""
        self.held: Callable[[Key], int] = policy.size_of
        """The tokens of an entry, 0 for what is not here."""
        self._insert: Callable[[Key, int], Sequence[Entry]] = policy.insert
        """Give a key its tokens, without counting."""
        self.pins: dict[Key, int] = {}
        """How many requests keep an entry from leaving; only entries that at least one keeps are here."""
        self.requests: dict[Key, int] = {}
        """How many requests came for each entry since it is here; filled by who writes selectively."""
        self.written_tokens = 0
        """Into this tier; of an entry that grew, what was new."""
        self.written_entries = 0
        self.read_tokens = 0
        """Out of it, towards the GPU."""
        self.removed_tokens = 0
        """Moved to another tier, or lost with the GPU."""
        self.removed_entries = 0
        self.hits = 0
        """Lookups of keys it held and faster tiers did not."""
        self.hit_tokens = 0
        self.recomputed_tokens = 0

    @property
    def capacity(self) -> int:
        """In its own unit, rounded down to whole tokens."""
        return math.floor(self.policy.capacity * self.bytes_per_token)

    @property
    def held_tokens(self) -> int:
        """Tokens held now."""
        return self.policy.used

    @property
    def held_entries(self) -> int:
        """Entries held now."""
        return len(self.policy)

    @property
    def evicted_tokens(self) -> int:
        """Tokens of entries that had to leave."""
        return self.written_tokens - self.held_tokens - self.removed_tokens

    @property
    def evictions(self) -> int:
        """Entries that had to leave."""
        return self.written_entries - self.held_entries - self.removed_entries

    def size(self, tokens: int) -> int:
        """The size of an entry of so many tokens in this tier's unit."""
        return self.to_bytes(tokens)

    def put(self, key: Key, tokens: int) -> Sequence[Entry]:
        """Put in an entry, or let one that is here grow, and return whoever left: the entry itself if it does not fit.

        Those who leave come with their tokens. An entry never shrinks: fewer tokens than it holds change nothing.
        """
        before = self.held(key)
        return self.grow(key, before, tokens) if tokens > before else ()

    def grow(self, key: Key, before: int, tokens: int) -> Sequence[Entry]:
        """Let an entry of `before` tokens, 0 if it is not here, have `tokens`, which are more; as `put`."""
        leaving = self._insert(key, tokens)
        if self.requests:
            self._forget(leaving)
        if not any(gone == key for gone, _ in leaving):
            self.written_tokens += tokens - before
            self.written_entries += not before
        return leaving

    def serve(self, keys: Iterable[Key], tokens: Ints) -> Served:
        """Note requests for one key each, one after the other, as `touch` and `put` would, and faster."""
        held_before, changed, held_after = array("q"), array("q"), array("q")
        gave, note_change, note_held = held_before.append, changed.append, held_after.append
        touch, held_by, insert = self.touch, self.held, self._insert
        held_tokens, refused = self.held_tokens, []
        for key, there in zip(keys, tokens.tolist(), strict=True):
            held = held_by(key) if touch(key) else 0
            gave(held)
            if there > held:
                in_all = held_tokens + there - held
                for gone, size in insert(key, there):
                    in_all -= size
                    if gone == key:
                        refused.append(len(held_before) - 1)
                if in_all != held_tokens:
                    held_tokens = in_all
                    note_change(len(held_before) - 1)
                    note_held(in_all)
        return self._count(Served.of(held_before, changed, held_after), tokens, refused)

    def _count(self, served: Served, tokens: Ints, refused: Sequence[int] | Ints) -> Served:
        """Count what was written, not that of the places in `refused`, which were not let in or left for growing."""
        before = served.held_before
        written = np.maximum(tokens - before, 0)
        written[refused] = 0
        self.written_tokens += int(written.sum())
        self.written_entries += int(np.count_nonzero((before == 0) & (written > 0)))
        return served

    def take_out(self, key: Key) -> int:
        """Remove an entry that is here, for another tier or because it is lost, and return the tokens it held."""
        tokens = self.held(key)
        self.policy.remove(key)
        self.requests.pop(key, None)
        self.removed_tokens += tokens
        self.removed_entries += 1
        return tokens

    def resize(self, capacity: int) -> Sequence[Entry]:
        """Change the capacity, in its own unit, and return whoever left."""
        leaving = self.policy.resize(math.floor(capacity / self.bytes_per_token))
        self._forget(leaving)
        return leaving

    def pin(self, key: Key) -> None:
        """Keep an entry that is here from leaving; pins count."""
        self.policy.pin(key)
        self.pins[key] = self.pins.get(key, 0) + 1

    def unpin(self, key: Key) -> Sequence[Entry]:
        """Take one pin back and return whoever left because only pins had kept more than the capacity."""
        self.pins[key] -= 1
        if not self.pins[key]:
            del self.pins[key]
        leaving = self.policy.unpin(key)
        self._forget(leaving)
        return leaving

    def clear(self) -> None:
        """Lose everything, pinned or not."""
        self.pins.clear()
        for key in list(self.policy):
            self.take_out(key)

    def to_bytes(self, tokens: int) -> int:
        """Bytes of so many tokens."""
        return round(tokens * self.bytes_per_token)

    def use(self, gpu_id: int) -> TierUse:
        """The record of what happened so far, without anything that takes a clock."""
        return TierUse(
            name=self.name,
            gpu_id=-1 if self.shared else gpu_id,
            capacity_bytes=self.capacity if self.in_bytes else None,
            hits=self.hits,
            hit_tokens=self.hit_tokens,
            recomputed_tokens=self.recomputed_tokens,
            evictions=self.evictions,
            evicted_bytes=self.to_bytes(self.evicted_tokens),
            written_bytes=self.to_bytes(self.written_tokens),
            read_bytes=self.to_bytes(self.read_tokens),
        )

    def _forget(self, leaving: Sequence[Entry]) -> None:
        for key, _ in leaving:
            self.requests.pop(key, None)


class EntryTier(Tier):
    """A tier with room for so many entries, whatever their size: to its policy each counts 1."""

    in_bytes = False

    def __init__(self, name: str, policy: EvictionPolicy, *, bytes_per_token: float, shared: bool = False) -> None:
        super().__init__(name, policy, bytes_per_token=bytes_per_token, shared=shared)
        self._tokens: dict[Key, int] = {}
        self._held_tokens = 0
        self.held, self._insert = self._held, self._put_in

    @property
    def capacity(self) -> int:
        """Entries."""
        return self.policy.capacity

    @property
    def held_tokens(self) -> int:
        """Tokens held now."""
        return self._held_tokens

    def size(self, tokens: int) -> int:
        """Each entry counts 1."""
        return 1

    def take_out(self, key: Key) -> int:
        """As in a tier with so many bytes."""
        tokens = super().take_out(key)
        self._held_tokens -= self._tokens.pop(key)
        return tokens

    def resize(self, capacity: int) -> Sequence[Entry]:
        """Change the capacity and return whoever left."""
        leaving = self._left(self.policy.resize(capacity))
        self._forget(leaving)
        return leaving

    def unpin(self, key: Key) -> Sequence[Entry]:
        """Growing needs no room, so that nobody leaves unless it shrank."""
        return self._left(super().unpin(key))

    def _held(self, key: Key) -> int:
        return self._tokens.get(key, 0)

    def _put_in(self, key: Key, tokens: int) -> Sequence[Entry]:
        """What is here grows without more room."""
        before = self._tokens.get(key, 0)
        self._tokens[key] = tokens
        self._held_tokens += tokens - before
        evicted = () if before else self.policy.insert(key, 1)
        return self._left(evicted) if evicted else ()

    def _left(self, evicted: Sequence[Entry]) -> Sequence[Entry]:
        """Those who left, with their tokens."""
        leaving = [(key, self._tokens.pop(key)) for key, _ in evicted]
        for _, tokens in leaving:
            self._held_tokens -= tokens
        return leaving
