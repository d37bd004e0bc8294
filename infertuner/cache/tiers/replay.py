"""Requests through tiers without a simulation around them: what the cache alone does with them, fast."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infertuner.cache.analysis.uses import next_uses
from infertuner.cache.tiers.build import build_tiers
from infertuner.cache.tiers.config import Tiered
from infertuner.cache.tiers.keys import Keyed, RequestKeys, SessionKeys, keys_of
from infertuner.cache.tiers.metered import MeteredTiers
from infertuner.cache.tiers.tiered import TieredCache
from infertuner.cache.tiers.trace_lru import foresee
from infertuner.records import CapacityColumns, TierUse
from infertuner.sources.requests import Floats, Ints, Key, Requests

ROWS_AT_ONCE = 2**18
"""Rows of which columns are kept as Python's own numbers at a time."""


@dataclass(frozen=True)
class TierReplay:
    """What tiers did with a sequence of requests. Columns have shape (n,), one row a request."""

    tiers: list[TierUse]
    """What every tier did, in the order of looking, GPU after GPU; one that all share is there once, with the first."""
    capacities: CapacityColumns
    tier: NDArray[np.int8]
    """The slowest tier that gave a request KV, an index into the configured tiers; -1 for none."""
    tokens: Ints
    """Prompt tokens that tiers gave: prefill saved."""
    asked_keys: int
    """Sessions or blocks looked for, all requests together."""
    hit_keys: int
    """How many of them were there, without a gap from the beginning of the prompt."""
    cold_misses: int
    """Keys asked for that no request had left before: no cache can have them."""
    ended_at_s: float
    """When the last request came."""

    @property
    def capacity_misses(self) -> int:
        """Keys asked for that a cache without limits would have had."""
        return self.asked_keys - self.hit_keys - self.cold_misses


def replay_tiers(
    requests: Requests,
    config: Tiered,
    at_s: Floats,
    *,
    bytes_per_token: float,
    gpu_id: Ints | None = None,
    gpus: int = 1,
    seed: int = 0,
) -> TierReplay:
    """Let each request, in order, use what is there and leave what it has said, as if it were served at once.

    at_s: when each comes, shape (n,), not decreasing; the clock starts at 0. Transfers take no time and all that is
        found is loaded: to wait for links, and to weigh loading against prefilling, takes a simulation.
    bytes_per_token: KV of one token over all layers.
    gpu_id: which of the `gpus` each request is sent to, shape (n,); without it all go to the first.
    seed: of what policies draw.
    """
    n = len(requests)
    where = np.zeros(n, dtype=np.int64) if gpu_id is None else gpu_id
    keys = keys_of(requests, config)

    def next_use(of: int) -> Sequence[int]:
        """A request notes its leaf first and needs its root first: of its own keys the leaf is used again last."""
        rows = np.flatnonzero((where == of) | (of < 0)).tolist()
        served = [keys.served(row).keys for row in rows]
        noted = [key for own in served for key in reversed(own)]
        lengths = np.array([len(own) for own in served], dtype=np.int64)
        firsts = np.repeat(2 * (np.cumsum(lengths) - lengths) + lengths - 1, lengths)
        needed = np.append(firsts - np.arange(len(noted)), len(noted))
        following: list[int] = needed[next_uses(noted)].tolist()
        return following

    tiers = build_tiers(config, bytes_per_token, gpus=gpus, seed=seed, next_use=next_use)
    if isinstance(keys, SessionKeys) and config.write == "through":
        tiers = foresee(tiers, requests.session_id, where)
    replay = _Replay(config, [TieredCache(own, config) for own in tiers], keys)
    row = 0
    while row < n:
        tick_s = replay.metered.next_tick_s
        stop = min(n, row + ROWS_AT_ONCE, int(np.searchsorted(at_s, tick_s)))
        replay.serve(row, stop, at_s[row:stop], where[row:stop])
        if stop < n and at_s[stop] >= tick_s:
            replay.metered.tick(tick_s)
        row = stop
    return replay.result(float(at_s[-1]) if n else 0.0)


