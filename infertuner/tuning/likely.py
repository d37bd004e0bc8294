"""Lines of a space too large to walk through, the likely ones first: Optuna's TPE learns which choices go well.

Every suggestion is a line; its value is the cost of the cheapest configuration on it that meets the objectives. Where
none does within the cost of the best so far, the constraint says by how much the dearest that was tried misses.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from infertuner.errors import ResultsError
from infertuner.scenario.domains import DomainSpec
from infertuner.tuning.race import Race
from infertuner.tuning.space import Parameters, Point, Space

LINES_MOST = 100
"""Different lines that are looked at."""
IN_VAIN = 300
"""Suggestions after which the search ends for good: most were looked at before."""


def likely_lines(space: Space, race: Race, seed: int) -> Iterator[list[Point]]:
    """Lines one after the other; after each, what the race has found along it is learnt from.

    Raises ResultsError where Optuna is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise ResultsError(
            "the space is too large to walk through and needs Optuna; pip install 'infertuner[tune]', or list fewer "
            "values in sweep"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    most = min(LINES_MOST, space.lines_in_all or LINES_MOST)
    seen: set[int] = set()
    for _ in range(IN_VAIN):
        trial = study.ask()
        line = space.line(_suggested(space, trial))
        if line[0].line not in seen:
            seen.add(line[0].line)
            yield line
        value, missed = _learnt(line, race)
        trial.set_constraint("missed", missed)
        study.tell(trial, value)
        if len(seen) >= most:
            break


def _suggested(space: Space, trial: Any) -> Parameters:
    setting = dict(space.variants[trial.suggest_categorical("arms", list(range(len(space.variants))))])
    for key, domain in space.others.items():
        setting[key] = _suggested_value(key, domain, trial)
    return setting


def _suggested_value(key: str, domain: DomainSpec, trial: Any) -> Any:
    """A listed value by its place, since Optuna takes no mappings; ordered numbers keep their order."""
    listed = domain.values()
    if listed is None:
        return domain.at(trial.suggest_float(key, 0.0, 1.0 - 1e-9))
    if all(isinstance(value, int | float) for value in listed):
        return listed[trial.suggest_int(key, 0, len(listed) - 1)]
    return listed[trial.suggest_categorical(key, list(range(len(listed))))]


def _learnt(line: list[Point], race: Race) -> tuple[float, float]:
    """Cost of the cheapest that meets the objectives, and by how much the line misses them, 0 where it does not."""
    judged = [race.found[point] for point in line if point in race.found]
    meeting = [found.point.cost_per_hour for found in judged if found.meets]
    if meeting:
        return min(meeting), 0.0
    headrooms = [
        found.judgement.binding.headroom_ratio
        for found in judged
        if found.judgement is not None and found.judgement.binding.headroom_ratio is not None
    ]
    return line[-1].cost_per_hour, max(1e-6, -max(headrooms, default=-1e6))
