"""Replications of configurations: read from the store or computed, counted, and never beyond the budget."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from infertuner.errors import ResultsError, ScenarioError
from infertuner.outcomes.window import Metrics
from infertuner.scenario.model import Scenario
from infertuner.scenario.overrides import with_overrides
from infertuner.scenario.study import Arm
from infertuner.sweeping.cells import CellResult, cell_key, code_digest, read_cell
from infertuner.sweeping.engines import Engine, Job
from infertuner.sweeping.store import Store
from infertuner.tuning.space import Space

DIED = "the process that computed it died; it may need more memory than there is"


class BudgetSpentError(Exception):
    """Time is up; what is known must do."""


class Failure(Exception):  # noqa: N818 - it is an outcome of one configuration, not of the program
    """A configuration that could not be simulated, and why."""


class Evaluator:
    """Metrics of one arm and replication after the other, shared by all that ask."""

    def __init__(self, space: Space, engine: Engine, store: Store, budget_s: float | None = None) -> None:
        self._space, self._engine, self._store = space, engine, store
        self._deadline = None if budget_s is None else time.monotonic() + budget_s
        self._cells: dict[tuple[str, int], CellResult] = {}
        self._errors: dict[str, str] = {}
        self.cells = 0
        """Different cells looked at so far, stored ones included."""
        self.from_store = 0
        self.outside_calls = 0

    def runs(self, arm: Arm, numbers: range) -> list[Metrics]:
        """Metrics of these replications of an arm. Raises Failure where one cannot be simulated."""
        name = _identity(arm)
        self._find(arm, name, [number for number in numbers if (name, number) not in self._cells])
        if name in self._errors:
            raise Failure(self._errors[name])
        return [self._cells[name, number].metrics for number in numbers]

    def known(self, arm: Arm) -> dict[int, Metrics]:
        """Metrics of the replications of an arm that are known already, by their numbers."""
        name = _identity(arm)
        return {number: cell.metrics for (known, number), cell in sorted(self._cells.items()) if known == name}

    def _find(self, arm: Arm, name: str, numbers: Iterable[int]) -> None:
        if name in self._errors:
            return
        bare = _bare(arm.scenario)
        missing: dict[str, int] = {}
        for number in numbers:
            key = cell_key(bare, number)
            kept = self._store.get(key)
            if kept is None:
                missing[key] = number
            else:
                self.from_store += 1
                self._keep(name, number, kept)
        if missing and self._deadline is not None and time.monotonic() > self._deadline:
            raise BudgetSpentError
        raw, folder = self._bare_raw(arm), str(self._space.folder.resolve())
        jobs: list[Job] = [(key, raw, folder, number) for key, number in missing.items()]
        for key, answer in self._engine.compute(jobs):
            code, text, error = (None, None, DIED) if answer is None else answer
            if code is not None and code != code_digest():
                raise ResultsError("the workers run another version of InferTuner; its files changed, so start again")
            if text is None:
                self._errors[name] = error or DIED
                self.cells += 1
                continue
            self._store.put(key, text)
            self._keep(name, missing[key], read_cell(text))

    def _keep(self, name: str, number: int, cell: CellResult) -> None:
        self._cells[name, number] = cell
        self.cells += 1
        self.outside_calls += cell.outside_calls

    def _bare_raw(self, arm: Arm) -> dict[str, Any]:
        """The arm as a scenario file of its own, without what it costs and what it is held against."""
        raw = with_overrides(self._space.base, arm.parameters)
        cluster = {key: value for key, value in raw["cluster"].items() if key != "price_per_gpu_hour"}
        goodput = raw["slo"].get("goodput")
        slo = {} if goodput is None else {"slo": {"goodput": goodput}}
        return {key: value for key, value in raw.items() if key != "slo"} | {"cluster": cluster} | slo


def require_slo(scenario: Scenario) -> None:
    """Raises ScenarioError without objectives, for then everything would do."""
    if scenario.slo is None:
        raise ScenarioError(
            f"{scenario.name}: has no slo, so nothing is asked of a configuration; add for example slo: "
            "{ttft_p99_s: 1s, tpot_p99_s: 50ms}"
        )


def _bare(scenario: Scenario) -> Scenario:
    """What the numbers depend on: prices and limits may change without anything being computed again."""
    assert scenario.slo is not None
    goodput = scenario.slo.goodput
    slo = None if goodput is None else type(scenario.slo)(goodput=goodput)
    return replace(scenario, slo=slo, cluster=replace(scenario.cluster, price_per_gpu_hour=None))


def _identity(arm: Arm) -> str:
    return cell_key(_bare(arm.scenario), 0)
