"""What serves: which GPUs there are, how requests are spread over them and batched on each, and who comes and goes."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import Field

from infertuner.latency.kinds import Latency
from infertuner.parts import Count, CountOrZero, NonNegative, Seconds, part
from infertuner.serving.autoscaler import Threshold
from infertuner.serving.batchers import AnyBatcher
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.outages import AnyOutages, PlannedOutages, RandomOutages
from infertuner.serving.routers.kinds import AnyRouter

Batcher: TypeAlias = Annotated[AnyBatcher | Continuous | PrefillFirst, Field(discriminator="kind")]


class GpuKind(NamedTuple):
    """How one GPU works."""

    batcher: AnyBatcher | Continuous | PrefillFirst
    latency: Latency | None
    """None where the scenario's latency holds."""
    startup_s: float


@part
class Group:
    """GPUs unlike the first ones of the cluster; what is not given is as there."""

    gpus: Count
    """How many."""
    latency: Latency | None = None
    """How long a step takes on them."""
    batcher: Batcher | None = None
    """How each of them forms batches."""
    startup_s: Seconds | None = None
    """Time from a start until such a GPU can serve."""
    price_per_gpu_hour: NonNegative | None = None
    """What one of them costs an hour; without it as much as the first ones."""


@part
class Cluster:
    """GPUs behind one router."""

    gpus: Count
    """How many GPUs there are at the start, not counting those of `groups`."""
    router: AnyRouter
    """Which GPU a request goes to."""
    batcher: Batcher
    """How each GPU forms batches."""
    startup_s: Seconds = 0.0
    """Time until a GPU can serve, from the start of the run (requests queue on it meanwhile) and after every outage (it
    gets none before)."""
    groups: list[Group] = field(default_factory=list)
    """Further GPUs that differ from the first; their numbers follow on those of the first, group after group."""
    outages: AnyOutages | None = None
    """GPUs that fail or are drained; without it all stay."""
    max_retries: CountOrZero = 1
    """How often a request is sent again, from its beginning, when its GPU fails; after that it has failed too."""
    price_per_gpu_hour: NonNegative | None = None
    """What one GPU costs an hour, in the currency of your choice; `tune` looks for the cheapest arm."""
    autoscaler: Threshold | None = None
    """Starts and drains GPUs by the load; the ones it adds are like the first, but for its own startup_s."""

    def __post_init__(self) -> None:
        scaler = self.autoscaler
        if scaler is not None and not scaler.min_gpus <= self.first_gpus <= scaler.max_gpus:
            raise ValueError(
                f"autoscaler: min_gpus ({scaler.min_gpus}) to max_gpus ({scaler.max_gpus}) must include the "
                f"{self.first_gpus} GPUs of the start"
            )
        kinds = self.kinds()
        if self.changes and any(kind.batcher.kind == "fixed" for kind in kinds):
            raise ValueError(
                "batcher: kind 'fixed' may wait for ever for a batch; with outages or an autoscaler use 'timeout'"
            )
        self._refuse_outages(kinds)
        if self.router.kind == "least_kv":
            for kind in kinds:
                if not isinstance(kind.batcher, Continuous | PrefillFirst):
                    raise ValueError(
                        f"router: kind 'least_kv' compares KV blocks and batcher kind '{kind.batcher.kind}' has none; "
                        "use least_outstanding, or batcher kind 'continuous'"
                    )

    def _refuse_outages(self, kinds: list[GpuKind]) -> None:
        """Of GPUs that are not there, or so often that none would ever serve."""
        if isinstance(self.outages, PlannedOutages):
            for event in self.outages.events:
                if event.gpu_id >= self.most_gpus:
                    raise ValueError(
                        f"outages.events: gpu_id is {event.gpu_id}, must be below the {self.most_gpus} GPUs there are"
                    )
        elif isinstance(self.outages, RandomOutages):
            slowest_s = max(kind.startup_s for kind in kinds)
            if self.autoscaler is not None:
                slowest_s = max(slowest_s, self.autoscaler.startup_s)
            if self.outages.mean_uptime_s <= slowest_s:
                raise ValueError(
                    f"outages.mean_uptime_s: is {self.outages.mean_uptime_s:g} s, must be more than the "
                    f"{slowest_s:g} s that a GPU takes to start up, or it may never serve"
                )

    @property
    def first_gpus(self) -> int:
        """GPUs at the start."""
        return self.gpus + sum(group.gpus for group in self.groups)

    @property
    def most_gpus(self) -> int:
        """GPUs there may ever be at once."""
        return max(self.first_gpus, self.autoscaler.max_gpus if self.autoscaler else 0)

    @property
    def changes(self) -> bool:
        """Whether GPUs come or go during the run."""
        return self.outages is not None or self.autoscaler is not None

    @property
    def apart(self) -> bool:
        """Whether no GPU concerns another: all iterate, none leaves, and requests alone say who gets them."""
        engines = all(isinstance(kind.batcher, Continuous | PrefillFirst) for kind in self.kinds())
        return engines and not self.changes and not self.router.looks_at_gpus

    def kinds(self) -> list[GpuKind]:
        """What every GPU there may ever be is like, by its number."""
        base = GpuKind(self.batcher, None, self.startup_s)
        kinds = [base] * self.gpus
        for group in self.groups:
            startup_s = self.startup_s if group.startup_s is None else group.startup_s
            kinds += [GpuKind(group.batcher or self.batcher, group.latency, startup_s)] * group.gpus
        return kinds + [base] * (self.most_gpus - len(kinds))
