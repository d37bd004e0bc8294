"""From visits to laws: remove drift, choose a form by cross-validation, fit it, say how sure it is. The door to scipy.

Speed drifts for everybody at once (clocks, neighbours), so visits are first polished as Tukey's median polish does: the
log of a visit is the effect of its point plus a smooth function of time. Laws are then fitted by non-negative least
squares on relative error. J. W. Tukey, Exploratory Data Analysis (1977), chapter 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.optimize import nnls
from scipy.stats import t as student_t

from infertuner.latency.points import Kind, Point
from infertuner.latency.profile import Estimate, Knot
from infertuner.latency.samples import Visit

Floats = NDArray[np.float64]

FORMS = {"affine": 1, "piecewise_4": 4, "piecewise_8": 8, "piecewise_16": 16}
"""Candidate forms of the cost of computing tokens, simplest first, with their number of straight segments."""
TERMS = {
    "decode": {"kv_entry_s": "kv_entries"},
    "prefill": {"kv_entry_s": "kv_entries", "sequence_s": "batch_size", "attended_pair_s": "attended_pairs"},
}
"""Coefficients after the knots, and the property of a point that each multiplies."""
DRIFT_WINDOW = 15
"""Visits over which speed is taken to be constant."""
MISFIT = 0.02
"""Relative error no form gets below; keeps one lucky interval from outweighing the other points."""
MIN_VISITS = 3
"""Visits a point needs before its interval means anything."""
RESAMPLES, REPEATS = 200, 3
"""Bootstrap resamples of the visits, and repetitions of the 5-fold cross-validation."""


@dataclass(frozen=True)
class Polished:
    """Visits with the common drift removed, gathered by point."""

    points: list[Point]
    log_s: list[Floats]
    """For each point the log seconds of its visits."""
    drift: Floats
    """Log of the common change of speed at each visit, in the order of time, shape (visits,)."""

    def medians_s(self) -> Floats:
        """Seconds of each point, shape (points,)."""
        return np.exp([np.median(visits) for visits in self.log_s])

    def half_widths(self) -> Floats:
        """Relative half-width of each point's 95 % t-interval over its visits; infinite below 3 visits."""
        return np.array([_half_width(visits) for visits in self.log_s])


@dataclass(frozen=True)
class Basis:
    """The columns of a law: a hat a knot, whose coefficient is the seconds there, then the linear terms.

    Seconds may fall from one knot to the next, because they do: a CPU's kernels take 4 rows faster than 3.
    """

    kind: Kind
    knots: list[int]

    def columns(self, points: Sequence[Point]) -> Floats:
        """What each coefficient multiplies, shape (points, coefficients)."""
        tokens = [point.batch_tokens for point in points]
        hats = [np.interp(tokens, self.knots, hat) for hat in np.eye(len(self.knots))]
        terms = [[getattr(point, amount) for point in points] for amount in TERMS[self.kind].values()]
        return np.column_stack([*hats, *(np.array(term, dtype=np.float64) for term in terms)])


def polish(visits: Sequence[Visit]) -> Polished:
    """Split each visit's log seconds into its point's effect and a drift all points share."""
    ordered = sorted(visits, key=lambda visit: visit.at_s)
    points = list(dict.fromkeys(visit.point for visit in ordered))
    places = {point: place for place, point in enumerate(points)}
    place = np.array([places[visit.point] for visit in ordered])
    log_s = np.log([visit.median_s for visit in ordered])
    drift = np.zeros_like(log_s)
    members = [np.flatnonzero(place == i) for i in range(len(points))]
    for _ in range(6):
        effect = np.array([np.median((log_s - drift)[visited]) for visited in members])
        drift = median_filter(log_s - effect[place], size=DRIFT_WINDOW, mode="nearest")
        drift -= np.median(drift)
    return Polished(points, [(log_s - drift)[visited] for visited in members], drift)


