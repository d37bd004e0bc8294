"""The scenario itself: every top-level key, typed and documented once."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field

from infertuner.cache.config import Cache, TwoLevel
from infertuner.cache.tiers.config import Tiered
from infertuner.latency.kinds import Latency
from infertuner.outcomes.slo import Slo
from infertuner.parts import Count, CountOrZero, PositiveSeconds, Seconds, part
from infertuner.scenario.domains import Domain
from infertuner.serving.cluster import Cluster
from infertuner.sources.kinds import WorkloadKind

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


@part
class Scenario:
    """One question to the simulator: who asks, what serves, how long it takes, and which variants to compare."""

    name: Name
    """What the scenario is called in tables and folders: lower case letters, digits, - and _."""
    description: str = ""
    """One sentence on what is asked."""
    experiment: Literal["gpu_scaling", "batching", "cache", "cache_tiers"] | None = None
    """Which analysis makes the table and figure; without one, the plain metrics of every arm."""
    face: Literal["published", "corrected"] = "corrected"
    """Whether the analysis uses the definitions of the first publication or sound ones."""
    seed: CountOrZero = 0
    """Seed of every random stream; the same seed gives the same bytes."""
    replications: Count = 10
    """Independent runs of every arm; all arms see the same requests in the same replication."""
    warmup_s: Seconds = 0.0
    """Where measuring begins: latencies of requests that arrive later, rates over the time that is left."""
    horizon_s: PositiveSeconds | None = None
    """Stop the clock here; without it the run ends when every request is answered."""
    workload: WorkloadKind
    """Who asks."""
    cluster: Cluster
    """Who answers."""
    latency: Latency
    """How long a step takes."""
    cache: Cache | None = None
    """KV caches; without this key nothing is remembered between requests."""
    driver: Literal["serving", "replay"] = "serving"
    """What runs: the whole service, or the cache alone at the instants of arrival: fast, and without queues."""
    slo: Slo | None = None
    """Service level objectives: `simulate` says which are met, `tune` looks for the cheapest arm that meets all."""
    arms: list[dict[str, Any]] = field(default_factory=list)
    """Variants to compare, each a mapping from dotted key to value, such as {cluster.gpus: 2}."""
    sweep: dict[str, Domain] = field(default_factory=dict)
    """Dotted keys with several values; every combination becomes an arm (of every entry in `arms`)."""

    def __post_init__(self) -> None:
        if self.slo is not None and self.driver == "replay":
            raise ValueError("slo: a replay answers nobody; remove slo, or use driver: serving")
        if isinstance(self.cache, Tiered):
            self._refuse_tiers_without_link(self.cache)
        if self.cluster.batcher.kind == "published" and self.cache:
            if isinstance(self.cache, Tiered):
                raise ValueError(
                    "cluster.batcher: kind 'published' holds the GPU for the request it is about to run and cannot set "
                    "it aside while tiers are read; use kind 'none'"
                )
            if not self.cache.fetch_occupies_gpu:
                raise ValueError(
                    "cluster.batcher: kind 'published' holds the GPU for the request it is about to run, so with a "
                    "cache it needs cache.fetch_occupies_gpu: true"
                )
        if isinstance(self.cache, TwoLevel):
            for kind in self.cluster.kinds():
                if kind.batcher.kind in ("continuous", "prefill_first"):
                    raise ValueError(
                        f"cache: two-level caches serve static batches; kind {kind.batcher.kind!r} keeps its own KV "
                        "blocks (enable_prefix_caching); remove cache, or use cache kind 'tiered' for tiers below them"
                    )
            if self.cluster.changes:
                raise ValueError(
                    "cache: two-level caches belong to GPUs that stay; remove cluster.outages and cluster.autoscaler, "
                    "or use cache kind 'tiered', whose own tiers are lost with their GPU"
                )

    def _refuse_tiers_without_link(self, cache: Tiered) -> None:
        """Only the GPU's own memory is read in no time; another tier without a bandwidth is forgotten or mistyped."""
        below_engine = self.cluster.batcher.kind in ("continuous", "prefill_first")
        for name, tier in list(cache.tiers.items())[0 if below_engine else 1 :]:
            if tier.read_bytes_per_s is None:
                raise ValueError(
                    f"cache.tiers.{name}.read_bytes_per_s: is missing, and only the GPU's own memory is read in no "
                    "time; give the bandwidth of its link, such as 50GB/s"
                )
