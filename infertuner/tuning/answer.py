"""What a search found, as it is written and told: the answer first, then what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infertuner.experiments.result import WITHOUT_HOST_TIME, Row
from infertuner.outcomes.objectives import Judgement
from infertuner.outcomes.slo import Slo
from infertuner.outcomes.statistics import Interval, interval, least_share
from infertuner.tuning.cost import cost_per_million_tokens, is_priced
from infertuner.tuning.evaluator import Evaluator
from infertuner.tuning.race import Found, Race
from infertuner.tuning.search import Outcome
from infertuner.tuning.sensitivity import Effect
from infertuner.tuning.space import Point, Space, label

ALIKE = 0.01
"""Relative difference of throughputs that the front does not see."""


@dataclass(frozen=True)
class Report:
    """Everything that is known when the search is over."""

    space: Space
    race: Race
    evaluator: Evaluator
    slo: Slo
    outcome: Outcome
    effects: Sequence[Effect] = ()

    @property
    def latency_metric(self) -> str:
        """The latency that the front is drawn by: that of the first objective that has one."""
        return next((bound.metric for bound in self.slo.bounds() if bound.at_most), "e2e_mean_s")

    def evaluated(self) -> list[Row]:
        """Every configuration that was judged, the cheapest first."""
        rows = [self._row(found) for found in self._judged()]
        front = _front(rows, self.latency_metric)
        return [row | {"on_front": place in front} for place, row in enumerate(rows)]

    def told(self) -> dict[str, Any]:
        """The content of answer.json, without what the command adds."""
        outcome = self.outcome
        answer = outcome.answer
        return {
            "slo": [{"metric": b.metric, "at_most": b.at_most, "limit": b.limit} for b in self.slo.bounds()],
            "feasible": answer is not None,
            "complete": outcome.complete,
            "cost_unit": self.cost_unit(),
            "answer": None if answer is None else self._answer(answer, outcome.fresh),
            "one_step_cheaper": self._one_step_cheaper(),
            "next_best": None if outcome.next_best is None else self._described(outcome.next_best),
            "why_not": None if answer is not None else self.why_not(),
            "pareto": [row for row in self.evaluated() if row["on_front"]],
            "sensitivity": [vars(effect) for effect in self.effects],
        }

    def cost_unit(self) -> str:
        """What a cost of 1 is."""
        judged = self._judged()
        return "price" if judged and is_priced(judged[0].point.arm.scenario) else "GPUs"

    def why_not(self) -> Row | None:
        """Of a search that found nothing: how the dearest configuration misses, and which comes closest."""
        judged = self._judged()
        if not judged:
            return None
        dearest = max(judged, key=lambda found: found.point.cost_per_hour)
        closest = max(judged, key=_closeness)
        return {"dearest": self._described(dearest), "closest": self._described(closest)}

    def warnings(self) -> list[str]:
        """What a reader must know before buying."""
        notes = []
        judged = self._judged()
        sources = {found.point.arm.scenario.latency.source() for found in judged}
        if any(source.startswith("public") for source in sources):
            notes.append(WITHOUT_HOST_TIME)
        for source in sorted(sources):
            if source.startswith("extrapolated"):
                notes.append(f"latency is {source}; nobody measured this hardware with this model")
        if self.evaluator.outside_calls:
            notes.append(f"{self.evaluator.outside_calls:,} latencies were asked for outside the measured range")
        answer = self.outcome.answer
        if answer is not None:
            judgement = self.outcome.fresh or answer.judgement
            if judgement is not None and judgement.saturation == "undecided":
                notes.append("stability of the answer is undecided: its queue may still grow; send more requests")
            if not self.outcome.fresh:
                notes.append("the answer is not confirmed on fresh replications: the budget came first")
        if not self.outcome.complete:
            notes.append("the budget was spent before the search was over: something cheaper may do; raise --budget-s")
        notes += self._not_monotone()
        if errors := [found for found in judged if found.error]:
            first = f"{label(errors[0].point.parameters)}: {errors[0].error}"
            notes.append(f"{len(errors)} configurations could not be simulated, such as {first}")
        return notes

    def _not_monotone(self) -> list[str]:
        """Neighbours on a line of which the cheaper meets the objectives and the dearer surely does not."""
        by_place = {(found.point.line, found.point.index): found for found in self._judged()}
        return [
            f"more is not always better: {label(found.point.parameters)} meets the objectives, and not "
            f"{label(dearer.point.parameters)}; look at all of them with python -m infertuner.sweep"
            for (line, index), found in by_place.items()
            if found.meets
            and (dearer := by_place.get((line, index + 1))) is not None
            and (dearer.error or (dearer.judgement is not None and dearer.judgement.verdict == "fails"))
        ]

    def _judged(self) -> list[Found]:
        return sorted(self.race.found.values(), key=lambda found: (found.point.cost_per_hour, found.point.line))

    @property
    def binding(self) -> str | None:
        """The metric that keeps the answer from being cheaper: that of the objective which its cheaper neighbour does
        not meet, or where there is none, of the answer's own with the least headroom."""
        cheaper, answer = self._cheaper_neighbour(), self.outcome.answer
        judged = (cheaper and cheaper.judgement) or self.outcome.fresh or (answer and answer.judgement)
        return judged.binding.metric if judged else None

    def _one_step_cheaper(self) -> Row | None:
        cheaper = self._cheaper_neighbour()
        return None if cheaper is None else self._described(cheaper)

    def _cheaper_neighbour(self) -> Found | None:
        answer = self.outcome.answer
        if answer is None:
            return None
        place = (answer.point.line, answer.point.index - 1)
        found = (found for found in self.race.found.values() if (found.point.line, found.point.index) == place)
        return next(found, None)

    def _answer(self, found: Found, fresh: Judgement | None) -> Row:
        judgement = fresh or found.judgement
        assert judgement is not None
        return {
            **self._described(found),
            "confirmed": fresh is not None,
            "objectives": [vars(margin) for margin in judgement.margins],
            "saturation": judgement.saturation,
            "binding": self.binding,
            "has_cheaper_neighbour": self._cheaper_neighbour() is not None,
            "runs_met": judgement.runs_met,
            "runs": judgement.runs,
            "runs_met_at_least_ratio": least_share(judgement.runs_met, judgement.runs),
        }

    def _described(self, found: Found) -> Row:
        """A configuration, what it costs and how it does in the search."""
        tokens_per_s = self._mean(found.point, "output_tokens_per_s").mean
        cost = found.point.cost_per_hour
        per_million = cost_per_million_tokens(cost, tokens_per_s) if self.cost_unit() == "price" else None
        return {
            "parameters": found.point.parameters,
            "cost_per_hour": cost,
            "cost_per_million_output_tokens": per_million,
            "verdict": "meets" if found.meets else "fails" if found.judgement is None else _verdict(found),
            "reason": "" if found.meets else found.reason(),
            **{bound.metric: self._mean(found.point, bound.metric) for bound in self.slo.bounds()},
        }

    def _row(self, found: Found) -> Row:
        judgement, point = found.judgement, found.point
        answer = self.outcome.answer
        names = dict.fromkeys([*(bound.metric for bound in self.slo.bounds()), self.latency_metric, "throughput_per_s"])
        return {
            **point.parameters,
            "cost_per_hour": point.cost_per_hour,
            "verdict": "meets" if found.meets else "fails" if judgement is None else _verdict(found),
            "answer": answer is not None and point == answer.point,
            "replications": len(self.evaluator.known(point.arm)),
            "saturation": None if judgement is None else judgement.saturation,
            "headroom_ratio": None if judgement is None else judgement.binding.headroom_ratio,
            "reason": "" if found.meets else found.reason(),
            **{name: self._mean(point, name) for name in names},
        }

    def _mean(self, point: Point, name: str) -> Interval:
        return interval([run[name] for run in self.evaluator.known(point.arm).values()])


def _verdict(found: Found) -> str:
    return "refuted" if found.refuted else "" if found.judgement is None else found.judgement.verdict


def _closeness(found: Found) -> float:
    """Headroom, with the saturated after all others."""
    if found.judgement is None:
        return float("-inf")
    return found.judgement.binding.least - (1e9 if found.judgement.saturation == "saturated" else 0.0)


def _front(rows: Sequence[Row], latency: str) -> set[int]:
    """Which rows nothing beats in cost, latency and throughput at once; saturated ones do not count."""
    places = {
        place: (row["cost_per_hour"], row[latency].mean, row["throughput_per_s"].mean)
        for place, row in enumerate(rows)
        if row["saturation"] != "saturated" and None not in (row[latency].mean, row["throughput_per_s"].mean)
    }
    return {place for place, point in places.items() if not any(_beats(other, point) for other in places.values())}


def _beats(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Whether one (cost, latency, throughput) is as good as another in all and better in something."""
    if one[0] > other[0] or one[1] > other[1] or one[2] < other[2] * (1 - ALIKE):
        return False
    return one[0] < other[0] or one[1] < other[1] or one[2] > other[2] * (1 + ALIKE)
