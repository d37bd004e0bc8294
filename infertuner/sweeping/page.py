"""The page of a sweep: report.html beside its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infertuner.experiments.answers import Goal, best_arm, goals_of, objectives_met
from infertuner.experiments.charts import breakdown_figures, latency_figures, metric_figure
from infertuner.experiments.page import facts
from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.html import charts
from infertuner.outcomes.html.page import Page, render
from infertuner.outcomes.html.tables import table
from infertuner.outcomes.html.words import in_words
from infertuner.outcomes.statistics import Interval
from infertuner.outcomes.warmup_figures import WarmUp
from infertuner.sweeping.runner import Sweep
from infertuner.sweeping.table import Aim, warmups

MOST_METRICS = 4
"""Metrics with a figure of their own: those asked for first, then the first of the table."""


def sweep_page(
    sweep: Sweep,
    aim: Aim | None,
    rows: Sequence[Row],
    *,
    told: Mapping[str, Any],
    provenance: Mapping[str, Any],
    scenario_yaml: str,
) -> str:
    """The page of a sweep; rows are those of arms.csv, told is the content of summary.json."""
    result, scenario = sweep.result(), sweep.study.scenario
    run, failures = told["run"], told["failures"]
    chosen = [place for place, row in enumerate(rows) if row.get("rank") == "best"]
    warnings = list(told["warnings"])
    if failures:
        warnings.insert(
            0, f"{len(failures):,} of {run['cells']:,} cells failed and are left out; they are listed below"
        )
    computed = f"{run['computed']:,} of {run['cells']:,} cells here, {run['from_store']:,} read from earlier sweeps"
    return render(
        Page(
            kind="Sweep",
            name=scenario.name,
            title=scenario.description or scenario.name,
            answer=_answer(sweep, result, aim),
            warnings=warnings,
            sections=[
                ("Arms", table("Results by arm", rows, chosen)),
                ("Figures", "\n".join(_figures(sweep, result, aim, rows))),
                ("Where the time to the first token went", "\n".join(breakdown_figures(result))),
                ("Latencies", "\n".join(latency_figures(result))),
                ("Warm-up", _warmup(warmups(sweep, result), scenario.warmup_s)),
                ("Cells that failed", table("Cells that failed", failures)),
            ],
            provenance=provenance,
            scenario_yaml=scenario_yaml,
            facts=[*facts(result), ("Computed", computed)],
        )
    )


def _answer(sweep: Sweep, result: StudyResult, aim: Aim | None) -> list[str]:
    goals = [_goal(aim)] if aim else goals_of(sweep.study.scenario)
    told = [objectives_met(result)]
    told += [best_arm(result, goal, sweep.values) for goal in goals]
    return [sentence for sentence in told if sentence] or [f"{len(result.arms)} arms; see the table."]


def _goal(aim: Aim) -> Goal:
    return Goal(aim.metric, aim.maximise, f"{'highest' if aim.maximise else 'lowest'} {in_words(aim.metric)}")


def _figures(sweep: Sweep, result: StudyResult, aim: Aim | None, rows: Sequence[Row]) -> list[str]:
    shown = [name for name, value in (rows[0] if rows else {}).items() if isinstance(value, Interval)]
    asked = [*([aim.metric] if aim else []), *sweep.metrics_asked, *shown]
    figures = [metric_figure(result, name) for name in list(dict.fromkeys(asked))[:MOST_METRICS]]
    return [figure for figure in figures if figure]


def _warmup(arms: Mapping[str, WarmUp], warmup_s: float) -> str:
    if not arms:
        return ""
    lines = {
        label: (arm.at_s, np.array(arm.e2e_s) / np.nanmean(arm.e2e_s[len(arm.e2e_s) // 2 :]))
        for label, arm in arms.items()
    }
    chart = charts.tracks(lines, "arrival, s", "end-to-end latency / its later mean")
    ends = [f"{label}: {arm.mser5_s:.3g} s" for label, arm in arms.items() if arm.mser5_s is not None]
    caption = (
        f"Welch's moving average; warmup_s is {warmup_s:g}. The steady part begins by MSER-5 at {'; '.join(ends)}."
    )
    return charts.figure("How runs begin", chart, caption if ends else "Welch's moving average.")
