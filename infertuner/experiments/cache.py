"""Cache sizing: which policy keeps the right sessions close?

Published face: latency as the first implementation reported it, and hits of either tier counted alike.
Both faces report local hits, remote hits and misses apart, and compare each policy with a plain LRU cache of the same
mean size: what a policy earns only by taking more memory is not its merit.
"""

from __future__ import annotations

from dataclasses import fields

from infertuner.cache.config import Sizing, TwoLevel
from infertuner.cache.replay import local_hits_at
from infertuner.errors import ScenarioError
from infertuner.experiments.result import Row, StudyResult
from infertuner.experiments.verdicts import verdict
from infertuner.outcomes.latencies import durations
from infertuner.outcomes.metrics import local_entries
from infertuner.outcomes.statistics import interval, paired_difference
from infertuner.outcomes.window import Metrics, Window, finished, view
from infertuner.records import CacheLevel, Records
from infertuner.scenario.model import Scenario
from infertuner.units import SECONDS

AXIS = "cache.sizing"
HEADLINE = (
    "local_hits", "remote_hits", "misses", "local_entries_mean", "gain_over_static_hits", "verdict",
    "avg_latency_ms", "e2e_against_first_s",
)  # fmt: skip


def measure(records: Records, scenario: Scenario) -> Metrics:
    """Hits by tier, the published latency, and what a static cache of the same mean size would have hit.

    All of them over the whole run: a cache's start belongs to what its sizing policy is judged by.
    """
    if scenario.driver == "replay":
        raise ScenarioError("experiment: cache counts what serving GPUs find; use cache_tiers, or driver: serving")
    level = view(records.requests.cache_level)
    tiers = {"local_hits": CacheLevel.LOCAL, "remote_hits": CacheLevel.REMOTE, "misses": CacheLevel.MISS}
    counts = {name: float((level == tier).sum()) for name, tier in tiers.items()}
    entries = local_entries(records, Window(0.0, records.ended_at_s))["local_entries_mean"]
    static = None if entries is None else static_local_hits(records, entries)
    return {
        **counts,
        "cache_hits": counts["local_hits"] + counts["remote_hits"],
        "static_local_hits": static,
        "reported_latency_s": reported_latency_s(records, _two_level(scenario))
        if scenario.face == "published"
        else None,
    }


def reported_latency_s(records: Records, cache: TwoLevel | None) -> float | None:
    """Mean latency as published: inference plus the refetch of a miss, without queueing and the remote look.

    Fetching is taken to occupy the GPU and batches to be of one, as they were.
    """
    done = finished(records)
    if cache is None or not done.any():
        return None
    times, requests = durations(records), records.requests
    inference_s = times.e2e_s - times.wait_s - view(requests.fetch_s)
    reported_s = inference_s + cache.miss_penalty_s * (view(requests.cache_level) == CacheLevel.MISS)
    return float(reported_s[done].mean())


def static_local_hits(records: Records, entries: float) -> float:
    """Local hits if every GPU's cache had held `entries` all the time; between two whole sizes, the chord.

    Lookups and insertions are those of the run, in their order: what the run found anywhere is copied into the cache
    when looked up, and everything is when it has been served. For a static cache this is the run itself.
    """
    sessions, level = records.asked.session_id, records.requests.cache_level
    small, share = divmod(round(entries, 6), 1)
    total = 0.0
    for log in records.cache_logs:
        events = [
            (sessions[row], True, level[row] != CacheLevel.MISS) if row >= 0 else (sessions[~row], False, False)
            for row in log
        ]
        total += (1 - share) * local_hits_at(events, int(small))
        total += share * local_hits_at(events, int(small) + 1) if share else 0.0
    return total


def table(result: StudyResult) -> list[Row]:
    """Hits by tier and latency of every sizing policy."""
    return [_row(result, index) for index in range(len(result.arms))]


def _two_level(scenario: Scenario) -> TwoLevel | None:
    """The cache of this experiment; tiers have an experiment of their own, `cache_tiers`."""
    return scenario.cache if isinstance(scenario.cache, TwoLevel) else None


def _config(sizing: Sizing) -> str:
    """The initial size, and every other key that is not at its default."""
    others = [
        f"{key.name}={getattr(sizing, key.name)}"
        for key in fields(sizing)
        if key.name not in ("kind", "entries", "initial_entries") and getattr(sizing, key.name) != key.default
    ]
    return ", ".join([f"initial={sizing.initial_entries}", *others])


def _row(result: StudyResult, index: int) -> Row:
    cache = _two_level(result.arms[index].scenario)
    sizing = cache.sizing if cache else None
    published = result.study.scenario.face == "published"
    latency_s = result.interval(index, "reported_latency_s" if published else "e2e_mean_s")
    hits, requests = result.values(index, "cache_hits"), result.values(index, "requests")
    gain = paired_difference(result.values(index, "local_hits"), result.values(index, "static_local_hits"))
    return {
        "strategy": sizing.kind.upper() if sizing else "NONE",
        "total_requests": result.requests_of(index),
        "cache_hits": result.interval(index, "cache_hits"),
        "hit_rate_percent": interval(
            None if hit is None or not n else 100 * hit / n for hit, n in zip(hits, requests, strict=True)
        ),
        "avg_latency_ms": latency_s.scaled(1 / SECONDS["ms"]),
        "strategy_config": "" if sizing is None else _config(sizing),
        **result.labels(index, AXIS),
        **result.intervals(index, "local_hits", "remote_hits", "misses", "local_entries_mean", "static_local_hits"),
        "gain_over_static_hits": gain,
        "verdict": verdict(gain, "static of the same size"),
        "e2e_against_first_s": paired_difference(
            result.values(index, "e2e_mean_s"), result.values(0, "e2e_mean_s")
        ),
        **result.intervals(
            index, "local_hit_ratio", "remote_hit_ratio", "miss_ratio", "wait_mean_s", "ttft_mean_s", "ttft_p95_s",
            "e2e_mean_s", "e2e_p95_s", "throughput_per_s", "utilization_ratio",
        ),
    }  # fmt: skip
