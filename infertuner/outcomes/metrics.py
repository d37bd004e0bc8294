"""The numbers of one run, each a plain function of its records; docs/metrics.md is their dictionary.

Every metric is measured after the warm-up. Latencies belong to requests, so they look at the finished requests that
arrived after it; rates belong to time, so they look at the window between the end of the warm-up and the end of the
run. A metric that the run cannot answer is None.
"""

from __future__ import annotations

import numpy as np

from infertuner.outcomes.engines import measured_engines
from infertuner.outcomes.latencies import measured_latencies
from infertuner.outcomes.saturation import queue_growth
from infertuner.outcomes.window import Metrics, Window, finished, mean, view
from infertuner.records import CacheLevel, Records, Status
from infertuner.sources.requests import Ints


def summarise(records: Records, warmup_s: float) -> Metrics:
    """Every metric of one run. The names are the same for every run, whatever happened in it."""
    window = Window(warmup_s, records.ended_at_s)
    return {
        **_requests(records),
        **_rates(records, window),
        **measured_latencies(records, window),
        **measured_engines(records, window),
        **_gpu_shares(records),
        **_cache_lookups(records, window),
        **local_entries(records, window),
        **queue_growth(records),
    }


def gpu_distribution(records: Records) -> list[int]:
    """Finished requests of each GPU over the whole run, in the order of GPU ids."""
    gpu_id = view(records.requests.gpu_id)[finished(records)]
    return [int(count) for count in np.bincount(gpu_id, minlength=records.num_gpus)]


def endings(records: Records) -> Ints:
    """How each request ended, a `Status`, shape (n,)."""
    return np.where(finished(records), Status.FINISHED, view(records.requests.status))


def _requests(records: Records) -> Metrics:
    """Every request of the run is in exactly one of these states, warm-up included."""
    counts = np.bincount(endings(records), minlength=len(Status))
    states = (Status.FINISHED, Status.UNFINISHED, Status.REJECTED_LENGTH, Status.REJECTED_KV, Status.FAILED)
    return {
        "requests": len(records.asked),
        **{state.name.lower(): int(counts[state]) for state in states},
        "preemptions": int(view(records.requests.preemptions).sum()),
        "retries": int(view(records.requests.retries).sum()),
    }


def _rates(records: Records, window: Window) -> Metrics:
    """Completions within the window over its length; the makespan is that of the whole run."""
    arrived_at_s, finished_at_s = view(records.requests.arrived_at_s), view(records.requests.finished_at_s)
    completed = finished_at_s >= window.since_s
    any_finished = bool(finished(records).any())
    return {
        "throughput_per_s": window.rate_per_s(completed.sum()),
        "output_tokens_per_s": window.rate_per_s(records.asked.output_tokens[completed].sum()),
        "makespan_s": float(np.nanmax(finished_at_s) - np.nanmin(arrived_at_s)) if any_finished else None,
    }


def _gpu_shares(records: Records) -> Metrics:
    """How even the GPUs' shares of the finished requests are."""
    served = gpu_distribution(records)
    total = sum(served)
    return {
        "gpu_share_max_ratio": max(served) / total if total else None,
        "gpu_share_min_ratio": min(served) / total if total else None,
    }


def _cache_lookups(records: Records, window: Window) -> Metrics:
    """Where the requests that arrived within the window found their prefixes, and what fetching them cost."""
    requests = records.requests
    arrived_at_s, level = view(requests.arrived_at_s), view(requests.cache_level)
    looked_up = (arrived_at_s >= window.since_s) & (level != CacheLevel.NONE)
    level = level[looked_up]
    cached_tokens, asked_tokens = view(requests.cached_tokens)[looked_up], records.asked.prompt_tokens[looked_up]
    return {
        "local_hit_ratio": mean(level == CacheLevel.LOCAL),
        "remote_hit_ratio": mean(level == CacheLevel.REMOTE),
        "hit_ratio": mean(level != CacheLevel.MISS),
        "miss_ratio": mean(level == CacheLevel.MISS),
        "cached_tokens_ratio": float(cached_tokens.sum() / asked_tokens.sum()) if level.size else None,
        "fetch_mean_s": mean(view(requests.fetch_s)[looked_up]),
    }


def local_entries(records: Records, window: Window) -> Metrics:
    """The size a local cache was allowed, averaged over the window's time and over GPUs."""
    sizes = records.cache_sizes
    gpu_id, at_s, entries = view(sizes.gpu_id), view(sizes.at_s), view(sizes.entries)
    order = np.lexsort((at_s, gpu_id))
    gpu_id, at_s, entries = gpu_id[order], at_s[order], entries[order]
    until_s = np.append(at_s, window.until_s)[1:]
    until_s[:-1][gpu_id[1:] != gpu_id[:-1]] = window.until_s
    held_s = window.overlap_s(at_s, until_s)
    total_s = held_s.sum()
    return {"local_entries_mean": float((entries * held_s).sum() / total_s) if total_s > 0 else None}
