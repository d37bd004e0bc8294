"""When requests are sent: arrival processes, from a metronome to a day's tide, and users who wait for their answers.

Every open process is a unit-rate random sequence, stretched to the wanted rate, so two arms of a comparison that differ
in their rate see the same bursts in the same order. Nothing is clamped: each process has exactly its stated law.
"""

from __future__ import annotations

import math
from dataclasses import field
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from infertuner.parts import Count, PerSecond, PerSecondOrZero, Positive, PositiveSeconds, Ratio, Seconds, part
from infertuner.sources.requests import ClosedLoop, Floats, OpenLoop


@part
class FixedInterval:
    """One request every `interval_s` seconds, like a load generator's metronome."""

    kind: Literal["fixed"]
    interval_s: Seconds
    """Seconds between two requests; 0 sends all of them at once."""
    first_at_s: Seconds = 0
    """When the first request is sent."""

    def sample(self, n: int, rng: np.random.Generator) -> OpenLoop:
        """`n` instants; nothing here is random."""
        return OpenLoop(self.first_at_s + self.interval_s * np.arange(n, dtype=np.float64))


@part
class Poisson:
    """Many independent users: gaps are exponential and the past says nothing about the next request."""

    kind: Literal["poisson"]
    per_s: PerSecond
    """Mean requests per second."""

    def sample(self, n: int, rng: np.random.Generator) -> OpenLoop:
        """`n` instants of a Poisson process that starts at 0."""
        return OpenLoop(_unit_poisson(n, rng) / self.per_s)


@part
class Gamma:
    """Independent gamma-distributed gaps: burstier or calmer than Poisson at the same rate."""

    kind: Literal["gamma"]
    per_s: PerSecond
    """Mean requests per second."""
    burstiness: Positive
    """Shape of the gamma law, as `--burstiness` of vLLM's serving benchmark: gaps have the coefficient of variation
    1/sqrt(burstiness), so 1 is Poisson, less is burstier, more is calmer."""

    def sample(self, n: int, rng: np.random.Generator) -> OpenLoop:
        """`n` instants of a gamma renewal process that starts at 0."""
        return OpenLoop(np.cumsum(rng.standard_gamma(self.burstiness, n)) / (self.burstiness * self.per_s))


