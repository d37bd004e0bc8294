"""No experiment: the general metrics of every arm."""

from __future__ import annotations

from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.metrics import Metrics
from infertuner.records import Records
from infertuner.scenario.model import Scenario

HEADLINE = ("throughput_per_s", "ttft_mean_s", "ttft_p95_s", "tpot_mean_s", "e2e_p95_s", "utilization_ratio")


def measure(records: Records, scenario: Scenario) -> Metrics:
    """Nothing beyond the general metrics."""
    return {}


def table(result: StudyResult) -> list[Row]:
    """Every metric of every arm."""
    return [
        {"arm": index, **result.labels(index), **result.intervals(index, *result.metrics[index][0])}
        for index in range(len(result.arms))
    ]