class _Replay:
    """One replay under way."""

    def __init__(self, config: Tiered, caches: list[TieredCache], keys: RequestKeys) -> None:
        self.metered = MeteredTiers(config, caches)
        self._keys, self._caches = keys, caches
        self._through = config.write == "through"
        self._tier, self._tokens = array("b"), array("q")
        self._asked_keys = self._hit_keys = self._cold_misses = 0
        self._left: set[Key] = set()
        """Every key that a request has left."""

    def serve(self, start: int, stop: int, at_s: Floats, gpu_id: Ints) -> None:
        """Serve these rows, between which no tier is resized."""
        if not isinstance(self._keys, SessionKeys):
            self._serve_blocks(start, stop, at_s, gpu_id)
        elif self._through:
            self._serve_each_tier(self._keys, start, stop, at_s, gpu_id)
        else:
            self._serve_sessions(self._keys, start, stop, at_s, gpu_id)
        self.metered.follow(at_s)

    def _serve_each_tier(self, keys: SessionKeys, start: int, stop: int, at_s: Floats, gpu_id: Ints) -> None:
        """One tier after the other, which is faster: written through, none depends on what another does."""
        sessions, served = keys.sessions(start, stop), keys.served_tokens[start:stop]
        place, held = np.full(stop - start, -1), np.zeros(stop - start, dtype=np.int64)
        for metered in self.metered.all:
            if metered.gpu_id < 0 or len(self._caches) == 1:
                mine, asked = np.arange(stop - start), sessions
            else:
                mine = np.flatnonzero(gpu_id == metered.gpu_id)
                asked = [sessions[row] for row in mine.tolist()]
            here = metered.serve(mine, asked, served[mine], at_s[mine])
            first = (here > 0) & ((place[mine] < 0) | (place[mine] > metered.place))
            place[mine[first]], held[mine[first]] = metered.place, here[first]
        self._left.update(map(sessions.__getitem__, np.flatnonzero(place < 0).tolist()))
        self._count_hits(place, np.minimum(held, keys.asked_tokens[start:stop]), gpu_id)

    def _serve_sessions(self, keys: SessionKeys, start: int, stop: int, at_s: Floats, gpu_id: Ints) -> None:
        """One request after the other, each for one key, which takes few lines."""
        place, held = array("b"), array("q")
        found, gave, left = place.append, held.append, self._left.add
        gpus = [
            ([tier.held for tier in cache.tiers], cache.note, own, any(metered.elastic for metered in own))
            for cache, own in zip(self._caches, self.metered.of_gpu, strict=True)
        ]
        sessions, served = keys.sessions(start, stop), keys.served_tokens[start:stop].tolist()
        for row, key, there, gpu in zip(range(stop - start), sessions, served, gpu_id.tolist(), strict=True):
            tiers, note, metered, elastic = gpus[gpu]
            tokens = 0
            for index, held_by in enumerate(tiers):
                tokens = held_by(key)
                if tokens:
                    found(index)
                    break
            else:
                found(-1)
                left(key)
            gave(tokens)
            if elastic:
                self.metered.observe(gpu, Keyed((key,), (there,)), at_s[row])
            note(key, there)
            for tier in metered:
                tier.note(row)
        tokens_given = np.minimum(np.frombuffer(held, dtype=np.int64), keys.asked_tokens[start:stop])
        self._count_hits(np.frombuffer(place, dtype=np.int8), tokens_given, gpu_id)

    def _count_hits(self, place: NDArray[np.integer[Any]], tokens: Ints, gpu_id: Ints) -> None:
        """What `TieredCache.use` counts, for many requests at once."""
        self._tier.frombytes(place.astype(np.int8).tobytes())
        self._tokens.frombytes(tokens.tobytes())
        for gpu, cache in enumerate(self._caches):
            for index, tier in enumerate(cache.tiers):
                hit = (place == index) & (gpu_id == gpu)
                tier.hits += int(hit.sum())
                given = int(tokens[hit].sum())
                tier.hit_tokens += given
                tier.read_tokens += given
        self._asked_keys += len(place)
        self._hit_keys += int((place >= 0).sum())
        self._cold_misses = len(self._left)

    def _serve_blocks(self, start: int, stop: int, at_s: Floats, gpu_id: Ints) -> None:
        """Many keys a request, of which the first that is missing ends what is found."""
        left = self._left
        for row, gpu, now_s in zip(range(start, stop), gpu_id.tolist(), at_s.tolist(), strict=True):
            cache, metered = self._caches[gpu], self.metered.of_gpu[gpu]
            asked, served = self._keys.asked(row), self._keys.served(row)
            lookup = cache.look_up(*asked)
            hits = len(lookup.tiers)
            cache.use(asked.keys, lookup, hits)
            self._tier.append(max(lookup.tiers, default=-1))
            self._tokens.append(sum(lookup.tokens))
            self._asked_keys += len(asked.keys)
            self._hit_keys += hits
            self._cold_misses += sum(key not in left for key in asked.keys[hits:])
            left.update(served.keys)
            self.metered.observe(gpu, served, now_s)
            cache.insert(*served)
            for tier in metered:
                tier.note(row - start)

    def result(self, ended_at_s: float) -> TierReplay:
        """What has happened, until the last request."""
        self.metered.advance(ended_at_s)
        return TierReplay(
            tiers=[metered.use() for metered in self.metered.all],
            capacities=self.metered.capacities,
            tier=np.frombuffer(self._tier, dtype=np.int8),
            tokens=np.frombuffer(self._tokens, dtype=np.int64),
            asked_keys=self._asked_keys,
            hit_keys=self._hit_keys,
            cold_misses=self._cold_misses,
            ended_at_s=ended_at_s,
        )
