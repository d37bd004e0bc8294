"""Fitting each candidate form to measured points: non-negative least squares, or a robust fit of log error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.optimize import least_squares, nnls

from infertuner.latency.forms import ROOFLINE, TERMS, Axes, LawKind, Roofline, Shape, Work
from infertuner.sources.requests import Floats

SHARPEST = 12.0
"""p of the p-norm above which a rounded corner cannot be told from a sharp one."""
NODES = 7
"""Nodes of a ratio along each axis."""
SMOOTHING = 0.03
"""How far the ratio may stay away from the points: the weight of its bending against their misfit. Chosen on the RTX
4090 tables, where 0.003 to 0.3 differ by a tenth of the error; noisy measurements want more than tables do."""


@dataclass(frozen=True)
class Data:
    """Measured steps of one kind: what they do, how long they take, how much each counts."""

    kind: LawKind
    work: list[Work]
    seconds: Floats
    weights: Floats
    entry_s: float | None = None
    """Seconds of a KV entry, for points that cannot tell it."""

    def __len__(self) -> int:
        return len(self.work)

    def only(self, chosen: NDArray[np.int_]) -> Data:
        """Some of the points."""
        work = [self.work[i] for i in chosen]
        return replace(self, work=work, seconds=self.seconds[chosen], weights=self.weights[chosen])

    def column(self, amount: str) -> Floats:
        """One amount of the work of every point."""
        return np.array([getattr(work, amount) for work in self.work], dtype=np.float64)

    def terms(self) -> list[Floats]:
        """What the linear coefficients multiply; nothing where it never varies, which the curve already stands for."""
        columns = [self.column(amount) for amount in ("entries", "sequences", "pairs")[: len(TERMS[self.kind])]]
        if self.assumes_entries:
            columns[0] = np.zeros(len(self))
        return [column if np.ptp(column) else np.zeros_like(column) for column in columns]

    @cached_property
    def assumes_entries(self) -> bool:
        """Whether `entry_s` is taken as it is: no cached prefix, so that tokens and sequences say what is read.

        A fit would share out the cost of a token and that of an entry at will, and err wherever there is a prefix.
        """
        if self.entry_s is None:
            return False
        others = np.column_stack([np.ones(len(self)), self.column("tokens"), self.column("sequences")])
        entries = self.column("entries")
        return bool(np.allclose(others @ np.linalg.lstsq(others, entries, rcond=None)[0], entries))

    @property
    def assumed_s(self) -> Floats:
        """Seconds of every point that are not fitted."""
        return self._assumed_entry_s * self.column("entries")

    def whole(self, shape: Shape, fitted: Floats) -> Floats:
        """Fitted coefficients of a curve and its terms, with what was assumed in its place."""
        whole = fitted.copy()
        whole[shape.curve_size] += self._assumed_entry_s
        return whole

    @property
    def _assumed_entry_s(self) -> float:
        return self.entry_s if self.assumes_entries and self.entry_s is not None else 0.0


@dataclass(frozen=True)
class Candidate:
    """A form with the numbers that fit some data best."""

    shape: Shape
    coefficients: Floats

    def predict_s(self, work: Sequence[Work]) -> Floats:
        """Seconds of each work."""
        law = self.shape.law(self.coefficients.tolist())
        return np.array([law(each) for each in work])


class Form(Protocol):
    """Fits one form. A refit to resampled data keeps the shape of the fit it is `like` and starts from its numbers."""

    def __call__(self, data: Data, like: Candidate | None = None) -> Candidate:
        """The form with the numbers that fit best."""
        ...


def piecewise(segments: int) -> Form:
    """Straight lines between knots that are spread over the measured sizes.

    Seconds may fall from one knot to the next, because they do: a CPU's kernels take 4 rows faster than 3.
    """

    def fit(data: Data, like: Candidate | None = None) -> Candidate:
        knots = like.shape.knots if like else spread_knots(data.column("tokens").astype(int).tolist(), segments)
        shape = Shape(data.kind, knots)
        return Candidate(shape, data.whole(shape, _solved(_columns(data, _hats(data, shape)), data)))

    return fit


def hinge(data: Data, like: Candidate | None = None) -> Candidate:
    """Flat up to some number of tokens and straight from there; the bend is the measured size that fits best."""
    tokens = data.column("tokens")
    sizes = sorted({int(size) for size in tokens})
    best, least = None, np.inf
    bends = sizes[1:-1] or sizes[:1] if like is None or like.shape.knots is None else like.shape.knots[1:2]
    for bend in bends:
        columns = _columns(data, [np.ones_like(tokens), np.maximum(tokens - bend, 0.0)])
        found = _solved(columns, data)
        misfit = float(np.sum((data.weights * ((columns @ found + data.assumed_s) / data.seconds - 1)) ** 2))
        if misfit < least:
            corners = tuple(dict.fromkeys((sizes[0], bend, sizes[-1])))
            at_corners = [found[0] + found[1] * max(0, corner - bend) for corner in corners]
            shape = Shape(data.kind, corners)
            best, least = Candidate(shape, data.whole(shape, np.array([*at_corners, *found[2:]]))), misfit
    assert best is not None
    return best


def roofline(data: Data, like: Candidate | None = None) -> Candidate:
    """A roofline with a rounded corner, fitted to log error so that far points do not rule."""
    tokens, terms = data.column("tokens"), data.terms()
    start = _roofline_guess(data) if like is None else like.coefficients[: len(ROOFLINE) + len(terms)]
    guess = np.log(np.maximum(start, np.finfo(float).tiny))
    log_s, assumed_s = np.log(data.seconds), data.assumed_s

    def misfit(logs: Floats) -> Floats:
        fixed_s, weights_s, token_s, sharpness, *linear = np.exp(logs)
        predicted_s = assumed_s + Roofline(fixed_s, weights_s, token_s, sharpness)(tokens)  # type: ignore[arg-type]
        predicted_s = predicted_s + sum(c * term for c, term in zip(linear, terms, strict=True))
        return np.asarray(data.weights * (np.log(predicted_s) - log_s))

    low, high = np.full(len(guess), -np.inf), _roofline_ceilings(data)
    low[3] = 0.0
    guess[3] = np.clip(guess[3], 0.01, high[3] - 0.01)
    guess = np.minimum(guess, high - 0.01)
    scale = float(np.mean(data.weights)) * 0.03
    found = least_squares(misfit, guess, bounds=(low, high), loss="soft_l1", f_scale=scale, ftol=1e-5, max_nfev=100)
    varies = [True] * len(ROOFLINE) + [bool(term.any()) for term in terms]
    shape = Shape(data.kind, None)
    return Candidate(shape, data.whole(shape, np.where(varies, np.exp(found.x), 0.0)))


def _roofline_guess(data: Data) -> Floats:
    """Where to start: the best hinge, its flat part split between what is fixed and what reads the weights."""
    tokens, terms = data.column("tokens"), data.terms()
    start = hinge(data).coefficients
    curve, linear = start[: -len(terms)], start[-len(terms) :]
    least_s = 1e-4 * float(np.min(data.seconds))
    slope_s = max(curve[-1] - curve[0], least_s) / float(np.max(tokens))
    flat_s = max(curve[0], least_s)
    scales = [least_s / max(1.0, float(np.max(term))) for term in terms]
    return np.array([0.3 * flat_s, 0.7 * flat_s, slope_s, 3.0, *np.maximum(linear, scales)])


def _roofline_ceilings(data: Data) -> Floats:
    """Logarithms beyond which a number alone would make the lightest step ten times as long as the longest was."""
    most_s = 10 * float(np.max(data.seconds))
    amounts = [1.0, 1.0, float(np.min(data.column("tokens"))), most_s / SHARPEST]
    amounts += [float(np.min(term, where=term > 0, initial=np.max(term))) or 1.0 for term in data.terms()]
    return np.log(most_s / np.array(amounts))


def with_ratio(base: Form) -> Form:
    """Another form times a smooth ratio of what was measured to what it says."""

    def fit(data: Data, like: Candidate | None = None) -> Candidate:
        plain = base(data, like)
        misfit = np.log(data.seconds / plain.predict_s(data.work))
        axes, nodes = smooth_ratio(data.column("tokens"), _contexts(data), misfit)
        return Candidate(replace(plain.shape, axes=axes), np.concatenate([plain.coefficients, nodes]))

    return fit


def smooth_ratio(across: Floats, along: Floats, misfit: Floats) -> tuple[Axes, Floats]:
    """Nodes of a smooth surface through log ratios over the logarithms of two amounts, and its values there."""
    places = np.log(np.column_stack([across, along]))
    low = places.min(axis=0)
    high = np.maximum(places.max(axis=0), low + 1e-3)
    places, where = np.unique((places - low) / (high - low), axis=0, return_inverse=True)
    values = np.bincount(where.ravel(), weights=misfit) / np.bincount(where.ravel())
    surface = RBFInterpolator(places, values, kernel="linear", smoothing=SMOOTHING, degree=0)
    steps = np.linspace(0.0, 1.0, NODES)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    first, second = (tuple(np.exp(lo + (hi - lo) * steps).tolist()) for lo, hi in zip(low, high, strict=True))
    return (first, second), np.asarray(surface(grid))


def solve(columns: Floats, seconds: Floats, weights: Floats, assumed_s: Floats | float = 0.0) -> Floats:
    """Non-negative coefficients with the least weighted squared relative error, on top of what is assumed."""
    scaled = columns * (weights / seconds)[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    norms[norms == 0] = 1.0
    coefficients, _ = nnls(scaled / norms, weights * (1 - assumed_s / seconds))
    return np.asarray(coefficients / norms)


def spread_knots(tokens: Sequence[int], segments: int) -> tuple[int, ...]:
    """Knots from the smallest to the largest number of tokens, with about as many distinct sizes in each segment."""
    sizes = sorted(set(tokens))
    return tuple(sorted({sizes[round(i * (len(sizes) - 1) / segments)] for i in range(segments + 1)}))


def _hats(data: Data, shape: Shape) -> list[Floats]:
    """A column a knot, whose coefficient is the seconds there."""
    assert shape.knots is not None
    tokens = data.column("tokens")
    return [np.interp(tokens, shape.knots, hat) for hat in np.eye(len(shape.knots))]


def _solved(columns: Floats, data: Data) -> Floats:
    return solve(columns, data.seconds, data.weights, data.assumed_s)


def _columns(data: Data, curve: list[Floats]) -> Floats:
    return np.column_stack([*curve, *data.terms()])


def _contexts(data: Data) -> Floats:
    """Mean KV entries that a token attends to."""
    return np.maximum(1.0, data.column("pairs") / data.column("tokens"))
