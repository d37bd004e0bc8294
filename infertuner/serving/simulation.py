"""One simulated run: clients, router and GPUs on one SimPy clock."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from simpy import Environment, Event

from infertuner.cache.config import TwoLevel
from infertuner.cache.lru import Lru
from infertuner.errors import ScenarioError
from infertuner.latency.model import LatencyModel
from infertuner.parts import fresh
from infertuner.records import CacheSizeColumns, Records, RequestColumns, StepColumns
from infertuner.serving.cluster import Cluster
from infertuner.serving.prefix_cache import PrefixCache
from infertuner.serving.request import Request
from infertuner.serving.static import Process, StaticGpu
from infertuner.sources.requests import ClosedLoop, OpenLoop, Requests

Progress = Callable[[float], None]
"""Told now and then which share of the work is done, 0 to 1."""


class CountingEnvironment(Environment):
    """A SimPy environment that knows how many events it has scheduled."""

    def __init__(self) -> None:
        super().__init__()
        self.events = 0

    def schedule(self, *args: Any, **kwargs: Any) -> None:
        """Schedule and count."""
        self.events += 1
        super().schedule(*args, **kwargs)


class Simulation:
    """The parts of one run, wired together. Nothing happens until `run`."""

    def __init__(
        self,
        asked: Requests,
        cluster: Cluster,
        latency: LatencyModel,
        cache: TwoLevel | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._asked, self._latency, self._progress = asked, latency, progress
        self._env = CountingEnvironment()
        self._requests, self._steps, self._cache_sizes = RequestColumns(len(asked)), StepColumns(), CacheSizeColumns()
        self._router = fresh(cluster.router)
        self._router.start(cluster.gpus)
        self._prompt_tokens, self._prefix_tokens = asked.prompt_tokens.tolist(), asked.prefix_tokens.tolist()
        self._answers: dict[int, Event] = {}
        self._held: deque[Request] = deque()
        self._cache_logs: list[array[int]] = []
        self._sent, self._answered, self._last_answer_at_s = 0, 0, 0.0
        remote = Lru(cache.remote_entries if cache else None)
        output_tokens = asked.output_tokens.tolist()
        self._gpus = [
            StaticGpu(
                env=self._env,
                gpu_id=gpu_id,
                startup_s=cluster.startup_s,
                batcher=fresh(cluster.batcher),
                latency=latency,
                cache=self._cache_for(gpu_id, cache, remote) if cache else None,
                output_tokens=output_tokens,
                requests=self._requests,
                steps=self._steps,
                answered=self._note_answer,
            )
            for gpu_id in range(cluster.gpus)
        ]

    def run(self, horizon_s: float | None = None) -> Records:
        """Let the clock run until every request is answered, or until the horizon."""
        for gpu in self._gpus:
            self._env.process(gpu.serve())
        for client in self._clients():
            self._env.process(client)
        self._env.run(until=horizon_s)
        if horizon_s is None and self._answered < len(self._asked):
            raise ScenarioError(
                f"cluster.batcher: {len(self._asked) - self._answered} of {len(self._asked)} requests wait for ever "
                "for a batch to fill, since users wait for answers or the router holds requests back; "
                "use kind 'timeout' or a smaller max_batch_size"
            )
        if horizon_s is not None:
            self._forget_after(horizon_s)
        return Records(
            asked=self._asked,
            requests=self._requests,
            steps=self._steps,
            cache_sizes=self._cache_sizes,
            num_gpus=len(self._gpus),
            ended_at_s=self._last_answer_at_s if horizon_s is None else horizon_s,
            events=self._env.events,
            cache_logs=self._cache_logs,
            outside_calls=self._latency.outside_calls,
        )

    def _forget_after(self, horizon_s: float) -> None:
        """A running batch's first token is known before it is out; beyond the horizon it never comes out."""
        first_token_at_s = np.asarray(self._requests.first_token_at_s)
        first_token_at_s[first_token_at_s > horizon_s] = np.nan

    def _cache_for(self, gpu_id: int, config: TwoLevel, remote: Lru) -> PrefixCache:
        resized = partial(self._note_cache_size, gpu_id)
        resized(config.sizing.initial_entries)
        self._cache_logs.append(array("q"))
        return PrefixCache(config, remote, self._cache_logs[-1], resized)

    def _clients(self) -> Iterator[Process]:
        pacing = self._asked.pacing
        if isinstance(pacing, OpenLoop):
            yield self._open_loop(pacing)
        else:
            think_s = iter(pacing.think_s.tolist())
            for _ in range(pacing.users):
                yield self._user(pacing, think_s)

    def _open_loop(self, pacing: OpenLoop) -> Process:
        """Send every request at its instant."""
        env = self._env
        for request_id, at_s in enumerate(pacing.arrived_at_s.tolist()):
            if at_s > env.now:
                yield env.timeout(at_s - env.now)
            self._send(request_id)

    def _user(self, pacing: ClosedLoop, think_s: Iterator[float]) -> Process:
        """Think the next thought that nobody has begun, send the next request, wait for the answer, and again."""
        yield self._env.timeout(pacing.start_at_s)
        for thought_s in think_s:
            yield self._env.timeout(thought_s)
            self._answers[self._sent] = answer = self._env.event()
            self._send(self._sent)
            yield answer

    def _send(self, request_id: int) -> None:
        request = Request(
            request_id,
            self._env.now,
            self._asked.session_id[request_id],
            self._prompt_tokens[request_id],
            self._prefix_tokens[request_id],
        )
        self._requests.arrived_at_s[request_id] = request.arrived_at_s
        self._sent += 1
        self._held.append(request)
        self._dispatch()
        if self._progress is not None and self._sent % 1000 == 0:
            self._progress(self._sent / len(self._asked))

    def _dispatch(self) -> None:
        """Hand the oldest request to the GPU the router chooses, if it chooses one; after the last, let batches go."""
        gpu_id = self._router.choose(self._held[0])
        if gpu_id is None:
            return
        request = self._held.popleft()
        self._requests.gpu_id[request.request_id] = gpu_id
        self._gpus[gpu_id].submit(request)
        if self._sent == len(self._asked) and not self._held:
            for gpu in self._gpus:
                gpu.drain()

    def _note_answer(self, request: Request, gpu_id: int) -> None:
        self._answered += 1
        self._last_answer_at_s = self._env.now
        self._router.finished(gpu_id)
        if self._held:
            self._dispatch()
        answer = self._answers.pop(request.request_id, None)
        if answer is not None:
            answer.succeed()

    def _note_cache_size(self, gpu_id: int, entries: int) -> None:
        self._cache_sizes.gpu_id.append(gpu_id)
        self._cache_sizes.at_s.append(self._env.now)
        self._cache_sizes.entries.append(entries)
