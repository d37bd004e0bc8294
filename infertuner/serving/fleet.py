"""The GPUs of a run as they come and go, and the router in front of them.

A GPU is down, starting, serving or draining. Requests that no GPU may take wait here, first come first served; those
of a GPU that failed come back here, before all others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from simpy import Event

from infertuner.parts import fresh
from infertuner.records import GpuState, Records, Status
from infertuner.serving.autoscaler import Threshold
from infertuner.serving.clock import Clock
from infertuner.serving.cluster import Cluster
from infertuner.serving.gpu import Gpu
from infertuner.serving.outages import Outage
from infertuner.serving.request import Request
from infertuner.sources.requests import Key

Steps = Generator[Event, Any, None]


class Fleet:
    """Who serves at this moment, and who of them gets which request."""

    def __init__(
        self,
        *,
        clock: Clock,
        cluster: Cluster,
        gpus: Sequence[Gpu],
        records: Records,
        ended: Callable[[Request], None],
    ) -> None:
        """`gpus`: every GPU the cluster may ever have, by id. `ended`: told of each request that will not go on."""
        self._clock, self._cluster, self._gpus, self._records, self._ended = clock, cluster, gpus, records, ended
        self._blocks = records.asked.blocks
        self._startup_s = [kind.startup_s for kind in cluster.kinds()]
        self._router = fresh(cluster.router)
        self.route = self._router.choose
        """Where a request goes, for GPUs that run apart."""
        self._autoscaler = fresh(cluster.autoscaler) if cluster.autoscaler else None
        self._requests = records.requests
        self._state = [GpuState.DOWN] * cluster.most_gpus
        self._changes = [0] * cluster.most_gpus
        """How often each GPU's state has changed: who waits for a GPU learns by it whether something came between."""
        self._returning = 0
        """GPUs that are down and will be back."""
        self._emptied: dict[int, Event] = {}
        """What those wait for who drain a GPU."""
        self._held: deque[Request] = deque()
        self._dispatching = False
        self._last_request = False

    def start(self, outages: Iterable[Outage] | None) -> None:
        """Start the first GPUs, which take requests at once, and whatever changes the cluster later."""
        self._router.start(self)
        for gpu_id in range(self._cluster.first_gpus):
            self._gpus[gpu_id].start(self._startup_s[gpu_id])
            self._note(gpu_id, GpuState.SERVING)
            self._router.join(gpu_id)
        if outages is not None:
            self._clock.process(self._suffer(outages))
        if self._autoscaler is not None:
            self._clock.process(self._scale(self._autoscaler))

    # Requests.

    def send(self, request: Request, now_s: float, last: bool) -> None:
        """Take a request from a client. `last`: none will follow."""
        self._last_request = last
        self._held.append(request)
        self._dispatch(now_s)

    def answered(self, request: Request, gpu_id: int) -> None:
        """Take note of a request that this GPU is done with, one way or the other."""
        self._router.finished(gpu_id)
        if self._held:
            self._dispatch(self._clock.now_s)
        self._ended(request)
        if self._emptied and gpu_id in self._emptied and not self._gpus[gpu_id].outstanding:
            self._emptied.pop(gpu_id).succeed()

    def stop(self) -> None:
        """Learn that the clock stands still from now on."""
        for gpu in self._gpus:
            gpu.stop()

    def _dispatch(self, now_s: float) -> None:
        """Hand requests, oldest first, to the GPUs the router chooses; after the last, let batches go."""
        if self._dispatching:
            return  # an answer given at the door; whoever is dispatching goes on
        self._dispatching = True
        held, router, requests = self._held, self._router, self._requests
        while held:
            gpu_id = router.choose(held[0])
            if gpu_id is None:
                break
            request = held.popleft()
            requests.gpu_id[request.request_id] = gpu_id
            requests.routed_at_s[request.request_id] = now_s
            self._gpus[gpu_id].submit(request)
            if self._last_request and not held:
                for gpu in self._gpus:
                    gpu.drain()
        self._dispatching = False
        if held and self._hopeless():
            self._give_up()

    def _hopeless(self) -> bool:
        """Whether no GPU serves and none will."""
        return not self._returning and self._autoscaler is None and all(s is GpuState.DOWN for s in self._state)

    def _give_up(self) -> None:
        while self._held:
            self._fail(self._held.popleft())

    def _fail(self, request: Request) -> None:
        row, requests = request.request_id, self._requests
        requests.status[row] = Status.FAILED
        if requests.first_token_at_s[row] > self._clock.now_s:  # a static batch knows it before it is out
            requests.first_token_at_s[row] = math.nan
        self._ended(request)

    # What a router may ask.

    def kv_blocks(self, gpu_id: int) -> int:
        """KV blocks that the running requests of this GPU hold now."""
        return self._gpus[gpu_id].kv_blocks

    def prefix(self, request: Request) -> Sequence[Key]:
        """The block ids of the prompt where the workload knows them, else its session as a whole."""
        if self._blocks is None:
            return (request.session_id,)
        offsets, row = self._blocks.offsets, request.request_id
        ids: list[Key] = self._blocks.ids[offsets[row] : offsets[row + 1]].tolist()
        return ids

    # GPUs that come and go.

    def _suffer(self, outages: Iterable[Outage]) -> Steps:
        """What fails together fails before anything is retried. A GPU that is down already stays as it is."""
        for at_s, struck in groupby(outages, key=attrgetter("at_s")):
            yield self._clock.wait_until_s(at_s)
            lost: list[Request] = []
            for _, gpu_id, down_s, drained in struck:
                state = self._state[gpu_id]
                if drained and state is GpuState.SERVING:
                    self._drain(gpu_id, down_s)
                elif state is GpuState.STARTING or (state is not GpuState.DOWN and not drained):
                    lost += self._kill(gpu_id, down_s)
            self._retry(lost)

    def _kill(self, gpu_id: int, down_s: float) -> list[Request]:
        """The GPU is gone; what it held."""
        if self._state[gpu_id] is GpuState.SERVING:
            self._router.leave(gpu_id)
        self._emptied.pop(gpu_id, None)  # whoever was draining it need not wait any more
        self._go(gpu_id, down_s)
        return self._gpus[gpu_id].kill()

    def _retry(self, lost: list[Request]) -> None:
        """What may be retried goes to the head of the line, oldest first."""
        retries, again = self._requests.retries, list[Request]()
        for request in sorted(lost, key=attrgetter("request_id")):
            if retries[request.request_id] == self._cluster.max_retries:
                self._fail(request)
            else:
                retries[request.request_id] += 1
                self._requests.begin_again(request.request_id)
                again.append(request)
        self._held.extendleft(reversed(again))
        self._dispatch(self._clock.now_s)

    def _drain(self, gpu_id: int, down_s: float) -> None:
        """Send it nothing more, and let it go when it is empty."""
        self._router.leave(gpu_id)
        self._note(gpu_id, GpuState.DRAINING)
        self._gpus[gpu_id].drain()
        emptied = self._clock.event()
        if self._gpus[gpu_id].outstanding:
            self._emptied[gpu_id] = emptied
        else:
            emptied.succeed()
        self._clock.process(self._let_go(gpu_id, down_s, emptied))

    def _let_go(self, gpu_id: int, down_s: float, emptied: Event) -> Steps:
        yield emptied
        if self._state[gpu_id] is GpuState.DRAINING:  # and did not die at this instant
            self._gpus[gpu_id].kill()
            self._go(gpu_id, down_s)
            self._dispatch(self._clock.now_s)

    def _go(self, gpu_id: int, down_s: float) -> None:
        self._note(gpu_id, GpuState.DOWN)
        if down_s < math.inf:
            self._returning += 1
            self._clock.process(self._return(gpu_id, down_s))

    def _return(self, gpu_id: int, down_s: float) -> Steps:
        change = self._changes[gpu_id]
        yield self._clock.wait_s(down_s)
        self._returning -= 1
        if self._changes[gpu_id] == change:  # nobody else has started it meanwhile
            yield from self._come(gpu_id, self._startup_s[gpu_id])

    def _come(self, gpu_id: int, startup_s: float) -> Steps:
        """Start up, and take requests when that is done."""
        self._note(gpu_id, GpuState.STARTING)
        change = self._changes[gpu_id]
        yield self._clock.wait_s(startup_s)
        if self._changes[gpu_id] != change:
            return
        self._gpus[gpu_id].start(0.0)
        if self._last_request and not self._held:
            self._gpus[gpu_id].drain()
        self._note(gpu_id, GpuState.SERVING)
        self._router.join(gpu_id)
        self._dispatch(self._clock.now_s)

    def _scale(self, policy: Threshold) -> Steps:
        """Look at the load now and then, and start or drain GPUs."""
        while True:
            yield self._clock.wait_s(policy.interval_s)
            here = [i for i, state in enumerate(self._state) if state in (GpuState.STARTING, GpuState.SERVING)]
            outstanding = len(self._held) + sum(self._gpus[gpu_id].outstanding for gpu_id in here)
            wanted = policy.decide(gpus=len(here), outstanding=outstanding, now_s=self._clock.now_s)
            down = [gpu_id for gpu_id, state in enumerate(self._state) if state is GpuState.DOWN]
            for gpu_id in down[: max(0, wanted - len(here))]:
                self._clock.process(self._come(gpu_id, policy.startup_s))
            serving = [gpu_id for gpu_id in here if self._state[gpu_id] is GpuState.SERVING]
            if wanted < len(here) and len(serving) > 1:
                idlest = min(serving, key=lambda gpu_id: (self._gpus[gpu_id].outstanding, -gpu_id))
                self._drain(idlest, math.inf)

    def _note(self, gpu_id: int, state: GpuState) -> None:
        self._state[gpu_id] = state
        self._changes[gpu_id] += 1
        self._records.fleet.note(gpu_id, self._clock.now_s, state)
