"""Caches of many tiers: how much is found where, how far that is from what could be, and what it is worth.

Hits are keys, sessions or blocks, that were asked for and there, without a gap from the beginning of the prompt. What
a request was given in the end, since loading may be slower than prefilling, is counted in requests and tokens.
All of it over the whole run: a cache's start belongs to what it is judged by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from infertuner.cache.tiers.config import TierConfig, Tiered
from infertuner.experiments.ceiling import own_memory
from infertuner.experiments.oracles import Oracles, oracles_of
from infertuner.experiments.replays import bytes_per_token
from infertuner.experiments.result import Row, StudyResult
from infertuner.experiments.verdicts import verdict
from infertuner.outcomes.statistics import paired_difference
from infertuner.outcomes.window import Metrics, mean, view
from infertuner.records import Records, TierUse
from infertuner.scenario.model import Scenario

GB = 1e9
HOUR_S = 3600.0
AXIS = "cache.tiers"
HEADLINE = (
    "hit_ratio", "lru_hit_ratio", "gain_over_lru_ratio", "verdict", "belady_hit_ratio", "token_hit_ratio",
    "saved_gpu_hours", "unqueued_ttft_mean_s", "ttft_mean_s", "capacity_mean", "cost", "infeasible_ratio",
)  # fmt: skip
OVERALL = (
    "hit_ratio", "ceiling_hit_ratio", "attained_ratio", "lru_hit_ratio", "aet_hit_ratio", "belady_hit_ratio",
    "cold_misses", "capacity_misses", "request_hit_ratio", "token_hit_ratio", "ceiling_token_hit_ratio",
    "recomputed_token_ratio", "prefill_gpu_hours", "saved_gpu_hours", "unqueued_ttft_mean_s", "fetch_mean_s",
    "ttft_mean_s", "ttft_p95_s", "e2e_mean_s", "throughput_per_s", "evictions", "read_bytes", "written_bytes",
    "capacity_mean", "capacity_gb_hours", "held_gb_hours", "cost", "cost_per_saved_gpu_hour", "resizes",
    "infeasible_ratio",
)  # fmt: skip
SUMMED = ("evictions", "read_bytes", "written_bytes", "capacity_gb_hours", "held_gb_hours", "resizes", "cost")


def measure(records: Records, scenario: Scenario) -> Metrics:
    """What the tiers of all GPUs did together and each by itself, and what the oracles say of the same requests."""
    config = scenario.cache
    if not isinstance(config, Tiered):
        return {}
    oracles = oracles_of(records.asked, config)
    tiers = [_Tier(name, tier, place, records) for place, (name, tier) in enumerate(config.tiers.items())]
    apart = {tier.name: tier.metrics(oracles) for tier in tiers}
    together = {name: _sum(metrics[name] for metrics in apart.values()) for name in SUMMED}
    ticks = sum(use.ticks for use in records.tiers)
    saved_hours, cost = float(view(records.requests.prefill_saved_s).sum()) / HOUR_S, together["cost"]
    return {
        **_found(records, oracles, told=not own_memory(scenario)),
        **_same_memory(scenario, config, tiers, oracles),
        **_seconds(records),
        **together,
        "saved_gpu_hours": saved_hours,
        "cost_per_saved_gpu_hour": cost / saved_hours if cost is not None and saved_hours > 0 else None,
        "infeasible_ratio": sum(use.infeasible_ticks for use in records.tiers) / ticks if ticks else None,
        **{f"{tier}_{name}": value for tier, metrics in apart.items() for name, value in metrics.items()},
    }


def _found(records: Records, oracles: Oracles, *, told: bool) -> Metrics:
    """What was there, what was given, and the ceiling: what a cache without limits would have had.

    told: whether tiers are asked for everything; where GPUs have memory of their own, what tiers miss is not known.
    """
    hits = sum(use.hits for use in records.tiers)
    found_tokens = sum(use.hit_tokens + use.recomputed_tokens for use in records.tiers)
    given = view(records.requests.cached_tokens)
    given_tokens, prompt_tokens = int(given.sum(dtype=np.int64)), int(records.asked.prompt_tokens.sum())
    attainable, asked = oracles.attainable_keys, oracles.asked_keys
    return {
        "hit_ratio": _ratio(hits, asked),
        "ceiling_hit_ratio": _ratio(attainable, asked),
        "attained_ratio": _ratio(hits, attainable) if told else _ratio(given_tokens, oracles.attainable_tokens),
        "cold_misses": asked - attainable if told else None,
        "capacity_misses": attainable - hits if told else None,
        "request_hit_ratio": mean(given > 0),
        "token_hit_ratio": given_tokens / prompt_tokens,
        "ceiling_token_hit_ratio": oracles.attainable_tokens / prompt_tokens,
        "recomputed_token_ratio": _ratio(found_tokens - given_tokens, found_tokens) if told else None,
    }


def _same_memory(scenario: Scenario, config: Tiered, tiers: list[_Tier], oracles: Oracles) -> Metrics:
    """The same keys in one cache of the mean capacity of these tiers: LRU, its estimate, and the best of all.

    Written through and all LRU, a tier holds what the faster ones hold, so that the largest is what they hold together.
    Otherwise some may be in one alone, all in the extreme: together they are as large as their sum.
    Belady counts entries. Where capacities are bytes it has as many as fit at their mean size, and bounds a cache of
    that many entries only; where they change it bounds nothing. Several GPUs that share no tier have no common
    capacity, tiers of both kinds have none, and tiers below a GPU's own memory see only what it misses.
    """
    names = ("capacity_mean", "lru_hit_ratio", "aet_hit_ratio", "belady_hit_ratio")
    slowest = tiers[-1].config
    apart = scenario.cluster.gpus > 1 and not slowest.shared
    if apart or own_memory(scenario) or len({tier.config.in_bytes for tier in tiers}) > 1:
        return dict.fromkeys(names)
    capacities = [tier.capacity_mean for tier in tiers]
    nested = config.write == "through" and all(tier.config.eviction == "lru" for tier in tiers)
    capacity = max(capacities) if nested else sum(capacities)
    if slowest.in_bytes:
        tokens = int(capacity / bytes_per_token(scenario))
        lru, entries = oracles.lru_hits_in_tokens(tokens), round(tokens / oracles.mean_tokens)
    else:
        entries = round(capacity)
        lru = oracles.lru_hits(entries)
    stays = not any(tier.config.sizing for tier in tiers)
    hits = (lru, oracles.aet_hits(entries), oracles.belady_hits(entries) if stays else None)
    ratios = [None if found is None else _ratio(found, oracles.asked_keys) for found in hits]
    return dict(zip(names, [capacity, *ratios], strict=True))


def _seconds(records: Records) -> Metrics:
    """GPU time spent on prefill, and the time to a first token that nobody waits in front of."""
    prefill_s, fetch_s = view(records.requests.prefill_s), view(records.requests.fetch_s)
    return {
        "prefill_gpu_hours": float(prefill_s.sum() + view(records.steps.prefill_s).sum()) / HOUR_S,
        "fetch_mean_s": mean(fetch_s),
        "unqueued_ttft_mean_s": mean(fetch_s + prefill_s) if prefill_s.any() else None,
    }


class _Tier(NamedTuple):
    """One tier, that of each GPU or the one that all share."""

    name: str
    config: TierConfig
    place: int
    records: Records

    @property
    def capacity_mean(self) -> float:
        """Over time, in its own unit, all GPUs together."""
        rows, ended_at_s = self.records.capacities, self.records.ended_at_s
        gpu_id, at_s, capacity = view(rows.gpu_id), view(rows.at_s), view(rows.capacity)
        total = 0.0
        for gpu in np.unique(gpu_id):
            mine = (gpu_id == gpu) & (view(rows.tier) == self.place)
            if mine.any():
                lasted_s = np.diff(np.append(at_s[mine], ended_at_s))
                total += float(capacity[mine] @ lasted_s) / ended_at_s if ended_at_s else float(capacity[mine][0])
        return total

    def metrics(self, oracles: Oracles) -> Metrics:
        """What it did, without its name in front."""
        uses: list[TierUse] = [use for use in self.records.tiers if use.name == self.name]
        ended_at_s, ticks = self.records.ended_at_s, sum(use.ticks for use in uses)
        gb_hours = self.capacity_mean * ended_at_s / GB / HOUR_S if self.config.in_bytes else None
        return {
            "hit_ratio": _ratio(sum(use.hits for use in uses), oracles.asked_keys),
            "token_hit_ratio": sum(use.hit_tokens for use in uses) / int(self.records.asked.prompt_tokens.sum()),
            "evictions": sum(use.evictions for use in uses),
            "read_bytes": sum(use.read_bytes for use in uses),
            "written_bytes": sum(use.written_bytes for use in uses),
            "link_busy_ratio": _ratio(sum(use.link_busy_s for use in uses), ended_at_s * len(uses)),
            "capacity_mean": self.capacity_mean,
            "capacity_gb_hours": gb_hours,
            "held_gb_hours": sum(use.held_byte_s for use in uses) / GB / HOUR_S,
            "cost": gb_hours * self.config.price_per_gb_hour if gb_hours and self.config.price_per_gb_hour else None,
            "resizes": sum(use.resizes for use in uses),
            "infeasible_ratio": _ratio(sum(use.infeasible_ticks for use in uses), ticks),
        }


def table(result: StudyResult) -> list[Row]:
    """Every arm: the whole cache, beside an LRU of the same mean capacity, then each tier that any arm has."""
    of_tiers = dict.fromkeys(
        f"{tier}_{name}"
        for arm in result.arms
        if isinstance(arm.scenario.cache, Tiered)
        for tier in arm.scenario.cache.tiers
        for name in ("hit_ratio", *SUMMED[:-1], "token_hit_ratio", "link_busy_ratio", "capacity_mean")
    )
    return [_row(result, index, list(of_tiers)) for index in range(len(result.arms))]


def _row(result: StudyResult, index: int, of_tiers: list[str]) -> Row:
    gain = paired_difference(result.values(index, "hit_ratio"), result.values(index, "lru_hit_ratio"))
    labels = result.labels(index)
    return {
        "arm": index,
        **labels,
        **result.intervals(index, *OVERALL[:4]),
        "gain_over_lru_ratio": gain,
        "verdict": verdict(gain, "LRU of this size"),
        **result.intervals(index, *OVERALL[4:]),
        **result.intervals(index, *of_tiers),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
