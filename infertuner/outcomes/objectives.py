"""Does an arm meet its objectives, and how sure is that after so many replications?

For each bound the question is whether the mean of its metric over all possible replications lies inside. With n
replications of mean m and deviation s, t = (limit - m) √n / s has a Student law of n - 1 degrees around the truth, so
P(t) is the confidence that the mean is inside: the one-sided level at which the interval would just touch the limit.

`meets` wants that for every bound (all must pass at the same level, so no correction is due: Berger, Multiparameter
hypothesis testing and acceptance sampling, Technometrics 24(4), 1982); `fails` wants the opposite of any, divided by
the number of bounds. A saturated arm fails whatever its latencies say, and so does one that leaves requests unanswered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from infertuner.outcomes.saturation import saturation
from infertuner.outcomes.slo import Bound, Slo
from infertuner.outcomes.statistics import Interval, interval, student_probability
from infertuner.outcomes.window import Metrics

Verdict: TypeAlias = Literal["meets", "fails", "undecided"]

CONFIDENCE = 0.95
"""One-sided, of every statement on one arm."""
MOST_UNANSWERED = 0.01
"""Share of requests that may be rejected or fail. Latencies are those of answered requests, so an arm that turns long
prompts away would otherwise look fast."""


@dataclass(frozen=True)
class Margin:
    """One bound and where the metric lies."""

    metric: str
    at_most: bool
    limit: float
    value: Interval
    confidence: float | None
    """That the mean over all possible replications is inside; None of one replication."""
    headroom_ratio: float | None
    """How far inside the bound the mean lies, as a share of the limit; below 0 outside; None where a run lacks it."""

    @property
    def least(self) -> float:
        """The headroom for comparisons: what could not be measured has none at all."""
        return -math.inf if self.headroom_ratio is None else self.headroom_ratio


@dataclass(frozen=True)
class Judgement:
    """What replications say of one arm."""

    verdict: Verdict
    margins: list[Margin]
    saturation: str | None
    unanswered_ratio: float
    runs_met: int
    """Replications in which every bound was kept."""
    runs: int

    @property
    def binding(self) -> Margin:
        """The bound with the least headroom; one that a run could not even measure comes first."""
        return min(self.margins, key=lambda margin: margin.least)

    def reason(self) -> str:
        """Why it does not meet its objectives, in words."""
        if self.saturation == "saturated":
            return "saturated: arrivals outpace service"
        if self.unanswered_ratio > MOST_UNANSWERED:
            return f"{self.unanswered_ratio:.1%} of requests have no answer, rejected or failed"
        margin = self.binding
        if margin.headroom_ratio is None:
            return f"{margin.metric} has no value in some run: too few requests for it, or a batcher that knows none"
        side = "above" if margin.at_most else "below"
        if margin.headroom_ratio < 0:
            return f"{margin.metric} is {-margin.headroom_ratio:.1%} {side} its limit"
        return f"{margin.metric} is inside its limit by {margin.headroom_ratio:.1%}, too little to be sure"


def judge(runs: Sequence[Metrics], slo: Slo, confidence: float = CONFIDENCE) -> Judgement:
    """Judge one arm by the metrics of its replications."""
    margins = [_margin(bound, runs) for bound in slo.bounds()]
    state = saturation(runs)
    unanswered = float(np.mean([unanswered_ratio(run) for run in runs]))
    met = sum(keeps(run, slo) for run in runs)
    verdict = _verdict(margins, confidence)
    if state == "saturated" or unanswered > MOST_UNANSWERED:
        verdict = "fails"
    return Judgement(verdict, margins, state, unanswered, met, len(runs))


def keeps(run: Metrics, slo: Slo) -> bool:
    """Whether one run kept every bound and answered its requests."""
    return run_headroom(run, slo) >= 0 and unanswered_ratio(run) <= MOST_UNANSWERED


def run_headroom(run: Metrics, slo: Slo) -> float:
    """The least headroom of any bound in one run; minus infinity where a metric is missing."""
    values = [(bound, run[bound.metric]) for bound in slo.bounds()]
    return min(-math.inf if value is None else bound.headroom(value) for bound, value in values)


def unanswered_ratio(run: Metrics) -> float:
    """Requests that were rejected or failed, per request."""
    return sum(run[status] or 0 for status in ("rejected_length", "rejected_kv", "failed")) / (run["requests"] or 1)


def _margin(bound: Bound, runs: Sequence[Metrics]) -> Margin:
    values = [run[bound.metric] for run in runs]
    known = [value for value in values if value is not None]
    found = interval(values)
    whole = len(known) == len(runs)
    headroom = bound.headroom(found.mean) if whole and found.mean is not None else None
    confidence = _confidence(bound, known) if whole else 0.0
    return Margin(bound.metric, bound.at_most, bound.limit, found, confidence, headroom)


def _confidence(bound: Bound, values: Sequence[float]) -> float | None:
    n = len(values)
    if n < 2:
        return None
    inside = (bound.limit - float(np.mean(values))) * (1 if bound.at_most else -1)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(bound.limit):
        return float(inside >= 0)
    return student_probability(inside / error, n - 1)


def _verdict(margins: Sequence[Margin], confidence: float) -> Verdict:
    chances = [margin.confidence for margin in margins]
    if all(chance is not None and chance >= confidence for chance in chances):
        return "meets"
    if any(chance is not None and chance <= (1 - confidence) / len(chances) for chance in chances):
        return "fails"
    return "undecided"
