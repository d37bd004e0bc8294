"""The measured sections of a profile file: each law with its box, its errors and its noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infertuner.latency.fitting import Fitted, Polished, fit
from infertuner.latency.points import Kind, Point
from infertuner.latency.profile import DecodeBox, DecodeLaw, Errors, Noise, PrefillBox, PrefillLaw
from infertuner.latency.samples import Visit

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
"""Of a call's seconds relative to its point; kept so that tails can be simulated later."""


def decode_law(visits: Sequence[Visit], polished: Polished, *, seed: int) -> DecodeLaw:
    """The decode law of these visits, with intervals and errors."""
    fitted = fit(polished, "decode", seed=seed)
    return DecodeLaw(
        form=fitted.form,
        knots=fitted.knot_estimates(),
        kv_entry_s=fitted.estimate("kv_entry_s"),
        box=DecodeBox(**_box(fitted.points, "batch_size", "context_tokens")),
        cross_validation=fitted.scores,
        holdout=_holdout(fitted, polished),
        noise=_noise(visits, polished, "decode"),
    )


def prefill_law(visits: Sequence[Visit], polished: Polished, *, seed: int) -> PrefillLaw:
    """The prefill law of these visits, with intervals and errors."""
    fitted = fit(polished, "prefill", seed=seed)
    return PrefillLaw(
        form=fitted.form,
        knots=fitted.knot_estimates(),
        kv_entry_s=fitted.estimate("kv_entry_s"),
        sequence_s=fitted.estimate("sequence_s"),
        attended_pair_s=fitted.estimate("attended_pair_s"),
        box=PrefillBox(**_box(fitted.points, "batch_size", "context_tokens", "batch_tokens")),
        cross_validation=fitted.scores,
        holdout=_holdout(fitted, polished),
        noise=_noise(visits, polished, "prefill"),
    )


def _box(points: Sequence[Point], *axes: str) -> dict[str, tuple[int, int]]:
    """Smallest and largest measured value along each axis."""
    values = {axis: [getattr(point, axis) for point in points] for axis in axes}
    return {axis: (min(measured), max(measured)) for axis, measured in values.items()}


def _holdout(fitted: Fitted, polished: Polished) -> Errors:
    """How far the law is off on the points it never saw."""
    kind = fitted.basis.kind
    held = [i for i, point in enumerate(polished.points) if (point.kind, point.role) == (kind, "holdout")]
    predicted_s = fitted.predict_s([polished.points[i] for i in held])
    errors = np.abs(predicted_s / polished.medians_s()[held] - 1)
    return Errors(
        points=len(held),
        mean_ratio=float(errors.mean()),
        p95_ratio=float(np.percentile(errors, 95)),
        worst_ratio=float(errors.max()),
    )


def _noise(visits: Sequence[Visit], polished: Polished, kind: Kind) -> Noise:
    """Spread of visits and of single calls around their point."""
    of_kind = [visit for visit in visits if visit.point.kind == kind]
    groups = [log_s for log_s, point in zip(polished.log_s, polished.points, strict=True) if point.kind == kind]
    typical_s = dict(zip(polished.points, polished.medians_s().tolist(), strict=True))
    relative = np.concatenate([np.array(visit.timing.seconds) / typical_s[visit.point] for visit in of_kind])
    return Noise(
        between_visits_ratio=float(np.median([log_s.std(ddof=1) for log_s in groups])),
        call_quantiles={str(q): float(np.quantile(relative, q)) for q in QUANTILES},
    )
