"""Fitted laws as sections of the profile file: estimates with intervals, the box, and the draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infertuner.latency.forms import ROOFLINE, SURCHARGE, TERMS, Axes
from infertuner.latency.law_sections import (
    DecodeBox,
    DecodeLaw,
    Estimate,
    Knot,
    MixedBox,
    MixedLaw,
    PrefillBox,
    PrefillLaw,
    RatioSurface,
    RooflineCurve,
)
from infertuner.latency.points import Point

if TYPE_CHECKING:
    from infertuner.latency.fitting.forms import Candidate
    from infertuner.latency.fitting.mixed import Mixed
    from infertuner.sources.requests import Floats

DRAWS = 50
"""Refits that are kept in the file."""


def pure_law(best: Candidate, resampled: Floats, points: Sequence[Point], **rest: Any) -> DecodeLaw:
    """The prefill or decode section.

    resampled: coefficients refitted to resampled measurements, shape (resamples, coefficients).
    """
    shape, terms = best.shape, TERMS[best.shape.kind]
    end = shape.curve_size
    plain = end + len(terms)
    estimates = _estimates(best.coefficients[:plain], resampled[:, :plain])
    if shape.knots is None:
        rest["roofline"] = RooflineCurve(**dict(zip(ROOFLINE, estimates[:end], strict=True)))
    else:
        pairs = zip(shape.knots, estimates[:end], strict=True)
        rest["knots"] = [Knot(tokens=tokens, step_s=step_s) for tokens, step_s in pairs]
    rest |= dict(zip(terms, estimates[end:], strict=True))
    rest |= {"ratio": _surface(shape.axes, best.coefficients[plain:]), "draws": _draws(resampled)}
    axes = ("batch_size", "context_tokens")
    if shape.kind == "decode":
        return DecodeLaw(box=DecodeBox(**_box(points, *axes)), **rest)
    return PrefillLaw(box=PrefillBox(**_box(points, *axes, "batch_tokens")), **rest)


def mixed_law(best: Mixed, resampled: Floats, points: Sequence[Point], **rest: Any) -> MixedLaw:
    """The mixed section."""
    plain = len(SURCHARGE)
    rest |= dict(zip(SURCHARGE, _estimates(best.coefficients[:plain], resampled[:, :plain]), strict=True))
    rest |= {"ratio": _surface(best.axes, best.coefficients[plain:]), "draws": _draws(resampled)}
    box = MixedBox(**_box(points, "new_tokens", "context_tokens", "decodes", "decode_context_tokens"))
    return MixedLaw(crowd=best.crowd, box=box, **rest)


def _estimates(values: Floats, resampled: Floats) -> list[Estimate]:
    """Numbers with their 95 % intervals."""
    low, high = np.percentile(resampled, (2.5, 97.5), axis=0)
    return [
        Estimate(value=value, low=min(a, value), high=max(b, value))
        for value, a, b in zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    ]


def _draws(resampled: Floats) -> list[list[float]]:
    """Some of the refits, to seven digits."""
    every = max(1, len(resampled) // DRAWS)
    return [[float(f"{number:.7g}") for number in row] for row in resampled[::every].tolist()]


def _surface(axes: Axes | None, nodes: Floats) -> RatioSurface | None:
    if axes is None:
        return None
    rows = nodes.reshape(len(axes[0]), len(axes[1])).tolist()
    return RatioSurface(tokens=list(axes[0]), context_tokens=list(axes[1]), log_ratio=rows)


def _box(points: Sequence[Point], *axes: str) -> dict[str, tuple[int, int]]:
    """Smallest and largest measured value along each axis."""
    values = {axis: [getattr(point, axis) for point in points] for axis in axes}
    return {axis: (min(measured), max(measured)) for axis, measured in values.items()}
