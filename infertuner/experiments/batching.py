"""The batching trade-off: what does waiting for company cost, and what does it buy?

Published face: throughput as it was computed, batch size over mean latency, beside the real one. Corrected face: real
batches, completions over the measured window.
"""

from __future__ import annotations

from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.statistics import Interval, interval
from infertuner.units import SECONDS

AXIS = "cluster.batcher.max_batch_size"
HEADLINE = (
    "avg_wait_ms", "avg_latency_ms", "throughput_req_per_sec", "real_throughput_per_s", "batch_size_mean", "e2e_p95_s",
)  # fmt: skip


def table(result: StudyResult) -> list[Row]:
    """Waiting time, latency and throughput of every batch limit."""
    return [_row(result, index) for index in range(len(result.arms))]


def _row(result: StudyResult, index: int) -> Row:
    batcher = result.arms[index].scenario.cluster.batcher
    batch_size = getattr(batcher, "max_batch_size", 1)
    published = result.study.scenario.face == "published"
    real = result.interval(index, "throughput_per_s")
    return {
        "batch_size": batch_size,
        "avg_wait_ms": result.interval(index, "wait_mean_s").scaled(1 / SECONDS["ms"]),
        "avg_latency_ms": result.interval(index, "e2e_mean_s").scaled(1 / SECONDS["ms"]),
        "throughput_req_per_sec": _formula(batch_size, result.values(index, "e2e_mean_s")) if published else real,
        "total_requests": result.requests_of(index),
        "efficiency_notes": _note(batch_size),
        **result.labels(index, AXIS),
        "real_throughput_per_s": real,
        **result.intervals(
            index, "batch_size_mean", "wait_mean_s", "ttft_mean_s", "tpot_mean_s", "e2e_mean_s", "e2e_p50_s",
            "e2e_p95_s", "e2e_p99_s", "output_tokens_per_s", "utilization_ratio",
        ),
    }  # fmt: skip


def _formula(batch_size: int, latencies_s: list[float | None]) -> Interval:
    """The published throughput: batch size over mean latency, as if batches ran at once and back to back."""
    return interval(batch_size / latency_s if latency_s else None for latency_s in latencies_s)


def _note(batch_size: int) -> str:
    """The published label of a batch size."""
    if batch_size == 1:
        return "baseline"
    return "balanced" if batch_size <= 4 else "high throughput"
