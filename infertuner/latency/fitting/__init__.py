"""From measured points to the laws of a profile: choose a form, fit it, say how sure it is and how far it is off.

`fit_visits` takes a calibration of one's own; `fit_laws` takes any measured points, one number each, as publications
have them. This package and `measuring.polish` are the doors to scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from infertuner.errors import CalibrationError
from infertuner.latency.fitting import sections
from infertuner.latency.fitting.forms import Data, Form, hinge, piecewise, roofline, with_ratio
from infertuner.latency.fitting.mixed import FORMS as MIXED_FORMS
from infertuner.latency.fitting.mixed import MixedData
from infertuner.latency.fitting.noise import noise_of
from infertuner.latency.fitting.selection import Judge, choose
from infertuner.latency.forms import Law, LawKind, work_of
from infertuner.latency.law_sections import DecodeLaw, Errors, MixedLaw, Noise, PrefillLaw
from infertuner.latency.measuring.polish import Polished
from infertuner.latency.measuring.samples import Visit
from infertuner.latency.points import Kind, Point
from infertuner.sources.requests import Floats

FORMS: dict[str, Form] = {
    "affine": piecewise(1),
    "hinge": hinge,
    "roofline": roofline,
    "piecewise_4": piecewise(4),
    "piecewise_8": piecewise(8),
    "piecewise_16": piecewise(16),
}
"""Candidate forms of prefill and decode, simplest first; beyond the first, those with two points a coefficient."""
RATIOS: dict[str, Form] = {name: with_ratio(FORMS[name]) for name in ("affine", "hinge", "roofline")}
"""The smooth ones times a ratio; the others bend enough by themselves."""
MISFIT = 0.02
"""Relative error no form gets below; keeps one lucky interval from outweighing the other points."""
RESAMPLES = 200
"""Refits to resampled measurements, for intervals and draws."""
FEWEST_POINTS = 6
"""Points below which no law is fitted."""


class Laws(NamedTuple):
    """Everything that was fitted."""

    prefill: PrefillLaw
    decode: DecodeLaw
    mixed: MixedLaw | None
    """None where no mixed iteration was measured."""


@dataclass(frozen=True)
class Measured:
    """Points with their seconds, and how the seconds might have come out as well."""

    points: list[Point]
    seconds: Floats
    weights: Floats
    log_s: list[Floats] | None
    """Log seconds of every visit to each point; None where each was measured once."""
    noise: Callable[[Kind], Noise | None]

    def places(self, kind: Kind, role: str) -> list[int]:
        """Where the points of a kind and role are."""
        return [i for i, point in enumerate(self.points) if (point.kind, point.role) == (kind, role)]

    def resampled(self, chosen: Sequence[int], fitted_s: Floats, rng: np.random.Generator) -> Floats:
        """Seconds as another calibration might have found them: visits resampled, or residuals where there are none."""
        if self.log_s is not None:
            return np.exp([np.median(rng.choice(self.log_s[i], len(self.log_s[i]))) for i in chosen])
        residuals = np.log(self.seconds[chosen] / fitted_s)
        return np.asarray(fitted_s * np.exp(rng.choice(residuals - residuals.mean(), len(chosen))))


def fit_visits(visits: Sequence[Visit], polished: Polished, *, seed: int) -> Laws:
    """The laws of a calibration."""
    weights = 1 / np.hypot(polished.half_widths(), MISFIT)
    measured = Measured(
        polished.points,
        polished.medians_s(),
        weights,
        polished.log_s,
        lambda kind: noise_of(visits, polished, kind),
    )
    return _fit(measured, seed)


def fit_laws(
    points: Sequence[Point], seconds: Sequence[float], intervals: Sequence[float] | None = None, *, seed: int = 0
) -> Laws:
    """The laws of points that were measured once each, or are known by their mean.

    Points with the role `holdout` are only predicted; there must be some of each kind.
    intervals: relative half-width of each point's 95 % interval, where known.
    """
    widths = np.zeros(len(points)) if intervals is None else np.asarray(intervals, dtype=np.float64)
    weights = 1 / np.hypot(widths, MISFIT)
    measured = Measured(list(points), np.asarray(seconds, dtype=np.float64), weights, None, lambda kind: None)
    return _fit(measured, seed)


def _fit(measured: Measured, seed: int) -> Laws:
    decode_law, decode = _fit_pure(measured, "decode", seed)
    prefill_law, prefill = _fit_pure(measured, "prefill", seed, entry_s=decode.entry_s)
    assert isinstance(prefill_law, PrefillLaw)
    mixed = _fit_mixed(measured, prefill, decode, seed) if measured.places("mixed", "fit") else None
    return Laws(prefill_law, decode_law, mixed)


def _fit_pure(measured: Measured, kind: LawKind, seed: int, *, entry_s: float | None = None) -> tuple[DecodeLaw, Law]:
    """The section of a law and the law; `entry_s` is what a KV entry costs if these points cannot tell."""
    fit_at, held_at = _roles(measured, kind)
    work = [work_of(point) for point in measured.points]
    data = Data(kind, [work[i] for i in fit_at], measured.seconds[fit_at], measured.weights[fit_at], entry_s)

    def judge(form: Form) -> Judge:
        return lambda kept, left_out: form(data.only(kept)).predict_s([data.work[i] for i in left_out])

    allowed = ["affine", *(name for name in FORMS if 2 * len(FORMS[name](data).coefficients) <= len(data))]
    candidates = {name: judge(FORMS[name]) for name in dict.fromkeys(allowed)}
    ratios = {name: judge(form) for name, form in RATIOS.items()}
    name, scores = choose(candidates, ratios, data.seconds, seed)
    form = RATIOS[name.removesuffix("_ratio")] if name.endswith("_ratio") else FORMS[name]
    best = form(data)
    fitted_s = best.predict_s(data.work)
    rng = np.random.default_rng(seed)

    def refit() -> Floats:
        seconds = measured.resampled(fit_at, fitted_s, rng)
        return form(replace(data, seconds=seconds), best).coefficients

    rest = {"assumed": ("kv_entry_s",)} if data.assumes_entries else {}
    return (
        sections.pure_law(
            best,
            np.array([refit() for _ in range(RESAMPLES)]),
            [measured.points[i] for i in fit_at],
            form=name,
            cross_validation=scores,
            holdout=_errors(best.predict_s([work[i] for i in held_at]), measured.seconds[held_at]),
            noise=measured.noise(kind),
            **rest,
        ),
        best.shape.law(best.coefficients.tolist()),
    )


def _fit_mixed(measured: Measured, prefill: Law, decode: Law, seed: int) -> MixedLaw:
    fit_at, held_at = _roles(measured, "mixed")

    def data_of(chosen: list[int], seconds: Floats) -> MixedData:
        points = [measured.points[i] for i in chosen]
        return MixedData(points, seconds, measured.weights[chosen], prefill, decode)

    data = data_of(fit_at, measured.seconds[fit_at])
    every = np.arange(len(fit_at))
    ratios = {name: data.judge(f"{name}_ratio") for name in MIXED_FORMS}
    name, scores = choose({name: data.judge(name) for name in MIXED_FORMS}, ratios, data.seconds, seed)
    best = data.fit(name, every)
    fitted_s = data.predict_s(best, every)
    rng = np.random.default_rng(seed)

    def refit() -> Floats:
        seconds = measured.resampled(fit_at, fitted_s, rng)
        return data_of(fit_at, seconds).fit(name, every, best.crowd).coefficients

    held = data_of(held_at, measured.seconds[held_at])
    return sections.mixed_law(
        best,
        np.array([refit() for _ in range(RESAMPLES)]),
        [measured.points[i] for i in fit_at],
        form=name,
        cross_validation=scores,
        holdout=_errors(held.predict_s(best, np.arange(len(held_at))), held.seconds),
        noise=measured.noise("mixed"),
    )


def _roles(measured: Measured, kind: Kind) -> tuple[list[int], list[int]]:
    fit_at, held_at = measured.places(kind, "fit"), measured.places(kind, "holdout")
    if len(fit_at) < FEWEST_POINTS or not held_at:
        raise CalibrationError(
            f"{len(fit_at)} points of kind {kind} to fit and {len(held_at)} held out; a law needs {FEWEST_POINTS} and 1"
        )
    return fit_at, held_at


def _errors(predicted_s: Floats, measured_s: Floats) -> Errors:
    """How far a law is off on points it never saw."""
    errors = np.abs(predicted_s / measured_s - 1)
    return Errors(
        points=len(errors),
        mean_ratio=float(errors.mean()),
        p95_ratio=float(np.percentile(errors, 95)),
        worst_ratio=float(errors.max()),
    )