@dataclass(frozen=True)
class Fitted:
    """A law with its uncertainty."""

    points: list[Point]
    form: str
    scores: dict[str, float]
    """Cross-validated mean absolute relative error of every form."""
    basis: Basis
    coefficients: Floats
    resampled: Floats
    """Coefficients refitted to resampled visits, shape (resamples, coefficients)."""

    def predict_s(self, points: Sequence[Point]) -> Floats:
        """Seconds of each point."""
        return self.basis.columns(points) @ self.coefficients

    def estimate(self, name: str) -> Estimate:
        """One of the coefficients after the knots."""
        column = len(self.basis.knots) + list(TERMS[self.basis.kind]).index(name)
        return _estimate(self.coefficients[column], self.resampled[:, column])

    def knot_estimates(self) -> list[Knot]:
        """The corners of the piecewise-linear part."""
        return [
            Knot(tokens=tokens, step_s=_estimate(self.coefficients[i], self.resampled[:, i]))
            for i, tokens in enumerate(self.basis.knots)
        ]


def fit(polished: Polished, kind: Kind, *, seed: int) -> Fitted:
    """Choose a form for the points that are not held out, fit it to their medians, and again to resampled visits."""
    chosen = [i for i, point in enumerate(polished.points) if (point.kind, point.role) == (kind, "fit")]
    points = [polished.points[i] for i in chosen]
    log_s = [polished.log_s[i] for i in chosen]
    seconds = np.exp([np.median(visits) for visits in log_s])
    weights = 1 / np.hypot(polished.half_widths()[chosen], MISFIT)
    bases = {form: Basis(kind, spread_knots(points, segments)) for form, segments in FORMS.items()}
    form, scores = choose_form({form: basis.columns(points) for form, basis in bases.items()}, seconds, weights, seed)
    columns = bases[form].columns(points)
    rng = np.random.default_rng(seed)
    resampled = [
        solve(columns, np.exp([np.median(rng.choice(visits, len(visits))) for visits in log_s]), weights)
        for _ in range(RESAMPLES)
    ]
    return Fitted(points, form, scores, bases[form], solve(columns, seconds, weights), np.array(resampled))


def choose_form(
    candidates: dict[str, Floats], seconds: Floats, weights: Floats, seed: int
) -> tuple[str, dict[str, float]]:
    """The simplest form whose cross-validated error is within one standard error of the best, and all the errors.

    candidates: columns of each form, simplest first. L. Breiman et al., Classification and Regression Trees (1984),
    section 3.4.3.
    """
    errors = {form: cross_validate(columns, seconds, weights, seed) for form, columns in candidates.items()}
    scores = {form: float(np.mean(error)) for form, error in errors.items()}
    best = min(scores, key=scores.__getitem__)
    bound = scores[best] + float(np.std(errors[best])) / math.sqrt(len(seconds))
    return next(form for form, score in scores.items() if score <= bound), scores


def solve(columns: Floats, seconds: Floats, weights: Floats) -> Floats:
    """Non-negative coefficients with the least weighted squared relative error."""
    scaled = columns * (weights / seconds)[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    norms[norms == 0] = 1.0
    coefficients, _ = nnls(scaled / norms, weights)
    return np.asarray(coefficients / norms)


def cross_validate(columns: Floats, seconds: Floats, weights: Floats, seed: int) -> Floats:
    """Absolute relative error of each point when left out, mean of repeated 5-fold splits, shape (points,)."""
    errors = np.zeros((REPEATS, len(seconds)))
    for repeat in range(REPEATS):
        shuffled = np.random.default_rng((seed, repeat)).permutation(len(seconds))
        for fold in range(5):
            left_out = shuffled[fold::5]
            kept = np.setdiff1d(shuffled, left_out)
            coefficients = solve(columns[kept], seconds[kept], weights[kept])
            errors[repeat, left_out] = np.abs(columns[left_out] @ coefficients / seconds[left_out] - 1)
    return np.asarray(errors.mean(axis=0))


def spread_knots(points: Sequence[Point], segments: int) -> list[int]:
    """Knots from the smallest to the largest number of tokens, with about as many distinct sizes in each segment."""
    sizes = sorted({point.batch_tokens for point in points})
    return sorted({sizes[round(i * (len(sizes) - 1) / segments)] for i in range(segments + 1)})


def _estimate(value: float, resampled: Floats) -> Estimate:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Estimate(value=float(value), low=float(min(low, value)), high=float(max(high, value)))


def _half_width(log_s: Floats) -> float:
    visits = len(log_s)
    if visits < MIN_VISITS:
        return math.inf
    return float(student_t.ppf(0.975, visits - 1) * log_s.std(ddof=1) / math.sqrt(visits))
