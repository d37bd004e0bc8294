"""Tiers on a clock: what they hold and what is paid for over time, and the controllers that resize them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from infertuner.cache.sizing.elastic import Elastic
from infertuner.cache.tiers.config import Tiered
from infertuner.cache.tiers.keys import Keyed
from infertuner.cache.tiers.tier import Tier
from infertuner.cache.tiers.tiered import TieredCache
from infertuner.parts import fresh
from infertuner.records import CapacityColumns, TierUse
from infertuner.sources.requests import Floats, Ints, Key


class MeteredTier:
    """One tier, the integrals of what it holds and of its capacity, and the controller that resizes it."""

    def __init__(self, tier: Tier, place: int, gpu_id: int, elastic: Elastic | None) -> None:
        """place: its index in the order of looking. gpu_id: whose it is, -1 where all share it."""
        self.tier, self.place, self.gpu_id = tier, place, gpu_id
        self.elastic = None if elastic is None else fresh(elastic)
        self.next_tick_s = math.inf if elastic is None else elastic.every_s
        self.away = False
        """Whether its GPU is not there, so that nobody pays for it."""
        self.held = array("q")
        """To be appended to: the tokens held after each request that changed that, since `follow`."""
        self.changed = array("q")
        """The places of those requests."""
        self._since_s = self._held_token_s = self._capacity_s = 0.0
        self._held_tokens = tier.held_tokens
        self._ticks = self._infeasible_ticks = self._resizes = 0

    def observe(self, key: Key, tokens: int, now_s: float) -> None:
        """Show its controller a request for `key`, of which there will be `tokens`, before the tier notes it."""
        assert self.elastic is not None
        self.elastic.observe(key, self.tier.size(tokens), self.tier.held(key) > 0, now_s)

    def note(self, row: int) -> None:
        """Remember what it holds after the request at place `row`, if that is news."""
        held = self.tier.held_tokens
        if held != (self.held[-1] if self.held else self._held_tokens):
            self.held.append(held)
            self.changed.append(row)

    def serve(self, rows: Ints, keys: Sequence[Key], tokens: Ints, at_s: Floats) -> Ints:
        """Note requests for one key each in this tier alone, and return the tokens it held of each before.

        rows: their places among the requests of which `follow` will be told.
        """
        served = self.tier.serve(keys, tokens)
        self.changed.frombytes(rows[served.changed].tobytes())
        self.held.frombytes(served.held_after.tobytes())
        if self.elastic is not None:
            observe, size = self.elastic.observe, self.tier.size
            hits = (served.held_before > 0).tolist()
            for key, there, hit, now_s in zip(keys, tokens.tolist(), hits, at_s.tolist(), strict=True):
                observe(key, size(there), hit, now_s)
        return served.held_before

    def tick(self, resize: Callable[[int, int], object]) -> bool:
        """Let its controller decide, and resize the tier by `resize(place, capacity)` if it wants another capacity.

        Whether the controller said that its aim can be reached.
        """
        assert self.elastic is not None
        now_s, before = self.next_tick_s, self.tier.capacity
        self.next_tick_s = now_s + self.elastic.every_s
        capacity, feasible = self.elastic.decide(now_s, before)
        if capacity != before:
            resize(self.place, capacity)
        self._ticks += 1
        self._infeasible_ticks += not feasible
        self._resizes += self.tier.capacity != before
        return feasible

    def advance(self, now_s: float) -> None:
        """Nothing happened until `now_s`; from then on it holds what it holds now."""
        self._held_token_s += self._held_tokens * (now_s - self._since_s)
        if not self.away:
            self._capacity_s += self.tier.capacity * (now_s - self._since_s)
        self._since_s = now_s
        self._held_tokens = self.tier.held_tokens

    def follow(self, at_s: Floats) -> None:
        """Requests came at these instants, and those in `changed` left `held` behind."""
        if self.changed:
            changed_at_s = at_s[np.frombuffer(self.changed, dtype=np.int64)]
            held = np.frombuffer(self.held, dtype=np.int64)
            self._held_token_s += self._held_tokens * (changed_at_s[0] - self._since_s)
            self._held_token_s += np.dot(np.diff(changed_at_s), held[:-1])
            self._capacity_s += self.tier.capacity * (changed_at_s[-1] - self._since_s)
            self._since_s, self._held_tokens = float(changed_at_s[-1]), int(held[-1])
            self.held, self.changed = array("q"), array("q")

    def use(self) -> TierUse:
        """The record of the tier until the last instant it was told of."""
        use = self.tier.use(self.gpu_id)
        use.held_byte_s = float(self._held_token_s * self.tier.bytes_per_token)
        use.capacity_byte_s = float(self._capacity_s) if self.tier.in_bytes else math.nan
        use.resizes, use.ticks, use.infeasible_ticks = self._resizes, self._ticks, self._infeasible_ticks
        return use


class MeteredTiers:
    """The tiers of all GPUs on one clock."""

    def __init__(self, config: Tiered, caches: Sequence[TieredCache]) -> None:
        self.all: list[MeteredTier] = []
        """Each once, in the order of looking, GPU after GPU; those that all share with the first."""
        self.of_gpu: list[list[MeteredTier]] = []
        """Those each GPU sees, in the order of looking."""
        self.capacities = CapacityColumns()
        self._caches, self._exclusive = caches, config.placement == "exclusive"
        sizing = [tier.sizing for tier in config.tiers.values()]
        for gpu_id, cache in enumerate(caches):
            own = []
            for place, tier in enumerate(cache.tiers):
                if tier.shared and gpu_id:
                    own.append(self.of_gpu[0][place])
                else:
                    own.append(MeteredTier(tier, place, -1 if tier.shared else gpu_id, sizing[place]))
                    self.all.append(own[-1])
            self.of_gpu.append(own)
        for metered in self.all:
            self._note_capacity(metered, 0.0, feasible=True)

    def observe(self, gpu_id: int, served: Keyed, now_s: float) -> None:
        """Show controllers the keys that will reach their tiers, in the order in which tiers note them.

        Of exclusive tiers, only those that no faster one holds.
        """
        for metered in self.of_gpu[gpu_id]:
            if metered.elastic is None:
                continue
            faster = self._caches[gpu_id].tiers[: metered.place] if self._exclusive else []
            for key, tokens in zip(reversed(served.keys), reversed(served.tokens), strict=True):
                if not any(tier.held(key) for tier in faster):
                    metered.observe(key, tokens, now_s)

    @property
    def next_tick_s(self) -> float:
        """When a controller decides next."""
        return min(metered.next_tick_s for metered in self.all)

    def tick(self, now_s: float) -> None:
        """Let the controllers decide whose time has come; a tier that is resized may fill another."""
        self.advance(now_s)
        for metered in self.all:
            if metered.next_tick_s <= now_s:
                before = metered.tier.capacity
                feasible = metered.tick(self._caches[max(metered.gpu_id, 0)].resize)
                if metered.tier.capacity != before:
                    self._note_capacity(metered, now_s, feasible)
        self.advance(now_s)

    def advance(self, now_s: float) -> None:
        """Nothing happened until `now_s`."""
        for metered in self.all:
            metered.advance(now_s)

    def follow(self, at_s: Floats) -> None:
        """Requests came at these instants, and each tier knows after which of them it held how much."""
        for metered in self.all:
            metered.follow(at_s)

    def _note_capacity(self, metered: MeteredTier, at_s: float, feasible: bool) -> None:
        self.capacities.gpu_id.append(metered.gpu_id)
        self.capacities.tier.append(metered.place)
        self.capacities.at_s.append(at_s)
        self.capacities.capacity.append(metered.tier.capacity)
        self.capacities.feasible.append(feasible)
