"""A GPU that runs static batches: the one place where serving time passes.

The loop is decide, execute, apply: ask the batcher, let the batch's seconds pass, stamp what happened.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import groupby, takewhile
from typing import Any, NamedTuple

from simpy import Event, Interrupt, Process

from infertuner.latency.model import LatencyModel
from infertuner.records import Records, Status
from infertuner.serving.batch_log import BatchLog
from infertuner.serving.batchers import Batcher
from infertuner.serving.clock import Clock
from infertuner.serving.prefix_cache import NO_CACHE, Lookup, PrefixCache
from infertuner.serving.request import Request

Steps = Generator[Event, Any, None]


class Member(NamedTuple):
    """A request in a running batch, with what the cache gave it and the output length only its GPU knows."""

    request: Request
    lookup: Lookup
    output_tokens: int


class StaticGpu:
    """One GPU: a queue, a batcher, a latency model and possibly a KV cache. Idle, starting up, or running one batch."""

    def __init__(
        self,
        *,
        clock: Clock,
        gpu_id: int,
        batcher: Batcher,
        latency: LatencyModel,
        cache: PrefixCache | None,
        records: Records,
        answered: Callable[[Request, int], None],
    ) -> None:
        self._clock, self._gpu_id = clock, gpu_id
        self._batcher, self._latency, self._cache = batcher, latency, cache
        self._output_tokens = records.asked.output_tokens.data
        self._requests, self._log, self._answered = records.requests, BatchLog(gpu_id, records.steps), answered
        self._iteration = 0
        self._waiting: deque[Request] = deque()
        self._fetched: dict[int, Lookup] = {}
        self._held: dict[int, Request] = {}
        """Waiting, fetching and running requests by id."""
        self._draining = False
        self._wake: Event | None = None
        self._life: Process | None = None

    def start(self, startup_s: float) -> None:
        """Begin to start up."""
        self._draining = False
        if self._cache is not None:
            self._cache.come()
        self._life = self._clock.process(self._serve(startup_s))

    @property
    def outstanding(self) -> int:
        """Requests waiting, fetching their prefix, and running."""
        return len(self._held)

    @property
    def kv_blocks(self) -> int:
        """Static batches count none."""
        return 0

    def submit(self, request: Request) -> None:
        """Put a request at the end of the queue."""
        self._waiting.append(request)
        self._held[request.request_id] = request
        self._notify()

    def drain(self) -> None:
        """Learn that no further request will come."""
        self._draining = True
        self._notify()

    def kill(self) -> list[Request]:
        """Lose everything and return the requests it held, in order of arrival."""
        if self._life is not None and self._life.is_alive:
            self._life.interrupt()
        self._log.cut(self._clock.now_s)
        if self._cache is not None:
            self._cache.go()
        lost = list(self._held.values())
        self._held.clear()
        self._waiting.clear()
        self._fetched.clear()
        self._wake = self._life = None
        return lost

    def stop(self) -> None:
        """Batches are logged when they end."""

    def _serve(self, startup_s: float) -> Steps:
        """The GPU's life: start up, then plan and run batches until it is killed."""
        with suppress(Interrupt):
            yield self._clock.wait_s(startup_s)
            yield from self._batches()

    def _batches(self) -> Steps:
        while True:
            if not self._waiting:
                yield from self._sleep(math.inf)
                continue
            plan = self._batcher.plan(self._waiting, self._clock.now_s, self._draining)
            if plan.take == 0:
                yield from self._sleep(plan.wait_until_s)
                continue
            if plan.hold_s:
                yield self._clock.wait_s(plan.hold_s)
            batch = self._admit(plan.take)
            if batch:
                yield from self._run(batch)

    def _notify(self) -> None:
        if self._wake is not None:
            self._wake.succeed()
            self._wake = None

    def _sleep(self, until_s: float) -> Steps:
        """Wait for news or for an instant, whichever is first."""
        self._wake = wake = self._clock.event()
        yield wake if until_s == math.inf else wake | self._clock.wait_until_s(until_s)
        self._wake = None

    def _admit(self, take: int) -> list[Member]:
        """Take the oldest requests off the queue; those that must first fetch their prefix are set aside meanwhile."""
        batch = []
        for _ in range(take):
            request = self._waiting.popleft()
            lookup = self._fetched.pop(request.request_id, None)
            if lookup is None:
                lookup = self._look_up(request)
                if lookup.fetch_s and self._cache is not None and not self._cache.fetch_occupies_gpu:
                    self._fetch(self._cache, request, lookup)
                    continue
            batch.append(Member(request, lookup, self._output_tokens[request.request_id]))
        return batch

    def _look_up(self, request: Request) -> Lookup:
        if self._cache is None:
            return NO_CACHE
        lookup = self._cache.look_up(request, self._clock.now_s)
        row = request.request_id
        self._requests.cache_level[row] = lookup.level
        self._requests.cached_tokens[row] = lookup.cached_tokens
        if not lookup.reads:  # what those take is known when they are done
            self._requests.fetch_s[row] = lookup.fetch_s
        return lookup

    def _fetch(self, cache: PrefixCache, request: Request, lookup: Lookup) -> None:
        """Let the transfer run beside the GPU; the request returns to its place in the queue when it is done."""

        def done() -> None:
            self._fetched[request.request_id] = lookup
            ahead = takewhile(lambda other: other.request_id < request.request_id, self._waiting)
            self._waiting.insert(sum(1 for _ in ahead), request)
            self._notify()

        cache.fetch(request, lookup, done)

    def _run(self, batch: list[Member]) -> Steps:
        """Prefill, then decode until the last member is answered.

        The batch is padded: to its longest prompt, and to the most tokens any member still has to prefill.
        """
        size = len(batch)
        started_at_s = self._clock.now_s
        occupied_s = self._occupied_s(batch)
        prompt_tokens = max(member.request.prompt_tokens for member in batch)
        new_tokens = max(member.request.prompt_tokens - member.lookup.cached_tokens for member in batch)
        prefill_s = self._latency.prefill_s(
            batch_size=size, new_tokens=new_tokens, cached_tokens=prompt_tokens - new_tokens
        )
        prefill_s *= self._noise(1)
        pending_s = occupied_s + prefill_s
        self._stamp_start(batch, started_at_s, prefill_s, started_at_s + pending_s)
        self._log.begin(started_at_s, size, occupied_s, prefill_s)
        decoded, decode_s, running = 0, 0.0, size
        for leavers, until in self._departures(batch):
            if until > decoded:
                seconds = self._latency.decode_s(
                    batch_size=running, context_tokens=prompt_tokens + 1 + decoded, steps=until - decoded
                )
                seconds *= self._noise(until - decoded)
                decode_s += seconds
                pending_s += seconds
            yield self._clock.wait_s(pending_s)
            pending_s = 0.0
            decoded = until
            running -= len(leavers)
            for member in leavers:
                self._finish(member)
        self._log.end(decode_s)

    def _noise(self, steps: int) -> float:
        """The mean multiplier of this GPU's next iterations."""
        noise = self._latency.noise
        if noise is None:
            return 1.0
        plain, _ = noise.sums(self._iteration, steps)
        self._iteration += steps
        return plain / (1000 * steps)

    def _occupied_s(self, batch: list[Member]) -> float:
        """Seconds the GPU stands still for the cache: transfers of a batch share one link, one after the other."""
        if self._cache is None or not self._cache.fetch_occupies_gpu:
            return 0.0
        return sum(member.lookup.fetch_s for member in batch)

    def _departures(self, batch: list[Member]) -> list[tuple[list[Member], int]]:
        """Who leaves after how many decode steps. The first output token comes from the prefill."""
        if self._batcher.padded:
            return [(batch, max(member.output_tokens for member in batch) - 1)]
        ordered = sorted(batch, key=lambda member: member.output_tokens)
        return [(list(group), tokens - 1) for tokens, group in groupby(ordered, lambda member: member.output_tokens)]

    def _stamp_start(self, batch: list[Member], started_at_s: float, prefill_s: float, first_token_at_s: float) -> None:
        for member in batch:
            row = member.request.request_id
            self._requests.started_at_s[row] = started_at_s
            self._requests.prefill_s[row] = prefill_s
            self._requests.first_token_at_s[row] = first_token_at_s
            self._requests.batch_size[row] = len(batch)

    def _finish(self, member: Member) -> None:
        self._requests.finished_at_s[member.request.request_id] = self._clock.now_s
        self._requests.status[member.request.request_id] = Status.FINISHED
        del self._held[member.request.request_id]
        if self._cache is not None:
            self._cache.insert(member.request, member.output_tokens)
        self._answered(member.request, self._gpu_id)
