"""What a sweep found: one tidy table with a row a cell, one line an arm, and the JSON summary."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from infertuner.experiments.analyses import analysis_of
from infertuner.experiments.plain import HEADLINE
from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.ranking import Standing, compare_with_best
from infertuner.outcomes.warmup import welch
from infertuner.outcomes.warmup_figures import WarmUp
from infertuner.sweeping.runner import Sweep

MOST_DRAWN = 8
"""Arms in the figure of warm-ups; more could not be told apart."""
MOST_NAMED = 20
"""Arms in a warning; summary.json has the numbers of all."""


@dataclass(frozen=True)
class Aim:
    """What makes one arm better than another."""

    metric: str
    maximise: bool


def cells_frame(sweep: Sweep) -> pd.DataFrame:
    """One row a cell, by arm and replication: dotted keys in which arms differ, then every metric.

    Its values and types follow from the cells alone, whoever computed them and in whatever order.
    """
    result = sweep.result()
    places = [place for place in sorted(sweep.cells) if place[1] < sweep.replications[place[0]]]
    columns: dict[str, Any] = {"arm": [arm for arm, _ in places], "replication": [number for _, number in places]}
    parameters = [result.parameters(arm) for arm, _ in places]
    columns |= {key: _column([row[key] for row in parameters]) for key in (parameters[0] if parameters else ())}
    names = dict.fromkeys(name for place in places for name in sweep.cells[place].metrics)
    columns |= {name: _column([sweep.cells[place].metrics.get(name) for place in places]) for name in names}
    return pd.DataFrame(columns)


def arm_rows(sweep: Sweep, result: StudyResult, aim: Aim | None) -> list[Row]:
    """One line an arm that has any cell: how it differs, its headline metrics, and where it stands."""
    standings = standings_of(sweep, aim)
    asked = [*sweep.metrics_asked, *analysis_of(result.study.scenario).headline, *HEADLINE]
    names = [name for name in dict.fromkeys(asked) if any(runs and name in runs[0] for runs in result.metrics)]
    lines = []
    for arm, runs in enumerate(result.metrics):
        if runs:
            line = {"arm": arm, **result.labels(arm), "replications": len(runs), **result.intervals(arm, *names)}
            line["saturation"] = result.saturation(arm)
            standing = standings[arm]
            lines.append(line | ({} if aim is None else _standing(standing, aim)))
    kept = [name for name in (lines[0] if lines else ()) if any(_is_known(line[name]) for line in lines)]
    return [{name: line[name] for name in kept} for line in lines]


def standings_of(sweep: Sweep, aim: Aim | None) -> list[Standing | None]:
    """Where each arm stands among all."""
    if aim is None:
        return [None for _ in sweep.study.arms]
    values = [sweep.values(arm, aim.metric) for arm in range(len(sweep.study.arms))]
    return compare_with_best(values, maximise=aim.maximise)


def summary(sweep: Sweep, result: StudyResult, aim: Aim | None, failures: Sequence[Row]) -> dict[str, Any]:
    """The content of summary.json."""
    scenario = result.study.scenario
    standings = standings_of(sweep, aim)
    arms = [
        {
            "arm": arm,
            "parameters": result.parameters(arm),
            "replications": len(runs),
            **result.intervals(arm, *(runs[0] if runs else ())),
            "saturation": result.saturation(arm) if runs else None,
            **({} if aim is None else _standing(standings[arm], aim)),
        }
        for arm, runs in enumerate(result.metrics)
    ]
    return {
        "scenario": {"name": scenario.name, "description": scenario.description},
        "arms": arms,
        "failures": list(failures),
        "run": {
            "cells": sum(sweep.replications),
            "computed": sweep.computed,
            "from_store": sweep.from_store,
            "requests": result.requests,
            "events": result.events,
            "wall_s": result.wall_s,
            "workers": sweep.engine.workers,
            "seed": scenario.seed,
        },
        "latency": result.latency_sources(),
        "warnings": warnings(sweep, result),
    }


def warnings(sweep: Sweep, result: StudyResult) -> list[str]:
    """What a reader must know before using the numbers."""
    notes = result.warnings()
    if sweep.imprecise:
        arms = _named(sweep.imprecise)
        notes.append(f"not precise enough: arms {arms}: --max-replications came first; raise it, or ask for less")
    if cold := [arm for arm in range(len(result.arms)) if _is_cold(result, arm)]:
        needed = max(result.interval(arm, "mser5_warmup_s").mean or 0.0 for arm in cold)
        notes.append(
            f"warm-up: arms {_named(cold)}: MSER-5 lets the steady part begin after warmup_s; try {needed:.3g} s"
        )
    return notes


def warmups(sweep: Sweep, result: StudyResult) -> dict[str, WarmUp]:
    """The beginnings of the arms that take longest to warm up, by their labels."""
    found: dict[int, WarmUp] = {}
    for arm, count in enumerate(sweep.replications):
        courses = [sweep.cells[arm, number].course for number in range(count) if (arm, number) in sweep.cells]
        lengths = {len(course.e2e_s) for course in courses}
        if len(lengths) == 1:
            at_s, e2e_s = welch(courses)
            if np.isfinite(e2e_s[len(e2e_s) // 2 :]).any():
                found[arm] = WarmUp(at_s, e2e_s, result.interval(arm, "mser5_warmup_s").mean)
    longest = sorted(found, key=lambda arm: -(found[arm].mser5_s or 0.0))[:MOST_DRAWN]
    return {_label(result, arm): found[arm] for arm in sorted(longest)}


def _is_cold(result: StudyResult, arm: int) -> bool:
    """Whether MSER-5 would cut surely later than the scenario does; of a saturated arm nothing is steady."""
    found = result.interval(arm, "mser5_warmup_s")
    late = found.ci_low is not None and found.ci_low > result.arms[arm].scenario.warmup_s
    return late and result.saturation(arm) != "saturated"


def _named(arms: Sequence[int]) -> str:
    """The numbers of arms; of many, the first."""
    more = f" and {len(arms) - MOST_NAMED} more" if len(arms) > MOST_NAMED else ""
    return ", ".join(map(str, arms[:MOST_NAMED])) + more


def _label(result: StudyResult, arm: int) -> str:
    words = ", ".join(f"{name} {value}" for name, value in result.labels(arm).items())
    return f"{arm}: {words}" if words else str(arm)


def _standing(standing: Standing | None, aim: Aim) -> Row:
    """Two columns; what nothing is known about is missing."""
    known = standing is not None and math.isfinite(standing.behind)
    unit = "_ratio" if aim.metric.endswith("_ratio") else "_per_s" if aim.metric.endswith("_per_s") else ""
    unit = unit or ("_s" if aim.metric.endswith("_s") else "")
    return {
        "rank": None if standing is None else standing.verdict,
        f"behind_best_at_most{unit}": standing.behind if standing is not None and known else None,
    }


def _is_known(value: Any) -> bool:
    return value is not None and getattr(value, "mean", value) is not None


def _column(values: Sequence[Any]) -> Any:
    """Values of one type: numbers where all are, else their text; a part of a scenario is JSON."""
    if all(value is None or type(value) is int for value in values):
        return pd.array(values, dtype="Int64")
    if all(value is None or type(value) in (int, float) for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return pd.array(
        [value if value is None or isinstance(value, str) else json.dumps(value) for value in values], dtype="str"
    )
