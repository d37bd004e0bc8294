"""The tiers and links of a whole cluster on the simulated clock, and what is written down about them."""

from __future__ import annotations

from infertuner.cache.tiers.build import build_tiers
from infertuner.cache.tiers.config import Tiered
from infertuner.cache.tiers.keys import Keyed, keys_of
from infertuner.cache.tiers.metered import MeteredTiers
from infertuner.cache.tiers.tiered import TieredCache
from infertuner.errors import ScenarioError
from infertuner.latency.model import LatencyModel
from infertuner.records import Records
from infertuner.serving.clock import Clock
from infertuner.serving.links import Link
from infertuner.streams import Streams


class TierSet:
    """The tiers of every GPU there may ever be; those that are shared, and their links, are the same for all.

    Nothing happens in a tier between two operations, so its controllers need no events of their own: whoever is about
    to touch a tier first lets those decide whose time has come, each at its own instant.
    """

    def __init__(
        self, *, clock: Clock, config: Tiered, bytes_per_token: float, gpus: int, records: Records, streams: Streams
    ) -> None:
        seed = int(streams.get("cache tiers").integers(2**31))
        tiers = build_tiers(config, bytes_per_token, gpus=gpus, seed=seed)
        self.config, self.keys, self._records = config, keys_of(records.asked, config), records
        self.caches = [TieredCache(own, config) for own in tiers]
        self.links: list[list[Link | None]] = []
        """Those of each GPU, in the order of looking; None where reading takes no time."""
        for gpu_id in range(gpus):
            own: list[Link | None] = []
            for place, tier in enumerate(config.tiers.values()):
                if tier.shared and gpu_id:
                    own.append(self.links[0][place])
                else:
                    rate = tier.read_bytes_per_s
                    own.append(None if rate is None else Link(clock, rate, tier.latency_s))
            self.links.append(own)
        self._metered = MeteredTiers(config, self.caches)
        for metered in self._metered.all:
            metered.away = metered.gpu_id >= 0  # until its GPU starts
        self._next_tick_s = self._metered.next_tick_s

    def catch_up(self, now_s: float) -> None:
        """Let every controller decide that should have by now."""
        while self._next_tick_s <= now_s:
            self._metered.tick(self._next_tick_s)
            self._next_tick_s = self._metered.next_tick_s

    def changed(self, gpu_id: int, now_s: float) -> None:
        """Learn that what this GPU's tiers hold has changed at this instant."""
        for metered in self._metered.of_gpu[gpu_id]:
            metered.advance(now_s)

    def observe(self, gpu_id: int, served: Keyed, now_s: float) -> None:
        """Show controllers the keys that will reach this GPU's tiers."""
        self._metered.observe(gpu_id, served, now_s)

    def come(self, gpu_id: int, now_s: float) -> None:
        """This GPU, and so its own tiers, are there from now on."""
        self._set_away(gpu_id, now_s, away=False)

    def go(self, gpu_id: int, now_s: float) -> None:
        """This GPU is gone, and its own tiers with it."""
        self._set_away(gpu_id, now_s, away=True)

    def finish(self, now_s: float) -> None:
        """Write down what every tier did."""
        self.catch_up(now_s)
        self._metered.advance(now_s)
        self._records.capacities = self._metered.capacities
        for metered in self._metered.all:
            use = metered.use()
            link = self.links[max(0, metered.gpu_id)][metered.place]
            use.link_busy_s = 0.0 if link is None else link.busy_s
            self._records.tiers.append(use)

    def _set_away(self, gpu_id: int, now_s: float, *, away: bool) -> None:
        self.catch_up(now_s)
        for metered in self._metered.of_gpu[gpu_id]:
            metered.advance(now_s)
            if metered.gpu_id >= 0:
                metered.away = away


def bytes_per_token(config: Tiered, latency: LatencyModel) -> float:
    """KV of one token over all layers, as the scenario says or as the model in the latency profile has it."""
    found: float | None = config.kv_bytes_per_token or getattr(latency, "kv_bytes_per_token", None)
    if not found:
        raise ScenarioError(
            "cache.kv_bytes_per_token: is missing, and the latency knows no model that could say; "
            "give the KV bytes of one token over all layers, such as 128KiB"
        )
    return found
