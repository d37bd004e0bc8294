"""What several replications say together: means with Student intervals, and paired comparisons of two arms.

Replications of one arm are independent; two arms of the same replication share their random numbers, so arms are
compared pair by pair, which removes the noise they have in common (Law, Simulation Modeling and Analysis, 5th edition:
replications 9.4.1, paired t 10.2.1, common random numbers 11.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import special

from infertuner.sources.requests import Floats

Values: TypeAlias = Sequence[float | None]
"""One value a replication, in the order of replications; None or NaN where the run could not give one."""


@dataclass(frozen=True)
class Interval:
    """A mean over replications and its confidence interval, in the unit of the metric."""

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    """Replications that gave a value; fewer than were run says how many are missing. One value has no interval."""

    def scaled(self, factor: float) -> Interval:
        """The interval in another unit: all ends times `factor`, which is above 0."""
        mean, low, high = (None if end is None else end * factor for end in (self.mean, self.ci_low, self.ci_high))
        return Interval(mean, low, high, self.n)


def interval(values: Iterable[float | None], confidence: float = 0.95) -> Interval:
    """Mean and Student t interval: mean ± t(n - 1, (1 + confidence) / 2) × s / √n (Law, equation 4.12).

    Missing values are left out and show in `n`.
    """
    sample = _present(values)
    n = sample.size
    if n == 0:
        return Interval(None, None, None, 0)
    mean = float(sample.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    t = student_quantile((1 + confidence) / 2, n - 1)
    half_width = t * float(sample.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half_width, mean + half_width, n)


def paired_difference(a: Values, b: Values, confidence: float = 0.95) -> Interval:
    """The mean of a - b over replications; the arms differ when its interval excludes 0.

    A pair with a missing half is left out. Arms of unequal length are not pairs and raise ValueError.
    """
    first, second = _pairs(a, b)
    return interval((first - second).tolist(), confidence)


def paired_ratio(a: Values, b: Values, confidence: float = 0.95) -> Interval:
    """The geometric mean of a / b over replications, as of a speed-up; the arms differ when its interval excludes 1.

    The t interval is that of the mean of log(a / b), taken back by exp. Ratios of noisy numbers lean to the right and
    their logarithms do not, and log(a / b) = -log(b / a), so that swapping the arms inverts the interval (Fleming and
    Wallace, How not to lie with statistics, CACM 29(3), 1986, on geometric means of ratios).
    A value of 0 or less has no logarithm. Leaving its pair out would flatter the ratio, so the answer is missing.
    """
    first, second = _pairs(a, b)
    if np.any(first <= 0) or np.any(second <= 0):
        return Interval(None, None, None, 0)
    logs = interval(np.log(first / second).tolist(), confidence)
    return Interval(_exp(logs.mean), _exp(logs.ci_low), _exp(logs.ci_high), logs.n)


def student_quantile(probability: float, freedom: int) -> float:
    """The value that a Student t variable of so many degrees of freedom stays below with this probability."""
    return float(special.stdtrit(freedom, probability))


def student_probability(value: float, freedom: int) -> float:
    """How probable it is that a Student t variable of so many degrees of freedom stays below this value."""
    return float(special.stdtr(freedom, value))


def least_share(successes: int, trials: int, confidence: float = 0.95) -> float:
    """The share that a success has at least, with one-sided confidence (Clopper and Pearson, Biometrika 26, 1934).

    >>> round(least_share(20, 20), 3)
    0.861
    """
    return float(special.betaincinv(successes, trials - successes + 1, 1 - confidence)) if successes else 0.0


def _present(values: Iterable[float | None]) -> Floats:
    sample = np.array(list(values), dtype=np.float64)
    return sample[~np.isnan(sample)]


def _pairs(a: Values, b: Values) -> tuple[Floats, Floats]:
    """Both halves of every pair that has both."""
    pairs = np.array(list(zip(a, b, strict=True)), dtype=np.float64).reshape(-1, 2)
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    return pairs[:, 0], pairs[:, 1]


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)
