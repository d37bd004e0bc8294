"""GPU scaling: what does another GPU buy?

Published face: throughput as the first implementation's sinks printed it.
Each GPU's sink printed, at every tenth of its own responses, that count over the time since the job was submitted;
the last printed values were summed.
Corrected face: completions over the measured window.
"""

from __future__ import annotations

import numpy as np

from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.statistics import paired_ratio
from infertuner.outcomes.window import Metrics, finished, view
from infertuner.records import Records
from infertuner.scenario.model import Scenario

AXIS = "cluster.gpus"
PRINTED_EVERY = 10
HEADLINE = ("total_throughput", "scale_factor", "efficiency_ratio", "wait_mean_s", "e2e_p95_s", "utilization_ratio")


def measure(records: Records, scenario: Scenario) -> Metrics:
    """The published throughput, beside the sound one among the general metrics."""
    return {"published_throughput_per_s": published_throughput_per_s(records)}


def published_throughput_per_s(records: Records) -> float | None:
    """The sum over GPUs of k / t_k, where t_k is the instant of the last response whose number k is a multiple of 10.

    None when no GPU answered 10 requests.
    """
    done = finished(records)
    gpu_id, finished_at_s = view(records.requests.gpu_id)[done], view(records.requests.finished_at_s)[done]
    total = 0.0
    for gpu in range(records.num_gpus):
        instants_s = np.sort(finished_at_s[gpu_id == gpu])
        printed = instants_s.size - instants_s.size % PRINTED_EVERY
        if printed and instants_s[printed - 1] > 0:
            total += printed / float(instants_s[printed - 1])
    return total or None


def table(result: StudyResult) -> list[Row]:
    """Throughput, its ratio to the smallest cluster under the same conditions, and how the work was spread."""
    metric = "published_throughput_per_s" if result.study.scenario.face == "published" else "throughput_per_s"
    return [_row(result, index, metric) for index in range(len(result.arms))]


def _row(result: StudyResult, index: int, metric: str) -> Row:
    gpus = result.arms[index].scenario.cluster.gpus
    base = _base_of(result, index)
    scale = paired_ratio(result.values(index, metric), result.values(base, metric))
    growth = gpus / result.arms[base].scenario.cluster.gpus
    shares = enumerate(result.distributions[index])
    return {
        "parallelism": gpus,
        "total_throughput": result.interval(index, metric),
        "scale_factor": scale,
        "gpu_distribution": ";".join(f"GPU{gpu}:{count}" for gpu, count in shares),
        "execution_time": result.interval(index, "makespan_s"),
        **result.labels(index, AXIS),
        "efficiency_ratio": scale.scaled(1 / growth),
        **result.intervals(
            index, "throughput_per_s", "wait_mean_s", "ttft_mean_s", "ttft_p95_s", "e2e_mean_s", "e2e_p95_s",
            "e2e_p99_s", "utilization_ratio", "gpu_share_max_ratio", "gpu_share_min_ratio",
        ),
    }  # fmt: skip


def _base_of(result: StudyResult, index: int) -> int:
    """The arm with the fewest GPUs among those run under this arm's conditions."""
    condition = result.condition(index, AXIS)
    same = [other for other in range(len(result.arms)) if result.condition(other, AXIS) == condition]
    return min(same, key=lambda other: result.arms[other].scenario.cluster.gpus)
