"""Removing drift from visits, and how sure each point's median is.

Speed drifts for everybody at once (clocks, neighbours), so visits are polished as Tukey's median polish does: the log
of a visit is the effect of its point plus a smooth function of time. J. W. Tukey, Exploratory Data Analysis (1977),
chapter 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter
from scipy.stats import t as student_t

from infertuner.latency.measuring.samples import Visit
from infertuner.latency.points import Point
from infertuner.sources.requests import Floats

DRIFT_WINDOW = 15
"""Visits over which speed is taken to be constant."""
MIN_VISITS = 3
"""Visits a point needs before its interval means anything."""


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


def _half_width(log_s: Floats) -> float:
    visits = len(log_s)
    if visits < MIN_VISITS:
        return math.inf
    return float(student_t.ppf(0.975, visits - 1) * log_s.std(ddof=1) / math.sqrt(visits))
