"""What a GPU finds in the tiers of a cache, what of it is worth loading, and how long the loading takes.

A request looks up its reusable prefix once. What it takes from a tier with a link it waits for, beside the GPU and
together with everybody else who reads over that link; its own GPU works on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from infertuner.cache.tiers.keys import Keyed
from infertuner.cache.tiers.tiered import Lookup as Found
from infertuner.cache.transfer import Channel, leading_to_load
from infertuner.latency.model import LatencyModel
from infertuner.records import CacheLevel, Records
from infertuner.serving.clock import Clock
from infertuner.serving.links import Link, Read
from infertuner.serving.prefix_cache import Lookup
from infertuner.serving.request import Request
from infertuner.serving.tier_set import TierSet
from infertuner.sources.requests import Key

MOST_STEPS = 32
"""Loading is weighed against prefilling for about so many leading parts of what was found, at most."""


class Fetch:
    """What one request waits for."""

    __slots__ = ("began_s", "done", "keys", "left", "reads")

    def __init__(self, began_s: float, lookup: Lookup, done: Callable[[], None]) -> None:
        self.began_s, self.keys, self.left, self.done = began_s, lookup.keys, len(lookup.reads), done
        self.reads: list[tuple[Link, Read]] = []


class GpuTiers:
    """The tiers that one GPU sees, on the simulated clock."""

    fetch_occupies_gpu = False

    def __init__(
        self,
        *,
        clock: Clock,
        gpu_id: int,
        tiers: TierSet,
        latency: LatencyModel,
        records: Records,
        block_size: int = 1,
        own_memory_first: bool = True,
    ) -> None:
        """block_size: tokens of which the GPU can only have all.
        own_memory_first: whether the first tier is the GPU's own memory.
        """
        self._clock, self._gpu_id, self._tiers = clock, gpu_id, tiers
        self._cache, self._links, self._keys = tiers.caches[gpu_id], tiers.links[gpu_id], tiers.keys
        self._latency, self._requests = latency, records.requests
        self._always, self._sessions = tiers.config.load == "always", tiers.config.keys == "session"
        self._size, self._local = block_size, 0 if own_memory_first else -1
        self._fetches: dict[int, Fetch] = {}

    def look_up(self, request: Request, now_s: float, own_tokens: int = 0) -> Lookup:
        """What tiers give this request beyond the `own_tokens` its GPU has itself, and how long that should take.

        `cached_tokens` is what there will be from the start of the prompt on, the GPU's own included.
        """
        row = request.request_id
        self._tiers.catch_up(now_s)
        keys, tokens, had = _beyond(own_tokens, self._keys.asked(row))
        found = self._new(self._cache.look_up(keys, tokens), had, own_tokens)
        count = self._count(request, found, own_tokens)
        read_bytes = self._cache.use(keys, found, count).read_bytes
        given = sum(found.tokens[:count])
        if not given:
            return Lookup(CacheLevel.MISS, own_tokens, 0.0)
        slowest, cached_tokens = max(found.tiers[:count]), own_tokens + given
        without_s, with_s = (self._rest_s(request, there) for there in (own_tokens, cached_tokens))
        self._requests.cache_tier[row] = slowest
        self._requests.prefill_saved_s[row] = without_s - with_s
        level = CacheLevel.LOCAL if slowest == self._local else CacheLevel.REMOTE
        reads = [(link, n) for link, n in zip(self._links, read_bytes, strict=True) if link is not None and n]
        expected_s = max((link.expected_s(n) for link, n in reads), default=0.0)
        return Lookup(level, cached_tokens, expected_s, reads, keys[:count])

    def fetch(self, request: Request, lookup: Lookup, done: Callable[[], None]) -> None:
        """Begin to read what `look_up` found over its links; `done` is called at the instant when all is there."""
        row = request.request_id
        self._fetches[row] = fetch = Fetch(self._clock.now_s, lookup, done)
        self._cache.pin(fetch.keys)
        fetch.reads = [(link, link.read(n, partial(self._end_read, row))) for link, n in lookup.reads]

    def insert(self, request: Request, output_tokens: int) -> None:
        """Keep what an answered request leaves, all but its last token, in whole blocks of the GPU."""
        now_s = self._clock.now_s
        self._tiers.catch_up(now_s)
        served = self._keys.served(request.request_id)
        if self._sessions:
            served = Keyed(served.keys, [served.tokens[0] // self._size * self._size])
        self._tiers.observe(self._gpu_id, served, now_s)
        self._cache.insert(*served)
        self._tiers.changed(self._gpu_id, now_s)

    def come(self) -> None:
        """The GPU is there from now on; its own tiers are empty."""
        self._tiers.come(self._gpu_id, self._clock.now_s)

    def go(self) -> None:
        """The GPU is gone, with its own tiers and all that was on its way to it."""
        for fetch in self._fetches.values():
            for link, read in fetch.reads:
                link.cancel(read)
        self._fetches.clear()
        self._tiers.catch_up(self._clock.now_s)
        self._cache.clear_own()
        self._tiers.go(self._gpu_id, self._clock.now_s)

    def _end_read(self, row: int) -> None:
        fetch, now_s = self._fetches[row], self._clock.now_s
        fetch.left -= 1
        if fetch.left:
            return
        del self._fetches[row]
        self._tiers.catch_up(now_s)
        self._cache.unpin(fetch.keys)
        self._tiers.changed(self._gpu_id, now_s)
        self._requests.fetch_s[row] = now_s - fetch.began_s
        fetch.done()

    def _new(self, found: Found, had: int, own_tokens: int) -> Found:
        """What of it the GPU does not have, in whole blocks; of the first key it has `had` tokens."""
        if not found.tokens:
            return found
        tokens = [found.tokens[0] - had, *found.tokens[1:]]
        over = (own_tokens + sum(tokens)) % self._size
        while tokens and over >= tokens[-1]:
            over -= tokens.pop()
        if tokens:
            tokens[-1] -= over
        return Found(found.tiers[: len(tokens)], tokens)

    def _count(self, request: Request, found: Found, own_tokens: int) -> int:
        """How many leading keys to load, so that loading them and prefilling the rest takes the least time."""
        there = len(found.tiers)
        if self._always or all(self._links[place] is None for place in found.tiers):
            return there
        ends = _steps(found.tiers)
        parts = [found.tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        tokens = [sum(part) for part in parts]
        per_token = self._cache.tiers[0].bytes_per_token
        load = leading_to_load(
            [found.tiers[end - 1] for end in ends],
            [per_token * part for part in tokens],
            tokens,
            [Channel() if link is None else link.channel() for link in self._links],
            lambda loaded: np.array([self._rest_s(request, own_tokens + part) for part in loaded.tolist()]),
        )
        return ends[load.num_blocks - 1] if load.num_blocks else 0

    def _rest_s(self, request: Request, cached_tokens: int) -> float:
        """By the law, seconds to prefill the rest of this prompt alone."""
        rest = request.prompt_tokens - cached_tokens
        return self._latency.prefill_s(batch_size=1, new_tokens=rest, cached_tokens=cached_tokens)


def _beyond(own_tokens: int, asked: Keyed) -> tuple[Sequence[Key], Sequence[int], int]:
    """The keys, with their tokens, that a GPU does not have whole, and what it has of the first of them."""
    had, first = own_tokens, 0
    while first < len(asked.tokens) and asked.tokens[first] <= had:
        had -= asked.tokens[first]
        first += 1
    return asked.keys[first:], asked.tokens[first:], had


def _steps(tiers: Sequence[int]) -> list[int]:
    """Where to cut found keys into parts that are loaded or not: where the tier changes, and in even steps between."""
    step = -(-len(tiers) // MOST_STEPS)
    last = len(tiers)
    return [i for i in range(1, last + 1) if i == last or i % step == 0 or tiers[i] != tiers[i - 1]]
