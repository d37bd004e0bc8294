"""Cache sizing: which policy keeps the right sessions close?

Published face: latency as the first implementation reported it, and hits of either tier counted alike.
Both faces report local hits, remote hits and misses apart, and compare each policy with a plain LRU cache of the same
mean size: what a policy earns only by taking more memory is not its merit.
"""

from __future__ import annotations

import itertools

import numpy as np

from infertuner.cache.config import TwoLevel
from infertuner.cache.replay import local_hits_at
from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.metrics import Metrics, Window, durations, finished, local_entries, view
from infertuner.outcomes.statistics import interval, paired_difference
from infertuner.records import CacheLevel, Records
from infertuner.scenario.model import Scenario
from infertuner.units import SECONDS

AXIS = "cache.sizing"
HEADLINE = (
    "local_hits", "remote_hits", "misses", "local_entries_mean", "gain_over_static_hits", "avg_latency_ms",
    "e2e_against_first_s",
)  # fmt: skip


def measure(records: Records, scenario: Scenario) -> Metrics:
    """Hits by tier, the published latency, and what a static cache of the same mean size would have hit.

    All of them over the whole run: a cache's start belongs to what its sizing policy is judged by.
    """
    level = view(records.requests.cache_level)
    tiers = {"local_hits": CacheLevel.LOCAL, "remote_hits": CacheLevel.REMOTE, "misses": CacheLevel.MISS}
    counts = {name: float((level == tier).sum()) for name, tier in tiers.items()}
    entries = local_entries(records, Window(0.0, records.ended_at_s))["local_entries_mean"]
    static = None if entries is None else static_local_hits(records, entries)
    return {
        **counts,
        "cache_hits": counts["local_hits"] + counts["remote_hits"],
        "static_local_hits": static,
        "reported_latency_s": reported_latency_s(records, scenario.cache),
    }


def reported_latency_s(records: Records, cache: TwoLevel | None) -> float | None:
    """Mean latency as published: inference plus the refetch of a miss, without queueing and the remote look."""
    done = finished(records)
    if cache is None or not done.any():
        return None
    times, requests = durations(records), records.requests
    inference_s = times.e2e_s - times.wait_s - view(requests.fetch_s)
    reported_s = inference_s + cache.miss_penalty_s * (view(requests.cache_level) == CacheLevel.MISS)
    return float(reported_s[done].mean())


def static_local_hits(records: Records, entries: float) -> float:
    """Local hits if every GPU's cache had held `entries` all the time; between two whole sizes, the chord.

    Lookups and completions are those of the run, at their instants: what the run found anywhere is copied into the
    cache when looked up, and everything is when it has been served. For a static cache this is the run itself.
    """
    requests = records.requests
    instants_s = np.concatenate([view(requests.looked_up_at_s), view(requests.finished_at_s)])
    rows = np.tile(np.arange(requests.n), 2)
    looked_up = np.repeat([True, False], requests.n)
    gpu_id = view(requests.gpu_id)[rows]
    order = np.lexsort((looked_up, instants_s, gpu_id))
    order = order[~np.isnan(instants_s[order])]
    found = view(requests.cache_level)[rows[order]] != CacheLevel.MISS
    keys = [records.asked.session_id[row] for row in rows[order].tolist()]
    events = list(zip(keys, looked_up[order].tolist(), found.tolist(), strict=True))
    ends = np.searchsorted(gpu_id[order], np.arange(records.num_gpus + 1)).tolist()
    small, share = divmod(round(entries, 6), 1)
    total = 0.0
    for begin, end in itertools.pairwise(ends):
        mine = events[begin:end]
        total += (1 - share) * local_hits_at(mine, int(small))
        total += share * local_hits_at(mine, int(small) + 1) if share else 0.0
    return total


def table(result: StudyResult) -> list[Row]:
    """Hits by tier and latency of every sizing policy."""
    return [_row(result, index) for index in range(len(result.arms))]


def _row(result: StudyResult, index: int) -> Row:
    cache = result.arms[index].scenario.cache
    sizing = cache.sizing if cache else None
    published = result.study.scenario.face == "published"
    latency_s = result.interval(index, "reported_latency_s" if published else "e2e_mean_s")
    hits, requests = result.values(index, "cache_hits"), result.values(index, "requests")
    return {
        "strategy": sizing.kind.upper() if sizing else "NONE",
        "total_requests": result.interval(index, "requests").mean,
        "cache_hits": result.interval(index, "cache_hits"),
        "hit_rate_percent": interval(
            None if hit is None or not n else 100 * hit / n for hit, n in zip(hits, requests, strict=True)
        ),
        "avg_latency_ms": latency_s.scaled(1 / SECONDS["ms"]),
        "strategy_config": "" if sizing is None else f"initial={sizing.initial_entries}",
        **result.labels(index, AXIS),
        **result.intervals(index, "local_hits", "remote_hits", "misses", "local_entries_mean", "static_local_hits"),
        "gain_over_static_hits": paired_difference(
            result.values(index, "local_hits"), result.values(index, "static_local_hits")
        ),
        "e2e_against_first_s": paired_difference(
            result.values(index, "e2e_mean_s"), result.values(0, "e2e_mean_s")
        ),
        **result.intervals(
            index, "local_hit_ratio", "remote_hit_ratio", "miss_ratio", "wait_mean_s", "ttft_mean_s", "ttft_p95_s",
            "e2e_mean_s", "e2e_p95_s", "throughput_per_s", "utilization_ratio",
        ),
    }  # fmt: skip
