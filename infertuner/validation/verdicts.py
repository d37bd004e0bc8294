"""Bounds on errors: what was promised, and whether it held."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infertuner.errors import ValidationError
from infertuner.validation.compare import NAMES, Error

CORRECTED = "corrected_"
"""Prefix of a bound on the drift-corrected simulation."""


@dataclass(frozen=True)
class Verdict:
    """One bound and what became of it."""

    bound: str
    limit_ratio: float
    error_ratio: float | None
    """None when the runs cannot carry this statistic; such a bound is missed."""

    @property
    def held(self) -> bool:
        """Whether the error is within the bound, in either direction."""
        return self.error_ratio is not None and abs(self.error_ratio) <= self.limit_ratio


def parse_bound(text: str) -> tuple[str, float]:
    """A `--bound METRIC=RATIO` argument.

    >>> parse_bound("e2e_mean=0.05")
    ('e2e_mean', 0.05)
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or name.removeprefix(CORRECTED) not in NAMES:
        raise ValidationError(
            f"--bound {text}: must be METRIC=RATIO with a metric such as e2e_mean, ttft_p95 or throughput, "
            f"or {CORRECTED}e2e_mean"
        )
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise ValidationError(f"--bound {text}: {value.strip()!r} is no ratio above 0, such as 0.05 for 5 %")
    return name, limit


def judge(
    bounds: Mapping[str, float], errors: Mapping[str, Error], corrected: Mapping[str, Error]
) -> Sequence[Verdict]:
    """What became of each bound."""
    verdicts = []
    for bound, limit in bounds.items():
        found = (corrected if bound.startswith(CORRECTED) else errors).get(bound.removeprefix(CORRECTED))
        verdicts.append(Verdict(bound, limit, None if found is None else found.ratio.mean))
    return verdicts
