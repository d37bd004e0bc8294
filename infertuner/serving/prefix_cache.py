"""One GPU's view of the KV cache: its local tier, the shared remote tier, and its sizing policy."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import NamedTuple

from infertuner.cache.config import TwoLevel
from infertuner.cache.lru import Lru
from infertuner.cache.two_level import TwoLevelCache
from infertuner.parts import fresh
from infertuner.records import CacheLevel
from infertuner.serving.request import Request


class Lookup(NamedTuple):
    """Where a request's prefix was found, how much of its prefill that saves and what it costs to get it."""

    level: CacheLevel
    cached_tokens: int
    fetch_s: float


NO_CACHE = Lookup(CacheLevel.NONE, 0, 0.0)


class PrefixCache:
    """The cache a GPU asks before prefill and feeds after the last token."""

    def __init__(self, config: TwoLevel, remote: Lru, log: array[int], resized: Callable[[int], None]) -> None:
        self.fetch_occupies_gpu = config.fetch_occupies_gpu
        self._config = config
        self._sizing = fresh(config.sizing)
        self._tiers = TwoLevelCache(Lru(self._sizing.initial_entries), remote)
        self._entries = self._sizing.initial_entries
        self._log, self._resized = log, resized

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

    def insert(self, request: Request, output_tokens: int) -> None:
        """Keep what has been computed: the prompt and every output token but the last, which nothing attended from."""
        self._log.append(~request.request_id)
        self._tiers.insert(request.session_id, request.prompt_tokens + output_tokens - 1)
