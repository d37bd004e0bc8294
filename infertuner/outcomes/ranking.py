"""Which of many arms is best, and which cannot be told apart from it: multiple comparisons with the best.

Arms share their random numbers, so two arms are compared by the differences of their replications. Every arm is
compared with every other, one-sided and each at 1 - 5 % / (k - 1) for k arms (Bonferroni), which makes three statements
hold together with 95 % confidence, whatever the arms' variances and correlations:

- the best arm is not among those called worse (screening as in Nelson, Swann, Goldsman and Song, Simple procedures for
  selecting the best simulated system when the number of alternatives is large, Operations Research 49(6), 2001);
- an arm called best is the best;
- no arm is further behind the best of the others than its `behind` says (Hsu, Multiple Comparisons, 1996, chapter 4).

All comparisons that could go wrong are those of the true best arm, which are k - 1; this is why no more are paid for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from infertuner.outcomes.statistics import Values, student_quantile
from infertuner.outcomes.window import Mask
from infertuner.sources.requests import Floats

Verdict: TypeAlias = Literal["best", "not told apart", "worse"]


@dataclass(frozen=True)
class Standing:
    """How an arm compares with the best of the others, in the unit of the metric."""

    verdict: Verdict
    """`best`: with confidence. `not told apart`: it may be the best. `worse`: another is better, with confidence."""
    behind: float
    """It is at most so much worse than the best of the others, 0 for an arm that is best; infinite where fewer than two
    common replications say nothing."""


def compare_with_best(arms: Sequence[Values], *, maximise: bool, confidence: float = 0.95) -> list[Standing | None]:
    """Where each arm stands, by one metric; None for an arm without any value.

    arms: one value a replication each, all of the same length; a pair of arms is compared where both have a value.
    maximise: whether more is better.
    """
    sign = 1.0 if maximise else -1.0
    values = sign * np.array([list(arm) for arm in arms], dtype=np.float64).reshape(len(arms), -1)
    there = np.flatnonzero(~np.isnan(values).all(axis=1))
    values = values[there]
    probability = 1 - (1 - confidence) / max(len(there) - 1, 1)
    lead, margin = _leads(values, probability)
    others = ~np.eye(len(there), dtype=bool)
    surely_behind: Mask = np.any((lead + margin < 0) & others, axis=1)
    candidates = ~surely_behind
    behind = np.where(others & candidates[np.newaxis, :], margin - lead, -math.inf).max(axis=1, initial=0.0)
    standings: list[Standing | None] = [None] * len(arms)
    for place, arm in enumerate(there.tolist()):
        alone = candidates[place] and candidates.sum() == 1
        verdict: Verdict = "worse" if surely_behind[place] else "best" if alone else "not told apart"
        standings[arm] = Standing(verdict, float(behind[place]))
    return standings


def _leads(values: Floats, probability: float) -> tuple[Floats, Floats]:
    """By how much each arm leads each other in the mean of their pairs, and the margin of that; shape (k, k) each."""
    count = len(values)
    lead, margin = np.zeros((count, count)), np.full((count, count), math.inf)
    quantile = {n: student_quantile(probability, n - 1) for n in range(2, values.shape[1] + 1)}
    for arm in range(count):
        differences = values[arm] - values
        known = ~np.isnan(differences)
        n = known.sum(axis=1)
        mean = np.where(known, differences, 0.0).sum(axis=1) / np.maximum(n, 1)
        squares = np.where(known, (differences - mean[:, np.newaxis]) ** 2, 0.0).sum(axis=1)
        enough = n >= 2
        lead[arm] = mean
        t = np.array([quantile[pairs] for pairs in n[enough].tolist()])
        margin[arm, enough] = t * np.sqrt(squares[enough] / (n[enough] - 1) / n[enough])
    return lead, margin
