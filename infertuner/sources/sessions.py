"""Who sends: which session each request belongs to, and so whose KV cache it can reuse.

Sessions are numbered from 0. Newcomers get fresh numbers, so a number never stands for two people.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from infertuner.parts import Count, NonNegative, Ratio, part
from infertuner.sources.requests import Floats, Ints


@part
class OneRequestSessions:
    """Every request is a session of its own: nobody comes back."""

    kind: Literal["none"]

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Sessions of `n` requests; nothing here is random."""
        return np.arange(n, dtype=np.int64)


@part
class UniformUsers:
    """A fixed group of users, each as active as the next."""

    kind: Literal["uniform"]
    users: Count
    """How many users there are."""

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Sessions of `n` requests."""
        return (rng.random(n) * self.users).astype(np.int64)


@part
class Churn:
    """People leave and others take their places, one by one and evenly spread.

    Whoever leaves is drawn uniformly, so a user's stay has no memory; a newcomer is as active as the one who left.
    """

    replaced_ratio: Ratio
    """Share of all users replaced by newcomers during every `every_requests` requests."""
    every_requests: Count
    """The number of requests in which `replaced_ratio` of the users are replaced."""

    def sample(self, user: Ints, users: int, rng: np.random.Generator) -> Ints:
        """Who really sends, given whose place it is: newcomers are numbered `users`, `users` + 1, ... as they come."""
        replaced_before = (np.arange(len(user)) * (self.replaced_ratio * users / self.every_requests)).astype(np.int64)
        clock = replaced_before[-1] + 1
        leaver = (rng.random(clock - 1) * users).astype(np.int64)
        # Replacements sorted by place, then by time, each as one number; -1 is before all of them.
        replaced = np.append(-1, np.sort(leaver * clock + np.arange(1, clock)))
        latest = replaced[np.searchsorted(replaced, user * clock + replaced_before, side="right") - 1]
        return np.where(latest // clock == user, users - 1 + latest % clock, user)


@part
class LoadPhase:
    """A stretch of the run in which only some of the users are active."""

    requests_ratio: Ratio
    """Share of all requests that fall into this phase."""
    active_users: Count
    """How many users are active; they are the most popular ones."""


@part
class ZipfUsers:
    """A population in which few users are very active: the r-th most popular sends in proportion to r^-exponent.

    The most popular is number 0. Exponent 0 makes all users equally active.
    """

    kind: Literal["zipf"]
    users: Count
    """How many users there are at any moment."""
    exponent: NonNegative = 1.0
    """How unequal users are; web and cache traces lie between 0.6 and 1.2 (Breslau et al., INFOCOM 1999)."""
    churn: Churn | None = None
    """How fast people leave and others come; without it the population never changes."""
    phases: list[LoadPhase] | None = None
    """Phases in their order, with shares that sum to 1; without them all users are active all the time."""

    def __post_init__(self) -> None:
        phases = self.phases or [LoadPhase(requests_ratio=1.0, active_users=self.users)]
        for phase in phases:
            if phase.active_users > self.users:
                raise ValueError(f"phases: active_users is {phase.active_users}, must be at most users ({self.users})")
        total = math.fsum(phase.requests_ratio for phase in phases)
        if not math.isclose(total, 1, abs_tol=1e-9):
            raise ValueError(f"phases: requests_ratio values sum to {total:g}, must sum to 1")

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Sessions of `n` requests."""
        popularity: Floats = np.cumsum(np.arange(1, self.users + 1, dtype=np.float64) ** -self.exponent)
        user = np.searchsorted(popularity, rng.random(n) * popularity[self._active_users(n) - 1], side="right")
        return self.churn.sample(user, self.users, rng) if self.churn else user

    def _active_users(self, n: int) -> Ints:
        """How many users are active at each of `n` requests."""
        if not self.phases:
            return np.full(n, self.users)
        ends = np.rint(n * np.cumsum([phase.requests_ratio for phase in self.phases])).astype(np.int64)
        return np.repeat([phase.active_users for phase in self.phases], np.diff(ends, prepend=0))


Sessions = Annotated[
    OneRequestSessions | UniformUsers | ZipfUsers,
    Field(discriminator="kind"),
]
