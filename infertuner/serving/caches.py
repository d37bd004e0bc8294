"""The caches of one run, whatever their kind: who gets which, and what is written down of them."""

from __future__ import annotations

from array import array
from functools import partial

from infertuner.cache.config import Cache
from infertuner.cache.lru import Lru
from infertuner.cache.tiers.config import Tiered
from infertuner.latency.model import LatencyModel
from infertuner.records import Records
from infertuner.serving.clock import Clock
from infertuner.serving.prefix_cache import PrefixCache, TwoLevelPrefixCache
from infertuner.serving.tier_set import TierSet, bytes_per_token
from infertuner.serving.tiers import GpuTiers
from infertuner.streams import Streams


class Caches:
    """The caches of all GPUs of a cluster, or none."""

    def __init__(
        self,
        config: Cache | None,
        *,
        clock: Clock,
        gpus: int,
        latency: LatencyModel,
        records: Records,
        streams: Streams,
    ) -> None:
        """latency: of the scenario, whose model says how large KV is where the cache does not."""
        self._config, self._clock, self._records = config, clock, records
        self._remote = Lru(None)
        self._tiers: TierSet | None = None
        if isinstance(config, Tiered):
            size = bytes_per_token(config, latency)
            self._tiers = TierSet(
                clock=clock, config=config, bytes_per_token=size, gpus=gpus, records=records, streams=streams
            )
        elif config is not None:
            self._remote = Lru(config.remote_entries)

    def of_static(self, gpu_id: int, latency: LatencyModel) -> PrefixCache | None:
        """The cache of a GPU that runs static batches; its first tier is its own memory."""
        if self._tiers is not None:
            return GpuTiers(clock=self._clock, gpu_id=gpu_id, tiers=self._tiers, latency=latency, records=self._records)
        config = self._config
        if config is None or isinstance(config, Tiered):
            return None
        resized = partial(self._note_size, gpu_id)
        resized(config.sizing.initial_entries)
        self._records.cache_logs.append(array("q"))
        return TwoLevelPrefixCache(config, self._remote, self._records.cache_logs[-1], resized, self._clock)

    def of_continuous(self, gpu_id: int, latency: LatencyModel, block_size: int) -> GpuTiers | None:
        """The tiers below the memory of a GPU that batches by iteration."""
        if self._tiers is None:
            return None
        return GpuTiers(
            clock=self._clock, gpu_id=gpu_id, tiers=self._tiers, latency=latency, records=self._records,
            block_size=block_size, own_memory_first=False,
        )  # fmt: skip

    def finish(self, now_s: float) -> None:
        """The run has ended."""
        if self._tiers is not None:
            self._tiers.finish(now_s)

    def _note_size(self, gpu_id: int, entries: int) -> None:
        sizes = self._records.cache_sizes
        sizes.gpu_id.append(gpu_id)
        sizes.at_s.append(self._clock.now_s)
        sizes.entries.append(entries)
