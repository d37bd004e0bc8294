"""What a mixed iteration costs beyond its parts, fitted on top of the laws of pure steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from infertuner.latency.fitting.forms import smooth_ratio
from infertuner.latency.fitting.selection import Judge, Places
from infertuner.latency.forms import SURCHARGE, Axes, Law, Ratio, Surcharge, Work, parts_s
from infertuner.latency.points import Point
from infertuner.sources.requests import Floats

FORMS = {"parts": 0, "surcharge": 3, "surcharge_chunk": 4, "surcharge_crowd": 5}
"""Candidate forms, simplest first, and how many of the coefficients each has."""


@dataclass(frozen=True)
class Mixed:
    """A surcharge with the numbers that fit some points best."""

    crowd: int
    axes: Axes | None
    coefficients: Floats
    """Those of the surcharge, then the nodes of the ratio."""

    def law(self) -> Surcharge:
        """The surcharge, ready to answer."""
        return surcharge(self.coefficients.tolist(), self.crowd, self.axes)


def surcharge(coefficients: Sequence[float], crowd: int, axes: Axes | None) -> Surcharge:
    """The surcharge with these coefficients, those of its ratio last."""
    ratio = None if axes is None else Ratio(*axes, list(coefficients[len(SURCHARGE) :]))
    return Surcharge(coefficients[: len(SURCHARGE)], crowd, ratio)


class MixedData:
    """Measured mixed iterations beside what the sum of their parts says."""

    def __init__(self, points: Sequence[Point], seconds: Floats, weights: Floats, prefill: Law, decode: Law) -> None:
        self.points, self.seconds, self.weights = list(points), seconds, weights
        self.parts_s = np.array([parts_s(prefill, decode, work_beside(p), p.decode_entries) for p in points])

    def fit(self, form: str, chosen: Places, crowd: int | None = None) -> Mixed:
        """The surcharge of the chosen points. `crowd` keeps that of an earlier fit; else the best size is searched."""
        size = FORMS[form.removesuffix("_ratio")]
        crowds = [0] if size < len(SURCHARGE) else sorted({self.points[i].decodes for i in chosen})[:-1] or [0]
        best, least = None, np.inf
        for tried in crowds if crowd is None else [crowd]:
            columns = self._columns(chosen, tried)[:, :size] / self.seconds[chosen, None]
            norms = np.linalg.norm(columns, axis=0)
            norms[norms == 0] = 1.0
            wanted = self.weights[chosen] * (1 - self.parts_s[chosen] / self.seconds[chosen])
            found, misfit = nnls(columns / norms * self.weights[chosen, None], wanted) if size else (np.zeros(0), 0.0)
            if misfit < least:
                coefficients = np.concatenate([found / norms, np.zeros(len(SURCHARGE) - size)])
                best, least = Mixed(tried, None, coefficients), misfit
        assert best is not None
        if not form.endswith("_ratio"):
            return best
        misfit_log = np.log(self.seconds[chosen] / self.predict_s(best, chosen))
        decodes = np.array([self.points[i].decodes for i in chosen], dtype=np.float64)
        contexts = np.array([self.points[i].decode_context_tokens for i in chosen], dtype=np.float64)
        axes, nodes = smooth_ratio(decodes, contexts, misfit_log)
        return Mixed(best.crowd, axes, np.concatenate([best.coefficients, nodes]))

    def predict_s(self, mixed: Mixed, chosen: Places) -> Floats:
        """Seconds of the chosen points."""
        law = mixed.law()
        points = [self.points[i] for i in chosen]
        return np.array([
            law(parts, point.new_tokens, point.decodes, point.decode_entries)
            for parts, point in zip(self.parts_s[chosen].tolist(), points, strict=True)
        ])  # fmt: skip

    def judge(self, form: str) -> Judge:
        """How cross-validation tries a form."""
        return lambda kept, left_out: self.predict_s(self.fit(form, kept), left_out)

    def _columns(self, chosen: Places, crowd: int) -> Floats:
        points = [self.points[i] for i in chosen]
        return np.array(
            [
                [1, p.decodes, p.decode_entries, p.new_tokens, p.decode_entries * max(0, p.decodes - crowd)]
                for p in points
            ],
            dtype=np.float64,
        )


def work_beside(point: Point) -> Work:
    """The work of a mixed point as `parts_s` wants it."""
    return Work(point.batch_tokens, point.kv_entries, point.batch_size, point.attended_pairs)
