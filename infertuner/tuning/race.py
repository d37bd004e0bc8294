"""Judging one configuration with no more replications than it takes.

Replications begin with 2 and roughly double up to all that the scenario allows; after each stage the verdict stands if
it is sure. Looking several times gives chance several chances, so each look asks for 1 - 5 % / looks (Bonferroni).
All configurations have the same requests in the same replication, so that two of them are compared pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infertuner.errors import ScenarioError
from infertuner.outcomes.objectives import CONFIDENCE, Judgement, judge, run_headroom
from infertuner.outcomes.slo import Slo
from infertuner.outcomes.statistics import interval
from infertuner.outcomes.window import Metrics
from infertuner.sources.requests import Floats
from infertuner.tuning.evaluator import Evaluator, Failure
from infertuner.tuning.space import Point

FIRST = 2
"""Replications of the first look."""


@dataclass
class Found:
    """What is known of one configuration."""

    point: Point
    judgement: Judgement | None
    """By all its replications so far, or of one that was refuted by the fresh ones; None where it could not be run."""
    error: str = ""
    refuted: bool = False
    """Whether it met everything in the search and not in replications of its own afterwards."""

    @property
    def meets(self) -> bool:
        """Whether it is known to meet every objective."""
        return self.judgement is not None and self.judgement.verdict == "meets" and not self.refuted

    def reason(self) -> str:
        """Why it does not meet them, in words."""
        why = self.error or ("" if self.judgement is None else self.judgement.reason())
        return f"met its objectives in the search, but in fresh replications {why}" if self.refuted else why


class Race:
    """Verdicts on configurations, each with as few replications as it takes."""

    def __init__(self, evaluator: Evaluator, slo: Slo, replications: int) -> None:
        self._evaluator, self._slo = evaluator, slo
        self.most = replications
        self.looks = looks(replications)
        self.confidence = 1 - (1 - CONFIDENCE) / len(self.looks)
        """Of a verdict at one look."""
        self.found: dict[Point, Found] = {}
        """Everything judged so far."""

    def judge(self, point: Point) -> Found:
        """The verdict on a configuration, as soon as it is sure."""
        if point not in self.found:
            for count in self.looks:
                self._look(point, count)
                if self.found[point].error or self._judgement(point).verdict != "undecided":
                    break
        return self.found[point]

    def judge_fully(self, point: Point) -> Found:
        """The verdict with all replications of the search."""
        self._look(point, self.most)
        return self.found[point]

    def confirm(self, point: Point) -> Judgement | None:
        """The verdict of as many fresh replications, which had no say in choosing the configuration."""
        runs = self._runs(point, range(self.most, 2 * self.most))
        return None if runs is None else judge(runs, self._slo, self.confidence)

    def more_headroom(self, first: Point, second: Point) -> bool:
        """Whether the second of two configurations has more headroom, by their common replications.

        Stops at the look that is sure, and otherwise goes by the means of all. Equal ones count as no more.
        """
        for count in self.looks:
            pairs = [self._headrooms(point, count) for point in (first, second)]
            lead = pairs[1] - pairs[0]
            found = interval(lead.tolist(), 2 * self.confidence - 1)
            if found.ci_low is not None and found.ci_high is not None and (found.ci_low > 0 or found.ci_high < 0):
                break
        return float(lead.mean()) > 0

    def ran_alike(self, first: Point, second: Point) -> bool:
        """Whether two configurations of the same cost gave the same numbers in every replication of the search.

        A limit that never binds makes such twins, and fresh replications would not tell them apart either.
        """
        if first.cost_per_hour != second.cost_per_hour:
            return False
        numbers = range(self.most)
        return self._runs(first, numbers) == self._runs(second, numbers)

    def _headrooms(self, point: Point, count: int) -> Floats:
        runs = self._runs(point, range(count)) or []
        # A missing metric is the worst there is; an infinite difference has no interval.
        return np.array([max(run_headroom(run, self._slo), -1e9) for run in runs])

    def _look(self, point: Point, count: int) -> None:
        runs = self._runs(point, range(count))
        if runs is not None:
            judgement = judge(runs, self._slo, self.confidence)
            _refuse_missing(runs, judgement, point.arm.scenario.warmup_s)
            before = self.found.get(point)
            self.found[point] = Found(point, judgement, refuted=before is not None and before.refuted)

    def _runs(self, point: Point, numbers: range) -> list[Metrics] | None:
        try:
            return self._evaluator.runs(point.arm, numbers)
        except Failure as failure:
            self.found[point] = Found(point, None, error=str(failure))
            return None

    def _judgement(self, point: Point) -> Judgement:
        judgement = self.found[point].judgement
        assert judgement is not None
        return judgement


def looks(replications: int) -> list[int]:
    """After how many replications to look.

    >>> looks(10), looks(16), looks(3), looks(1)
    ([2, 5, 10], [2, 4, 8, 16], [3], [1])
    """
    found = [replications]
    while found[0] // 2 >= FIRST:
        found.insert(0, found[0] // 2)
    return found


def _refuse_missing(runs: list[Metrics], judgement: Judgement, warmup_s: float) -> None:
    """A metric that no run of this scenario can have is a slip of the pen, and not a slow configuration."""
    if judgement.saturation == "saturated":
        return
    for margin in judgement.margins:
        if margin.headroom_ratio is None and all(run["finished"] == run["requests"] for run in runs):
            raise ScenarioError(
                f"slo.{margin.metric}: a run of {runs[0]['requests']:,} requests, which takes "
                f"{runs[0]['makespan_s'] or 0:.0f} s, has no such number after a warm-up of {warmup_s:g} s: a p99 "
                "wants 500 requests, a gap between tokens a continuous batcher; raise workload.requests, or change slo"
            )