@part
class OnOff:
    """A source that switches between a busy and a quiet state for exponentially distributed times.

    With a silent quiet state this is the interrupted Poisson process (Kuczura, Bell System Technical Journal 52, 1973),
    otherwise a two-state Markov-modulated one. The first state is drawn from the long-run shares of time, so the mean
    rate is (on_per_s on_s + off_per_s off_s) / (on_s + off_s) from the start.
    """

    kind: Literal["on_off"]
    on_per_s: PerSecond
    """Requests per second in the busy state."""
    on_s: PositiveSeconds
    """Mean length of a busy period."""
    off_s: PositiveSeconds
    """Mean length of a quiet period."""
    off_per_s: PerSecondOrZero = 0
    """Requests per second in the quiet state; 0 is silence."""

    def sample(self, n: int, rng: np.random.Generator) -> OpenLoop:
        """`n` instants: those of a unit-rate Poisson process, read on a clock that counts expected requests."""
        expected = _unit_poisson(n, rng)
        switched_at_s, expected_by_then = self._switches(expected[-1], rng)
        return OpenLoop(np.interp(expected, expected_by_then, switched_at_s))

    def _switches(self, expected: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """The instants of switching until `expected` requests are due, and how many are due by each of them."""
        mean_s, per_s = np.array([self.on_s, self.off_s]), np.array([self.on_per_s, self.off_per_s])
        if rng.random() * mean_s.sum() >= self.on_s:
            mean_s, per_s = mean_s[::-1], per_s[::-1]
        cycles = int(expected / (mean_s @ per_s)) + 16
        at_s, due = np.zeros(1), np.zeros(1)
        while due[-1] < expected:
            periods_s = rng.standard_exponential((cycles, 2)) * mean_s
            at_s = np.append(at_s, at_s[-1] + np.cumsum(periods_s))
            due = np.append(due, due[-1] + np.cumsum(periods_s * per_s))
        return at_s, due


@part
class Surge:
    """A stretch of time in which more requests come than at that time of another day: a flash crowd."""

    at_s: Seconds
    """When it begins."""
    duration_s: PositiveSeconds
    """How long it lasts."""
    factor: Positive
    """How many times as many requests come; below 1 fewer."""


@part
class Diurnal:
    """A tide: Poisson requests whose rate follows a sine, rising from its mean at time 0.

    The rate is per_s (1 + amplitude_ratio sin(2 pi t / period_s)). Instants are exact: those of a unit-rate Poisson
    process go through the inverse of the expected number of requests (time rescaling; Cinlar, Introduction to
    Stochastic Processes, 1975, section 4.7), which for a sine is Kepler's equation.
    """

    kind: Literal["diurnal"]
    per_s: PerSecond
    """Mean requests per second over a period."""
    amplitude_ratio: Ratio
    """How far the rate swings, as a share of its mean; 1 reaches zero at low tide."""
    period_s: PositiveSeconds = 86400.0
    """Length of one period; a day unless told otherwise."""
    surges: list[Surge] = field(default_factory=list)
    """Flash crowds on top of the tide, one after the other."""

    def __post_init__(self) -> None:
        for surge, later in pairwise(self.surges):
            if later.at_s < surge.at_s + surge.duration_s:
                raise ValueError(f"surges: one begins at {later.at_s:g} s, before the one given before it has ended")

    def sample(self, n: int, rng: np.random.Generator) -> OpenLoop:
        """`n` instants of the process, from time 0."""
        radians_per_s = 2 * math.pi / self.period_s
        calm = self._without_surges(_unit_poisson(n, rng))
        expected = calm * (radians_per_s / self.per_s)
        angle = _solve_kepler(expected - self.amplitude_ratio + math.pi / 2, self.amplitude_ratio) - math.pi / 2
        # Rounding may swap two instants that agree to the last digit.
        return OpenLoop(np.maximum.accumulate(angle / radians_per_s))

    def _without_surges(self, expected: Floats) -> Floats:
        """How many requests the tide alone would have brought by the time `expected` are due."""
        if not self.surges:
            return expected
        calm, due = [0.0], [0.0]
        for surge in self.surges:
            start, end = (self._expected(at_s) for at_s in (surge.at_s, surge.at_s + surge.duration_s))
            due += [due[-1] + start - calm[-1], due[-1] + start - calm[-1] + surge.factor * (end - start)]
            calm += [start, end]
        return np.asarray(np.interp(expected, [*due, due[-1] + expected[-1]], [*calm, calm[-1] + expected[-1]]))

    def _expected(self, at_s: float) -> float:
        """Requests that the tide alone brings until `at_s`."""
        radians_per_s = 2 * math.pi / self.period_s
        return self.per_s * (at_s + self.amplitude_ratio * (1 - math.cos(radians_per_s * at_s)) / radians_per_s)


@part
class Phase:
    """A stretch of time with a rate of its own."""

    per_s: PerSecond
    """Requests per second."""
    duration_s: PositiveSeconds
    """How long it lasts."""


@part
class Phases:
    """Poisson requests whose rate changes at given times: a launch, a flash crowd, a lunch break."""

    kind: Literal["phases"]
    phases: Annotated[list[Phase], Field(min_length=1)]
    """One after the other from time 0; the last rate stays until all requests are sent."""

    def sample(self, n: int, rng: np.random.Generator) -> OpenLoop:
        """`n` instants of the process, from time 0."""
        rates_per_s = np.array([phase.per_s for phase in self.phases])
        lengths_s = np.array([phase.duration_s for phase in self.phases])
        starts_s = np.cumsum(lengths_s) - lengths_s
        due = np.cumsum(lengths_s * rates_per_s) - lengths_s * rates_per_s
        expected = _unit_poisson(n, rng)
        phase = np.searchsorted(due, expected, side="right") - 1
        return OpenLoop(starts_s[phase] + (expected - due[phase]) / rates_per_s[phase])


@part
class ThinkingUsers:
    """Users who each send a request, wait for its answer, think, and send the next (a closed loop).

    The load adapts to the service: a slow service is asked less often, which hides overload.
    """

    kind: Literal["closed_loop"]
    users: Count
    """How many users take turns with the requests."""
    think_s: Seconds
    """Mean time a user thinks before each request, the first included."""
    think_law: Literal["fixed", "exponential"] = "fixed"
    """`fixed` thinks equally long each time, so that users start in step; `exponential` varies."""
    start_at_s: Seconds = 0
    """When users begin to think about their first request."""

    def sample(self, n: int, rng: np.random.Generator) -> ClosedLoop:
        """The thinking times before `n` requests."""
        unit = rng.standard_exponential(n) if self.think_law == "exponential" else np.ones(n)
        return ClosedLoop(users=self.users, think_s=self.think_s * unit, start_at_s=self.start_at_s)


Arrivals = Annotated[
    FixedInterval | Poisson | Gamma | OnOff | Diurnal | Phases | ThinkingUsers,
    Field(discriminator="kind"),
]


def _unit_poisson(n: int, rng: np.random.Generator) -> Floats:
    """The first `n` instants of a Poisson process of rate 1."""
    return np.cumsum(rng.standard_exponential(n))


def _solve_kepler(mean: Floats, eccentricity: float) -> Floats:
    """The x with x - eccentricity sin(x) = mean, for an eccentricity between 0 and 1.

    Newton's method from the right of the root on the half turn where the function is convex: it comes down to the root
    and never overshoots, even at eccentricity 1, where the slope vanishes at 0.
    """
    turns = 2 * math.pi * np.round(mean / (2 * math.pi))
    rest = np.abs(mean - turns)
    angle = np.minimum(rest + eccentricity, math.pi)
    while (excess := angle - eccentricity * np.sin(angle) - rest).max() > 1e-14:
        angle -= excess / (1 - eccentricity * np.cos(angle))
    return np.asarray(turns + np.copysign(angle, mean - turns))
