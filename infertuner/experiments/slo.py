"""Which objectives of a scenario its arms meet."""

from __future__ import annotations

from typing import Any

from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.objectives import Judgement, judge


def judgement(result: StudyResult, arm_index: int) -> Judgement | None:
    """What all replications of an arm say of its objectives; None without any objective or replication."""
    slo = result.arms[arm_index].scenario.slo
    runs = result.metrics[arm_index]
    return None if slo is None or not runs else judge(runs, slo)


def told(result: StudyResult, arm_index: int) -> dict[str, Any] | None:
    """The judgement as summary.json has it."""
    found = judgement(result, arm_index)
    if found is None:
        return None
    return {
        "verdict": found.verdict,
        "runs_met": found.runs_met,
        "runs": found.runs,
        "objectives": [vars(margin) for margin in found.margins],
    }


def rows(result: StudyResult) -> list[Row]:
    """One line an arm: its verdict, why, in how many runs everything held, and every objective's metric."""
    lines = []
    for index in range(len(result.arms)):
        found = judgement(result, index)
        if found is not None:
            line: Row = {"arm": index, **result.labels(index), "objectives": found.verdict}
            line["runs that kept all"] = f"{found.runs_met} of {found.runs}"
            line |= {margin.metric: margin.value for margin in found.margins}
            if any(margin.metric == "goodput_ratio" for margin in found.margins):
                line["goodput_per_s"] = result.interval(index, "goodput_per_s")
            lines.append(line | {"why not": "" if found.verdict == "meets" else found.reason()})
    return lines
