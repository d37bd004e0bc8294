"""One GPU's view of a two-level cache: its local tier, the shared remote tier, and its sizing policy."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from infertuner.cache.config import TwoLevel
from infertuner.cache.lru import Lru
from infertuner.cache.two_level import TwoLevelCache
from infertuner.parts import fresh
from infertuner.records import CacheLevel
from infertuner.serving.clock import Clock
from infertuner.serving.links import Link
from infertuner.serving.request import Request
from infertuner.sources.requests import Key


class Lookup(NamedTuple):
    """Where a request's prefix was found, how much of its prefill that saves and what it costs to get it."""

    level: CacheLevel
    cached_tokens: int
    fetch_s: float
    """What getting it takes; over a link that others use too, what it would take if nobody came or went."""
    reads: Sequence[tuple[Link, int]] = ()
    """Bytes to read over links; none where the seconds are all there is to it."""
    keys: Sequence[Key] = ()
    """Of entries that it was found under, where links read them."""


NO_CACHE = Lookup(CacheLevel.NONE, 0, 0.0)


class PrefixCache(Protocol):
    """The cache a GPU asks before prefill and feeds after the last token."""

    @property
    def fetch_occupies_gpu(self) -> bool:
        """Whether the GPU stands still while a prefix is fetched."""
        ...

    def come(self) -> None:
        """Learn that the GPU is there from now on."""
        ...

    def go(self) -> None:
        """Learn that the GPU is gone, and with it what it held and waited for."""
        ...

    def look_up(self, request: Request, now_s: float) -> Lookup:
        """What is there of the request's reusable prefix."""
        ...

    def fetch(self, request: Request, lookup: Lookup, done: Callable[[], None]) -> None:
        """Begin to fetch what was found, beside the GPU; `done` is called when it is there."""
        ...

    def insert(self, request: Request, output_tokens: int) -> None:
        """Keep what has been computed: the prompt and every output token but the last, which nothing attended from."""
        ...


class TwoLevelPrefixCache:
    """A local tier in front of the remote one; whoever fetches has the way to the remote tier to itself."""

    def __init__(
        self, config: TwoLevel, remote: Lru, log: array[int], resized: Callable[[int], None], clock: Clock
    ) -> None:
        self.fetch_occupies_gpu = config.fetch_occupies_gpu
        self._config = config
        self._sizing = fresh(config.sizing)
        self._tiers = TwoLevelCache(Lru(self._sizing.initial_entries), remote)
        self._entries = self._sizing.initial_entries
        self._log, self._resized, self._clock = log, resized, clock

    def come(self) -> None:
        """Two-level caches belong to GPUs that stay."""

    def go(self) -> None:
        """Only at the end of time."""

    def look_up(self, request: Request, now_s: float) -> Lookup:
        """Let the sizing policy see the request, resize if it says so, then look the session up."""
        entries = self._sizing.observe(request.session_id, now_s)
        if entries != self._entries:
            self._tiers.resize_local(entries)
            self._entries = entries
            self._resized(entries)
        self._log.append(request.request_id)
        level, tokens = self._tiers.lookup(request.session_id)
        tokens = min(tokens, request.prefix_tokens)
        saved = tokens if self._config.saves_prefill else 0
        return Lookup(level, saved, self._config.fetch_s(level, tokens))

    def fetch(self, request: Request, lookup: Lookup, done: Callable[[], None]) -> None:
        """Let the seconds pass."""
        self._clock.wait_s(lookup.fetch_s).callbacks.append(lambda _: done())

    def insert(self, request: Request, output_tokens: int) -> None:
        """Keep prompt and answer under the session."""
        self._log.append(~request.request_id)
        self._tiers.insert(request.session_id, request.prompt_tokens + output_tokens - 1)
