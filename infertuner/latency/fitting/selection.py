"""Which form to trust: repeated cross-validation, and the simplest form that predicts as well as the best.

L. Breiman et al., Classification and Regression Trees (1984), section 3.4.3, with the standard error of the difference:
all forms are judged on the same points, so what is hard for all of them does not count. A ratio on top of the chosen
form is no question of simplicity, because smoothing shrinks it to what the points ask for: it stays unless it is worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from infertuner.sources.requests import Floats

REPEATS, FOLDS = 3, 5
Places: TypeAlias = NDArray[np.int_]
Judge: TypeAlias = Callable[[Places, Places], Floats]
"""Fits the points at the first places and predicts the seconds of those at the second."""


def choose(
    candidates: Mapping[str, Judge], ratios: Mapping[str, Judge], seconds: Floats, seed: int
) -> tuple[str, dict[str, float]]:
    """The form to use, and the cross-validated mean absolute relative error of every form that was tried.

    candidates: simplest first. ratios: forms times a ratio, by the name of the plain form.
    """
    errors = {name: cross_validate(judge, seconds, seed) for name, judge in candidates.items()}
    scores = {name: float(error.mean()) for name, error in errors.items()}
    plain = simplest(errors)
    if plain not in ratios:
        return plain, scores
    with_ratio = f"{plain}_ratio"
    corrected = cross_validate(ratios[plain], seconds, seed)
    scores[with_ratio] = float(corrected.mean())
    return (with_ratio if _as_good(corrected, errors[plain]) else plain), scores


def simplest(errors: Mapping[str, Floats]) -> str:
    """The first form whose errors are not worse than the best form's by more than their difference's standard error.

    errors: of each form, simplest first, the absolute relative error of every point.
    """
    best = min(errors.values(), key=lambda error: float(error.mean()))
    return next(name for name, error in errors.items() if _as_good(error, best))


def _as_good(errors: Floats, others: Floats) -> bool:
    """Whether the mean is not higher by more than one standard error of the difference."""
    worse = errors - others
    return float(worse.mean()) <= float(worse.std()) / math.sqrt(len(worse))


def cross_validate(judge: Judge, seconds: Floats, seed: int) -> Floats:
    """Absolute relative error of each point when left out, mean of repeated 5-fold splits, shape (points,)."""
    errors = np.zeros((REPEATS, len(seconds)))
    for repeat in range(REPEATS):
        shuffled = np.random.default_rng((seed, repeat)).permutation(len(seconds))
        for fold in range(FOLDS):
            left_out = shuffled[fold::FOLDS]
            predicted_s = judge(np.setdiff1d(shuffled, left_out), left_out)
            errors[repeat, left_out] = np.abs(predicted_s / seconds[left_out] - 1)
    return np.asarray(errors.mean(axis=0))
