"""No experiment: the general metrics of every arm."""

from __future__ import annotations

from infertuner.experiments.result import Row, StudyResult

HEADLINE = (
    "throughput_per_s", "ttft_mean_s", "ttft_p95_s", "tpot_mean_s", "itl_p99_s", "e2e_p95_s", "batch_size_mean",
    "kv_usage_max_ratio", "utilization_ratio", "gpus_mean",
)  # fmt: skip


def table(result: StudyResult) -> list[Row]:
    """Every metric of every arm."""
    return [_row(result, index) for index in range(len(result.arms))]


def _row(result: StudyResult, index: int) -> Row:
    labels = result.labels(index)
    metrics = [name for name in result.metrics[index][0] if name not in labels]
    return {"arm": index, **labels, **result.intervals(index, *metrics)}
