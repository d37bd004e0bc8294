"""The numbers of one run, each a plain function of its records; docs/metrics.md is their dictionary.

Every metric is measured after the warm-up. Latencies belong to requests, so they look at the finished requests that
arrived after it; rates belong to time, so they look at the window between the end of the warm-up and the end of the
run. A metric that the run cannot answer is None.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from infertuner.records import CacheLevel, Records
from infertuner.sources.requests import Floats

Metrics: TypeAlias = dict[str, float | None]
"""Metric name, unit included, to value."""
Mask: TypeAlias = NDArray[np.bool_]

PERCENTILES = (50, 95, 99)
MIN_SAMPLES_BEYOND = 5


def summarise(records: Records, warmup_s: float) -> Metrics:
    """Every metric of one run. The names are the same for every run, whatever happened in it."""
    window = Window(warmup_s, records.ended_at_s)
    return {
        **_requests(records),
        **_rates(records, window),
        **_latencies(records, window),
        **_gpus(records, window),
        **_cache_lookups(records, window),
        **local_entries(records, window),
    }


def gpu_distribution(records: Records) -> list[int]:
    """Finished requests of each GPU over the whole run, in the order of GPU ids."""
    gpu_id = view(records.requests.gpu_id)[finished(records)]
    return [int(count) for count in np.bincount(gpu_id, minlength=records.num_gpus)]


def view(column: array[Any] | NDArray[Any]) -> NDArray[Any]:
    """A column as a numpy array of the same memory, read-only."""
    values = np.asarray(column).view()
    values.flags.writeable = False
    return values


def finished(records: Records) -> Mask:
    """Which requests were answered, shape (n,)."""
    answered: Mask = ~np.isnan(view(records.requests.finished_at_s))
    return answered


@dataclass(frozen=True)
class Durations:
    """How long each request took, shape (n,); NaN where it has not happened or does not exist."""

    wait_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats


def durations(records: Records) -> Durations:
    """Waiting time, time to first token, time per output token and end-to-end latency as vLLM's benchmark has them.

    TPOT is (e2e - ttft) / (output tokens - 1), the mean gap between tokens; a single token has no gap.
    """
    requests, output_tokens = records.requests, records.asked.output_tokens
    arrived_at_s, finished_at_s = view(requests.arrived_at_s), view(requests.finished_at_s)
    first_token_at_s = view(requests.first_token_at_s)
    gaps = np.where(output_tokens > 1, output_tokens - 1.0, np.nan)
    return Durations(
        wait_s=view(requests.started_at_s) - arrived_at_s,
        ttft_s=first_token_at_s - arrived_at_s,
        tpot_s=(finished_at_s - first_token_at_s) / gaps,
        e2e_s=finished_at_s - arrived_at_s,
    )


@dataclass(frozen=True)
class Window:
    """The part of a run that is measured: from the end of the warm-up to the end of the run."""

    since_s: float
    until_s: float

    def rate_per_s(self, amount: float) -> float | None:
        """`amount` per second of the window; None for a run that ended within its warm-up."""
        length_s = self.until_s - self.since_s
        return float(amount / length_s) if length_s > 0 else None

    def overlap_s(self, start_s: Floats, end_s: Floats) -> Floats:
        """Seconds of each interval that lie within the window."""
        overlap_s: Floats = np.minimum(end_s, self.until_s) - np.maximum(start_s, self.since_s)
        return np.maximum(overlap_s, 0.0)


def _requests(records: Records) -> Metrics:
    """Every request of the run is in one of these, warm-up included."""
    count = int(finished(records).sum())
    return {"requests": len(records.asked), "finished": count, "unfinished": len(records.asked) - count}


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


def _latencies(records: Records, window: Window) -> Metrics:
    """Latencies of the finished requests that arrived within the window."""
    measured = finished(records) & (view(records.requests.arrived_at_s) >= window.since_s)
    times = durations(records)
    tpot_s = times.tpot_s[measured]
    return {
        "wait_mean_s": _mean(times.wait_s[measured]),
        **_distribution("ttft", times.ttft_s[measured]),
        **_distribution("tpot", tpot_s[~np.isnan(tpot_s)]),
        **_distribution("e2e", times.e2e_s[measured]),
    }


def _gpus(records: Records, window: Window) -> Metrics:
    """How full the batches, how busy the GPUs and how even their shares of the finished requests."""
    started_at_s, batch_size = view(records.steps.started_at_s), view(records.steps.batch_size)
    gpu_seconds_per_s = window.rate_per_s(_busy_s(records, window))
    served = gpu_distribution(records)
    total = sum(served)
    return {
        "batch_size_mean": _mean(batch_size[started_at_s >= window.since_s]),
        "utilization_ratio": None if gpu_seconds_per_s is None else gpu_seconds_per_s / records.num_gpus,
        "gpu_share_max_ratio": max(served) / total if total else None,
        "gpu_share_min_ratio": min(served) / total if total else None,
    }


def _busy_s(records: Records, window: Window) -> float:
    """GPU seconds spent on batches within the window.

    The batch that the horizon cuts short has no row of its own, but its members have started and not finished.
    """
    steps, requests = records.steps, records.requests
    start_s = view(steps.started_at_s)
    end_s = start_s + view(steps.fetch_s) + view(steps.prefill_s) + view(steps.decode_s)
    started_at_s = view(requests.started_at_s)
    cut = ~np.isnan(started_at_s) & ~finished(records)
    _, one_each = np.unique(view(requests.gpu_id)[cut], return_index=True)
    cut_start_s = started_at_s[cut][one_each]
    cut_end_s = np.full_like(cut_start_s, records.ended_at_s)
    return float(window.overlap_s(start_s, end_s).sum() + window.overlap_s(cut_start_s, cut_end_s).sum())


def _cache_lookups(records: Records, window: Window) -> Metrics:
    """Where the requests that arrived within the window found their prefixes, and what fetching them cost."""
    arrived_at_s, level = view(records.requests.arrived_at_s), view(records.requests.cache_level)
    looked_up = (arrived_at_s >= window.since_s) & (level != CacheLevel.NONE)
    level = level[looked_up]
    return {
        "local_hit_ratio": _mean(level == CacheLevel.LOCAL),
        "remote_hit_ratio": _mean(level == CacheLevel.REMOTE),
        "hit_ratio": _mean(level != CacheLevel.MISS),
        "miss_ratio": _mean(level == CacheLevel.MISS),
        "fetch_mean_s": _mean(view(records.requests.fetch_s)[looked_up]),
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


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None


def _distribution(name: str, values: Floats) -> Metrics:
    """Mean and percentiles of a latency (numpy's linear method, as vLLM's benchmark takes them).

    A percentile is refused, None, unless at least 5 of the samples are expected beyond it: p50 wants 10 samples, p95
    100, p99 500. The chance that n samples hold nothing at all beyond the true q-quantile is q^n <= exp(-n (1 - q)),
    here at most exp(-5) = 0.7 %. So the sample brackets the quantile and a 95 % distribution-free interval for it
    exists (David and Nagaraja, Order Statistics, section 7.1); with fewer, the number is little but the largest sample.
    Latencies of one queue depend on each other, so this is the least to ask, and intervals come from replications.
    """
    carried = [q for q in PERCENTILES if values.size * (100 - q) >= 100 * MIN_SAMPLES_BEYOND]
    found = dict(zip(carried, np.percentile(values, carried), strict=True)) if carried else {}
    percentiles = {f"{name}_p{q}_s": float(found[q]) if q in found else None for q in PERCENTILES}
    return {f"{name}_mean_s": _mean(values), **percentiles}
