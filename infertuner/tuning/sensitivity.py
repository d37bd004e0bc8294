"""What the answer hangs on: every knob one step to either side, every assumption a little off.

Each is compared with the answer on the replications of the same numbers, pair by pair, by the metric of the binding
objective.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from infertuner.errors import InferTunerError
from infertuner.outcomes.objectives import judge
from infertuner.outcomes.slo import Slo
from infertuner.outcomes.statistics import Interval, paired_difference
from infertuner.scenario.overrides import with_overrides
from infertuner.tuning.assumptions import assumptions
from infertuner.tuning.cost import cost_per_hour
from infertuner.tuning.evaluator import BudgetSpentError, Evaluator, Failure
from infertuner.tuning.space import Parameters, Point, Space, label

RUNS = 4
"""Replications of each comparison: enough to see what matters, for differences of pairs are steady."""


@dataclass(frozen=True)
class Effect:
    """What one change does to the answer."""

    kind: str
    """`knob` or `assumption`."""
    name: str
    change: str
    """In words: from what to what."""
    metric: str
    """That of the answer's binding objective."""
    difference: Interval
    """Of the metric, in its unit, changed minus answer; the mean of pairs."""
    relative_ratio: float | None
    """The same as a share of the objective's limit."""
    cost_difference_per_hour: float
    fails: str
    """Why the objectives are surely not met after the change; empty where they may be."""


class Sensitivity:
    """Changes around an answer, measured."""

    def __init__(
        self, space: Space, evaluator: Evaluator, slo: Slo, *, answer: Point, metric: str, replications: int
    ) -> None:
        self._space, self._evaluator, self._slo = space, evaluator, slo
        self._answer, self._metric = answer, metric
        self._numbers = range(min(RUNS, replications))
        self._base = evaluator.runs(answer.arm, self._numbers)
        self._limit = next(bound.limit for bound in slo.bounds() if bound.metric == metric)

    def measure(self) -> list[Effect]:
        """Every change that there was time for, the strongest first."""
        effects: list[Effect] = []
        with suppress(BudgetSpentError):
            for kind, name, change, parameters in [*self._assumptions(), *self._knobs()]:
                effects += self._effect(kind, name, change, parameters)
        return sorted(effects, key=lambda effect: -abs(effect.relative_ratio or 0.0))

    def _effect(self, kind: str, name: str, change: str, parameters: Parameters) -> list[Effect]:
        try:
            arm = self._space.arm(parameters)
            runs = self._evaluator.runs(arm, self._numbers)
        except (Failure, InferTunerError):
            return []  # the neighbour cannot be run; that says nothing about the answer
        difference = paired_difference([run[self._metric] for run in runs], [run[self._metric] for run in self._base])
        judgement = judge(runs, self._slo)
        relative = None if difference.mean is None or not self._limit else difference.mean / self._limit
        cost = cost_per_hour(arm.scenario) - self._answer.cost_per_hour
        fails = judgement.reason() if judgement.verdict == "fails" else ""
        return [Effect(kind, name, change, self._metric, difference, relative, cost, fails)]

    def _assumptions(self) -> list[tuple[str, str, str, Parameters]]:
        raw = with_overrides(self._space.base, self._answer.parameters)
        changes = []
        for found in assumptions(raw, self._answer.arm.scenario):
            for sign, settings in (("+", found.more), ("-", found.less)):
                parameters = self._answer.parameters | settings
                changes.append(("assumption", found.name, f"{sign}{found.by_ratio:.1%}", parameters))
        return changes

    def _knobs(self) -> list[tuple[str, str, str, Parameters]]:
        """The listed values next to the answer's own, of every key; of arms, all others."""
        now = self._answer.parameters
        changes = []
        domains = {key: domain.values() for key, domain in self._space.others.items()}
        if self._space.along:
            domains = {self._space.along: self._space.values, **domains}
        for key, values in domains.items():
            if values is not None:
                place = values.index(now[key])
                for other in (values[i] for i in (place - 1, place + 1) if 0 <= i < len(values)):
                    changes.append(("knob", key, f"{now[key]} to {other}", now | {key: other}))
        swept = {key: now[key] for key in domains}
        for variant in self._space.variants:
            if (other := {**variant, **swept}) != now:
                changes.append(("knob", "arms", f"to {label(variant)}", other))
        return changes
