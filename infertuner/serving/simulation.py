"""One simulated run: clients, router and GPUs on one SimPy clock."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import numpy as np
from simpy import Event

from infertuner.cache.config import TwoLevel
from infertuner.cache.lru import Lru
from infertuner.errors import ScenarioError
from infertuner.latency.model import LatencyModel
from infertuner.parts import fresh
from infertuner.records import CacheSizeColumns, Records, RequestColumns, StepColumns
from infertuner.serving.clock import CLIENTS, FS_PER_NS, Call, Clock, client_ns, femtoseconds
from infertuner.serving.cluster import Cluster
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.continuous.engine import ContinuousGpu
from infertuner.serving.continuous.scheduler import ENDLESS
from infertuner.serving.prefix_cache import PrefixCache
from infertuner.serving.request import Request
from infertuner.serving.static import Process, StaticGpu
from infertuner.sources.requests import ClosedLoop, OpenLoop, Requests

Progress = Callable[[float], None]
"""Told now and then which share of the work is done, 0 to 1."""


class Gpu(Protocol):
    """What serves: static batches or iterations."""

    def start(self) -> None:
        """Begin to start up."""
        ...

    def submit(self, request: Request) -> None:
        """Put a request at the end of the queue."""
        ...

    def drain(self) -> None:
        """Learn that no further request will come."""
        ...

    def stop(self) -> None:
        """Learn that the clock stands still from now on."""
        ...


class Simulation:
    """The parts of one run, wired together. Nothing happens until `run`."""

    def __init__(
        self,
        asked: Requests,
        cluster: Cluster,
        latency: LatencyModel,
        cache: TwoLevel | None = None,
        progress: Progress | None = None,
        *,
        max_jump: int = ENDLESS,
    ) -> None:
        """`max_jump`: iterations of a continuous batch that may be one event; 1 walks them, to the same results."""
        self._asked, self._cluster, self._latency, self._progress = asked, cluster, latency, progress
        self._total = len(asked)
        self._clock = Clock()
        self._records = Records(
            asked=asked,
            requests=RequestColumns(len(asked)),
            steps=StepColumns(),
            cache_sizes=CacheSizeColumns(),
            num_gpus=cluster.gpus,
            ended_at_s=0.0,
            events=0,
        )
        self._requests = self._records.requests
        self._router = fresh(cluster.router)
        self._router.start(cluster.gpus)
        self._prompt_tokens, self._prefix_tokens = asked.prompt_tokens.data, asked.prefix_tokens.data
        self._answers: dict[int, Event] = {}
        self._held: deque[Request] = deque()
        self._dispatching = False
        self._sent, self._answered, self._last_answer_at_s = 0, 0, 0.0
        self._remote = Lru(cache.remote_entries if cache else None)
        self._gpus = [self._gpu(gpu_id, cache, max_jump) for gpu_id in range(cluster.gpus)]

    def run(self, horizon_s: float | None = None) -> Records:
        """Let the clock run until every request is answered, or until the horizon."""
        for gpu in self._gpus:
            gpu.start()
        self._start_clients()
        self._clock.run(until=None if horizon_s is None else femtoseconds(horizon_s))
        for gpu in self._gpus:
            gpu.stop()
        if horizon_s is None and self._answered < self._total:
            raise ScenarioError(
                f"cluster.batcher: {self._total - self._answered} of {self._total} requests wait for ever "
                "for a batch to fill, since users wait for answers or the router holds requests back; "
                "use kind 'timeout' or a smaller max_batch_size"
            )
        if horizon_s is not None:
            self._forget_after(horizon_s)
        records = self._records
        records.ended_at_s = self._last_answer_at_s if horizon_s is None else horizon_s
        records.events = self._clock.events
        records.outside_calls = self._latency.outside_calls
        if self._latency.noise is not None:
            records.noise_permille = self._latency.noise.permille
        return records

    def _forget_after(self, horizon_s: float) -> None:
        """A running batch's first token is known before it is out; beyond the horizon it never comes out."""
        first_token_at_s = np.asarray(self._requests.first_token_at_s)
        first_token_at_s[first_token_at_s > horizon_s] = np.nan

    def _gpu(self, gpu_id: int, cache: TwoLevel | None, max_jump: int) -> Gpu:
        batcher = self._cluster.batcher
        if isinstance(batcher, Continuous | PrefillFirst):
            self._records.kv_blocks.append(batcher.usable_blocks)
            return ContinuousGpu(
                clock=self._clock,
                gpu_id=gpu_id,
                startup_s=self._cluster.startup_s,
                batcher=batcher,
                latency=self._latency,
                records=self._records,
                answered=self._note_answer,
                max_jump=max_jump,
            )
        return StaticGpu(
            clock=self._clock,
            gpu_id=gpu_id,
            startup_s=self._cluster.startup_s,
            batcher=fresh(batcher),
            latency=self._latency,
            cache=self._cache_for(gpu_id, cache) if cache else None,
            records=self._records,
            answered=self._note_answer,
        )

    def _cache_for(self, gpu_id: int, config: TwoLevel) -> PrefixCache:
        resized = partial(self._note_cache_size, gpu_id)
        resized(config.sizing.initial_entries)
        self._records.cache_logs.append(array("q"))
        return PrefixCache(config, self._remote, self._records.cache_logs[-1], resized)

    def _start_clients(self) -> None:
        pacing = self._asked.pacing
        if isinstance(pacing, OpenLoop):
            self._arrivals_ns = client_ns(pacing.arrived_at_s).data
            self._clock.call(0, CLIENTS, self._arrive)
        else:
            think_s = iter(pacing.think_s.tolist())
            for _ in range(pacing.users):
                self._clock.process(self._user(pacing, think_s))

    def _arrive(self, _: Call) -> None:
        """Send every request that is due, and wake up for the next. Arrivals wait in line: a long heap is slow."""
        arrivals_ns, now_fs = self._arrivals_ns, self._clock.now_fs
        while self._sent < self._total:
            due_fs = arrivals_ns[self._sent] * FS_PER_NS
            if due_fs > now_fs:
                self._clock.call(due_fs, CLIENTS, self._arrive)
                return
            self._send(self._sent)

    def _user(self, pacing: ClosedLoop, think_s: Iterator[float]) -> Process:
        """Think the next thought that nobody has begun, send the next request, wait for the answer, and again."""
        yield self._clock.wait_s(pacing.start_at_s)
        for thought_s in think_s:
            yield self._clock.wait_s(thought_s)
            self._answers[self._sent] = answer = self._clock.event()
            self._send(self._sent)
            yield answer

    def _send(self, request_id: int) -> None:
        now_s = self._clock.now_s
        request = Request(
            request_id,
            now_s,
            self._asked.session_id[request_id],
            self._prompt_tokens[request_id],
            self._prefix_tokens[request_id],
        )
        self._requests.arrived_at_s[request_id] = now_s
        self._sent += 1
        self._held.append(request)
        self._dispatch(now_s)
        if self._progress is not None and self._sent % 1000 == 0:
            self._progress(self._sent / self._total)

    def _dispatch(self, now_s: float) -> None:
        """Hand requests, oldest first, to the GPUs the router chooses; after the last, let batches go."""
        if self._dispatching:
            return  # an answer given at the door; whoever is dispatching goes on
        self._dispatching = True
        held, router = self._held, self._router
        while held:
            gpu_id = router.choose(held[0])
            if gpu_id is None:
                break
            request = held.popleft()
            self._requests.gpu_id[request.request_id] = gpu_id
            self._requests.routed_at_s[request.request_id] = now_s
            self._gpus[gpu_id].submit(request)
            if self._sent == self._total and not held:
                for gpu in self._gpus:
                    gpu.drain()
        self._dispatching = False

    def _note_answer(self, request: Request, gpu_id: int) -> None:
        self._answered += 1
        self._last_answer_at_s = now_s = self._clock.now_s
        self._router.finished(gpu_id)
        if self._held:
            self._dispatch(now_s)
        if self._answers:
            answer = self._answers.pop(request.request_id, None)
            if answer is not None:
                answer.succeed()

    def _note_cache_size(self, gpu_id: int, entries: int) -> None:
        sizes = self._records.cache_sizes
        sizes.gpu_id.append(gpu_id)
        sizes.at_s.append(self._clock.now_s)
        sizes.entries.append(entries)
