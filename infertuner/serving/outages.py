"""When GPUs go away: plans of failures and drains, as plain instants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from infertuner.parts import CountOrZero, PositiveSeconds, Seconds, part
from infertuner.streams import Streams


class Outage(NamedTuple):
    """One GPU leaves the cluster at an instant and may come back."""

    at_s: float
    gpu_id: int
    down_s: float
    """How long until it starts up again; infinite for ever. A drained GPU's time counts from when it is empty."""
    drained: bool
    """Whether it finishes what it holds first; otherwise that is lost with it."""


@part
class Planned:
    """One outage, written down."""

    gpu_id: CountOrZero
    """Which GPU, from 0."""
    at_s: Seconds
    """When it fails, or stops taking requests."""
    down_s: PositiveSeconds | None = None
    """How long until it starts up again; without it, never."""
    drained: bool = False
    """Whether it finishes the requests it holds before it goes; a failure does not."""


@part
class PlannedOutages:
    """Outages at given instants."""

    kind: Literal["planned"]
    events: list[Planned]
    """Every outage of the run."""

    def begin(self, num_gpus: int, streams: Streams) -> Iterator[Outage]:
        """Outages in order of time; nothing is random."""
        for event in sorted(self.events, key=lambda event: event.at_s):
            down_s = math.inf if event.down_s is None else event.down_s
            yield Outage(event.at_s, event.gpu_id, down_s, event.drained)


@part
class RandomOutages:
    """Failures at random: each GPU of the first `gpus` fails and is repaired, independently of the others."""

    kind: Literal["random"]
    mean_uptime_s: PositiveSeconds
    """Mean time from when a failed GPU begins to start up to its next failure, exponentially distributed; more than
    startup_s."""
    mean_down_s: PositiveSeconds
    """Mean time until a failed GPU starts up again, exponentially distributed."""

    def begin(self, num_gpus: int, streams: Streams) -> Iterator[Outage]:
        """Outages in order of time, without end. Those of a GPU are the same however many others there are."""
        rngs = [streams.get(f"outages {gpu_id}") for gpu_id in range(num_gpus)]
        fails_at_s = np.array([rng.exponential(self.mean_uptime_s) for rng in rngs])
        while True:
            gpu_id = int(np.argmin(fails_at_s))
            rng = rngs[gpu_id]
            at_s, down_s = float(fails_at_s[gpu_id]), float(rng.exponential(self.mean_down_s))
            yield Outage(at_s, gpu_id, down_s, drained=False)
            fails_at_s[gpu_id] = at_s + down_s + rng.exponential(self.mean_uptime_s)


AnyOutages = Annotated[PlannedOutages | RandomOutages, Field(discriminator="kind")]
