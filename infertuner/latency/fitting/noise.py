"""How much equal work differs from one step to the next, fitted to what law and drift leave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t

from infertuner.latency.law_sections import Noise, StepNoise
from infertuner.latency.measuring.polish import Polished
from infertuner.latency.measuring.samples import Visit
from infertuner.latency.points import Kind
from infertuner.sources.requests import Floats

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
"""Of a call's seconds relative to its point, drift left in."""
SPIKE_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
SPIKE_SIGMAS = 8.0
"""A call further above its point than so many robust standard deviations is a spike, not noise."""
FEWEST_CALLS = 100
"""Calls below which a tail says nothing."""


def noise_of(visits: Sequence[Visit], polished: Polished, kind: Kind) -> Noise:
    """Spread of visits and of single calls of one kind around their points."""
    effects = {point: float(np.median(log_s)) for point, log_s in zip(polished.points, polished.log_s, strict=True)}
    groups = [log_s for log_s, point in zip(polished.log_s, polished.points, strict=True) if point.kind == kind]
    ordered = sorted(visits, key=lambda visit: visit.at_s)
    drifting, steady = [], []
    for visit, drift in zip(ordered, polished.drift, strict=True):
        if visit.point.kind == kind:
            drifting.append(np.log(visit.timing.seconds) - effects[visit.point])
            steady.append(drifting[-1] - drift)
    relative = np.exp(np.concatenate(drifting))
    spreads = [float(log_s.std(ddof=1)) for log_s in groups if len(log_s) > 1]
    return Noise(
        between_visits_ratio=float(np.median(spreads)) if spreads else 0.0,
        call_quantiles={str(q): float(np.quantile(relative, q)) for q in QUANTILES},
        steps=step_noise(steady, run_sd_ratio=robust_sd(polished.drift)),
    )


def step_noise(series: Sequence[Floats], *, run_sd_ratio: float) -> StepNoise | None:
    """The noise of log step times. None where too few calls were timed.

    series: for each visit its calls in order, log seconds relative to what they should take.
    """
    every = np.concatenate(series)
    if len(every) < FEWEST_CALLS:
        return None
    middle = float(np.median(every))
    sigma = robust_sd(every)
    limit = middle + SPIKE_SIGMAS * sigma
    spikes, body = every[every > limit], every[every <= limit]
    freedom, _, scale = student_t.fit(body - middle, floc=0.0)
    before = np.concatenate([calls[:-1] for calls in series])
    after = np.concatenate([calls[1:] for calls in series])
    calm = (before <= limit) & (after <= limit)
    lag1 = float(np.corrcoef(before[calm], after[calm])[0, 1]) if calm.sum() > 2 and sigma else 0.0
    return StepNoise(
        scale_ratio=float(scale),
        degrees_of_freedom=float(np.clip(freedom, 2.1, 100.0)),
        lag1=float(np.clip(lag1, 0.0, 0.99)),
        run_sd_ratio=run_sd_ratio,
        spike_rate=len(spikes) / len(every),
        spike_quantiles=[float(np.exp(np.quantile(spikes, q))) for q in SPIKE_QUANTILES] if len(spikes) else [],
    )


def robust_sd(values: Floats) -> float:
    """Standard deviation of the quiet majority, from the median absolute deviation.

    A neighbour's visit is no property of the machine, and what it did to some visits would rule any mean of squares.
    """
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
