"""When replications are enough: a bound on the relative half-width of an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infertuner.errors import ScenarioError
from infertuner.outcomes.statistics import Values, interval
from infertuner.units import parse_number


@dataclass(frozen=True)
class Precision:
    """Replicate until the mean of `metric` is known to `relative_error` (Law, 5th edition, section 9.4.1).

    The sequential procedure stops at the first n of at least n0 replications whose Student half-width over |mean| is at
    most γ / (1 + γ), for then the mean errs by at most the share γ of the truth, not of itself. It stops too early
    where the first replications happen to look alike, so that 95 % intervals cover less often than they say: 90 to 93 %
    of the time with n0 of 10 (docs/statistics.md). An arm whose mean is 0 never becomes precise.
    """

    metric: str
    relative_error: float
    """γ, as a share."""

    def reached_at(self, values: Values, least: int) -> int | None:
        """After how many replications to stop; None where these are not enough.

        values: one a replication, None where a run has none.
        least: n0, below which nothing is decided.
        """
        return next((n for n in range(max(least, 2), len(values) + 1) if self._is_reached(values[:n])), None)

    def _is_reached(self, values: Sequence[float | None]) -> bool:
        found = interval(values)
        if found.mean is None or found.ci_high is None:
            return False
        return found.ci_high - found.mean <= self.relative_error / (1 + self.relative_error) * abs(found.mean)


def parse_precision(text: str) -> Precision:
    """An `--until` argument.

    >>> parse_precision("e2e_mean_s=2%")
    Precision(metric='e2e_mean_s', relative_error=0.02)
    """
    metric, _, share = text.partition("=")
    percent = share.strip().endswith("%")
    try:
        error = parse_number(share.strip().removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        error = 0.0
    if not metric or not 0 < error < 1:
        raise ScenarioError(f"--until {text}: must be METRIC=SHARE with a share between 0 and 1, such as ttft_p99_s=5%")
    return Precision(metric.strip(), error)
