"""A tuning from a scenario to its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from infertuner.scenario.domains import DomainSpec
from infertuner.scenario.domains import Point as Values
from infertuner.scenario.study import Study, load_study
from infertuner.sweeping.engines import Engine
from infertuner.sweeping.store import Store
from infertuner.tuning.answer import Report
from infertuner.tuning.evaluator import BudgetSpentError, Evaluator, require_slo
from infertuner.tuning.likely import likely_lines
from infertuner.tuning.race import Race
from infertuner.tuning.search import Line, Search
from infertuner.tuning.sensitivity import Effect, Sensitivity
from infertuner.tuning.space import Space


def load(path: Path, settings: dict[str, object]) -> Study:
    """A scenario whose space is not walked through: one configuration of each arm is checked now, the rest when met."""
    return load_study(path, settings, _first_point)


def tune(
    study: Study,
    engine: Engine,
    store: Store,
    *,
    budget_s: float | None = None,
    sensitivity: bool = True,
    progress: Callable[[float], None] = lambda share: None,
) -> Report:
    """Find the cheapest configuration that meets the scenario's objectives.

    budget_s: after so much time no further replication is begun, and what is known is told.
    sensitivity: whether to look around the answer too.
    progress: is told the share of the lines that has been looked along.
    """
    scenario = study.scenario
    require_slo(scenario)
    assert scenario.slo is not None
    space = Space(study)
    evaluator = Evaluator(space, engine, store, budget_s)
    race = Race(evaluator, scenario.slo, scenario.replications)
    lines = list(map(space.line, space.settings())) if space.enumerable else likely_lines(space, race, scenario.seed)
    outcome = Search(race).run(_telling(lines, progress))
    report = Report(space, race, evaluator, scenario.slo, outcome)
    return replace(report, effects=_effects(report)) if sensitivity else report


def _first_point(domains: Mapping[str, DomainSpec]) -> Iterable[Values]:
    return [{key: domain.at(0.0) for key, domain in domains.items()}]


def _effects(report: Report) -> list[Effect]:
    answer, metric = report.outcome.answer, report.binding
    if answer is None or metric is None:
        return []
    around = (report.space, report.evaluator, report.slo)
    try:
        return Sensitivity(*around, answer=answer.point, metric=metric, replications=report.race.most).measure()
    except BudgetSpentError:
        return []


def _telling(lines: Iterable[Line], progress: Callable[[float], None]) -> Iterable[Line]:
    """Lines that tell how far along they are, where their number is known."""
    count = len(lines) if isinstance(lines, list) else None
    for place, line in enumerate(lines):
        yield line
        if count is not None:
            progress((place + 1) / count)
