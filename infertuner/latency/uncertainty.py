"""What a replication draws: step noise, one set of coefficients, one level of the whole run. numpy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from infertuner.latency.law_sections import Fitted, StepNoise
from infertuner.latency.noise import NoiseRing
from infertuner.sources.requests import Floats

RING = 65_536
"""Iterations after which noise repeats."""
UNIT = 1000
"""Per mille."""


class Draw:
    """One replication's calibration: a set of coefficients for each law, and a level that the whole run shares."""

    def __init__(self, rng: np.random.Generator | None, run_sd_ratio: float) -> None:
        self._rng = rng
        self.level = 1.0 if rng is None else run_level(run_sd_ratio, rng)

    @classmethod
    def none(cls) -> Draw:
        """The point estimate."""
        return cls(None, 0.0)

    def row(self, law: Fitted) -> list[float]:
        """Coefficients of one law."""
        if self._rng is None or not law.draws:
            return law.coefficients
        return law.draws[int(self._rng.integers(len(law.draws)))]


def noise_ring(noise: StepNoise, rng: np.random.Generator) -> NoiseRing:
    """Multipliers of `RING` iterations, with a mean of exactly 1: noise moves no mean, only what lies around it.

    Log multipliers are Student-t with a lag-1 correlation: an autoregressive normal over the root of an independent
    chi-square. A share of the steps are spikes instead, of sizes between the measured quantiles.
    """
    nu = noise.degrees_of_freedom
    normal = _autoregressive(_normal_lag1(noise.lag1, nu), rng)
    logs = noise.scale_ratio * normal / np.sqrt(rng.chisquare(nu, RING) / nu)
    if noise.spike_quantiles:
        multipliers = np.exp(np.minimum(logs, math.log(noise.spike_quantiles[0])))
        spikes = rng.random(RING) < noise.spike_rate
        shares = np.linspace(0.0, 1.0, len(noise.spike_quantiles))
        multipliers[spikes] = np.interp(rng.random(int(spikes.sum())), shares, noise.spike_quantiles)
    else:
        multipliers = np.exp(logs)
    return NoiseRing(_whole_with_mean_one(multipliers).tolist())


def run_level(run_sd_ratio: float, rng: np.random.Generator) -> float:
    """How slow this run is as a whole: lognormal with the measured spread of the drift and a mean of 1."""
    return math.exp(run_sd_ratio * float(rng.standard_normal()) - 0.5 * run_sd_ratio * run_sd_ratio)


def _autoregressive(lag1: float, rng: np.random.Generator) -> Floats:
    """A stationary standard normal series."""
    steps = rng.standard_normal(RING)
    if lag1 == 0:
        return steps
    kept, new = lag1, math.sqrt(1 - lag1 * lag1)
    series, value = np.empty(RING), float(steps[0])
    for i, step in enumerate(steps.tolist()):
        value = value if i == 0 else kept * value + new * step
        series[i] = value
    return series


def _normal_lag1(lag1: float, nu: float) -> float:
    """The correlation of the normals that gives their t-distributed quotients this one.

    Quotients correlate less, by E[s]^2 / E[s^2], where s is one over the root of chi-square over its degrees.
    """
    mean = math.sqrt(nu / 2) * math.exp(math.lgamma((nu - 1) / 2) - math.lgamma(nu / 2))
    return min(0.99, lag1 * (nu / (nu - 2)) / (mean * mean))


def _whole_with_mean_one(multipliers: Floats) -> NDArray[np.int64]:
    """Per mille in whole numbers of 1 or more that add up to 1000 each on average, exactly."""
    exact = multipliers * (UNIT / multipliers.mean())
    ends = np.rint(np.cumsum(exact)).astype(np.int64)  # rounding the running sum keeps every partial mean right
    whole = np.maximum(1, np.diff(ends, prepend=0))
    whole[np.argmax(whole)] += UNIT * RING - whole.sum()
    return np.asarray(whole)
