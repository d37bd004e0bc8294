"""One simulated run: clients, router and GPUs on one SimPy clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from simpy import Event

from infertuner.cache.config import Cache
from infertuner.errors import ScenarioError
from infertuner.latency.model import LatencyModel
from infertuner.parts import fresh
from infertuner.records import CacheSizeColumns, Records, RequestColumns, StepColumns
from infertuner.serving.apart import Apart
from infertuner.serving.caches import Caches
from infertuner.serving.clock import CLIENTS, FS_PER_NS, Call, Clock, client_ns, femtoseconds
from infertuner.serving.cluster import Cluster, GpuKind
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.continuous.engine import ContinuousGpu
from infertuner.serving.continuous.offloading import OffloadingGpu
from infertuner.serving.continuous.scheduler import ENDLESS
from infertuner.serving.fleet import Fleet
from infertuner.serving.gpu import Gpu
from infertuner.serving.own_clock import NEVER_FS
from infertuner.serving.request import Request
from infertuner.serving.static import StaticGpu, Steps
from infertuner.sources.requests import ClosedLoop, OpenLoop, Requests
from infertuner.streams import Streams

Progress = Callable[[float], None]
"""Told now and then which share of the work is done, 0 to 1."""


class Simulation:
    """The parts of one run, wired together. Nothing happens until `run`."""

    def __init__(
        self,
        asked: Requests,
        cluster: Cluster,
        latency: LatencyModel,
        cache: Cache | None = None,
        progress: Progress | None = None,
        *,
        streams: Streams | None = None,
        max_jump: int = ENDLESS,
    ) -> None:
        """Build, and start nothing.

        latency: of the GPUs that bring none of their own. streams: randomness of outages and of those others.
        max_jump: iterations of a continuous batch that may be one event; 1 walks them, and on the common clock even
        where GPUs could run apart, to the same results.
        """
        self._asked, self._cluster, self._progress = asked, cluster, progress
        self._streams = streams or Streams(0)
        self._latency = latency
        self._others: dict[int, LatencyModel] = {}
        """Models of groups that bring a latency, by the identity of that part."""
        self._total = len(asked)
        self._clock = Clock()
        self._records = Records(
            asked=asked,
            requests=RequestColumns(len(asked)),
            steps=StepColumns(),
            cache_sizes=CacheSizeColumns(),
            num_gpus=cluster.most_gpus,
            ended_at_s=0.0,
            events=0,
        )
        self._requests = self._records.requests
        self._prompt_tokens, self._prefix_tokens = asked.prompt_tokens.data, asked.prefix_tokens.data
        self._answers: dict[int, Event] = {}
        self._all_ended = self._clock.event()
        self._sent, self._ended, self._last_end_at_s = 0, 0, 0.0
        self._caches = Caches(
            cache, clock=self._clock, gpus=cluster.most_gpus, latency=latency, records=self._records,
            streams=self._streams,
        )  # fmt: skip
        apart = max_jump > 1 and cluster.apart and not cache and isinstance(asked.pacing, OpenLoop)
        self._apart = Apart() if apart else None
        gpus: list[Gpu] = []
        self._fleet = Fleet(clock=self._clock, cluster=cluster, gpus=gpus, records=self._records, ended=self._note_end)
        self._gpus = gpus
        gpus.extend(self._gpu(gpu_id, kind, max_jump) for gpu_id, kind in enumerate(cluster.kinds()))

    def run(self, horizon_s: float | None = None) -> Records:
        """Let the clock run until every request has ended, or until the horizon."""
        outages = self._cluster.outages
        self._fleet.start(outages.begin(self._cluster.first_gpus, self._streams) if outages else None)
        if self._apart is not None:
            self._run_apart(self._apart, NEVER_FS if horizon_s is None else femtoseconds(horizon_s))
        else:
            self._run_together(horizon_s)
        self._fleet.stop()
        if horizon_s is None and self._ended < self._total:
            raise ScenarioError(
                f"cluster.batcher: {self._total - self._ended} of {self._total} requests wait for ever "
                "for a batch to fill, since users wait for answers or the router holds requests back; "
                "use kind 'timeout' or a smaller max_batch_size"
            )
        if horizon_s is not None:
            self._forget_after(horizon_s)
        records = self._records
        records.ended_at_s = self._last_end_at_s if horizon_s is None else horizon_s
        self._caches.finish(records.ended_at_s)
        records.outside_calls = sum(model.outside_calls for model in (self._latency, *self._others.values()))
        if self._latency.noise is not None:
            records.noise_permille = self._latency.noise.permille
        return records

    def _run_apart(self, apart: Apart, until_fs: int) -> None:
        apart.run(
            self._gpus,
            self._asked,
            self._requests,
            route=self._fleet.route,
            report=self._report,
            until_fs=until_fs,
        )
        self._ended, self._last_end_at_s, self._records.events = apart.ended, apart.last_end_at_s, apart.events

    def _run_together(self, horizon_s: float | None) -> None:
        self._start_clients()
        if horizon_s is not None:
            self._clock.run(until=femtoseconds(horizon_s))
        elif self._cluster.changes:
            self._clock.run(until=self._all_ended)
        else:
            self._clock.run()
        self._records.events = self._clock.events

    def _forget_after(self, horizon_s: float) -> None:
        """A running batch's first token is known before it is out; beyond the horizon it never comes out."""
        first_token_at_s = np.asarray(self._requests.first_token_at_s)
        first_token_at_s[first_token_at_s > horizon_s] = np.nan

    def _gpu(self, gpu_id: int, kind: GpuKind, max_jump: int) -> Gpu:
        latency = self._latency_of(kind)
        if isinstance(kind.batcher, Continuous | PrefillFirst):
            self._records.kv_blocks.append(kind.batcher.usable_blocks)
            self._records.kv_block_tokens.append(kind.batcher.block_size)
            tiers = self._caches.of_continuous(gpu_id, latency, kind.batcher.block_size)
            if tiers is not None:
                return OffloadingGpu(
                    clock=self._clock,
                    gpu_id=gpu_id,
                    batcher=kind.batcher,
                    latency=latency,
                    records=self._records,
                    answered=self._fleet.answered,
                    tiers=tiers,
                    max_jump=max_jump,
                )
            own = self._apart.new_clock() if self._apart is not None else None
            return ContinuousGpu(
                clock=own or self._clock,
                gpu_id=gpu_id,
                batcher=kind.batcher,
                latency=latency,
                records=self._records,
                answered=own.answered if own else self._fleet.answered,
                max_jump=max_jump,
            )
        self._records.kv_blocks.append(0)
        self._records.kv_block_tokens.append(0)
        return StaticGpu(
            clock=self._clock,
            gpu_id=gpu_id,
            batcher=fresh(kind.batcher),
            latency=latency,
            cache=self._caches.of_static(gpu_id, latency),
            records=self._records,
            answered=self._fleet.answered,
        )

    def _latency_of(self, kind: GpuKind) -> LatencyModel:
        """The scenario's latency, or the one model of those GPUs that bring their own."""
        if kind.latency is None:
            return self._latency
        own = self._others.get(id(kind.latency)) or kind.latency.model(self._streams)
        if own.noise is not None:
            raise ScenarioError(
                "cluster.groups.latency.noise: is 'measured', and only the scenario's latency may have noise; "
                "set it to 'none' there"
            )
        self._others[id(kind.latency)] = own
        return own

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

    def _user(self, pacing: ClosedLoop, think_s: Iterator[float]) -> Steps:
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
        self._fleet.send(request, now_s, self._sent == self._total)
        if self._sent % 1000 == 0:
            self._report(self._sent)

    def _report(self, sent: int) -> None:
        if self._progress is not None:
            self._progress(sent / self._total)

    def _note_end(self, request: Request) -> None:
        """A request was answered, rejected or lost for good."""
        self._ended += 1
        self._last_end_at_s = self._clock.now_s
        if self._answers:
            answer = self._answers.pop(request.request_id, None)
            if answer is not None:
                answer.succeed()
        if self._ended == self._total:
            self._all_ended.succeed()
