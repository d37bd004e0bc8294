"""How fast requests come, at ticks."""

from __future__ import annotations

import math


class Ticks:
    """Requests between two ticks; the first interval begins with the first request."""

    def __init__(self) -> None:
        self._requests = 0
        self._since_s: float | None = None

    def count(self, now_s: float) -> None:
        """Note a request."""
        if self._since_s is None:
            self._since_s = now_s
        self._requests += 1

    def take(self, now_s: float) -> tuple[int, float]:
        """Requests and seconds since the last tick, 0 and 0 before the first request."""
        if self._since_s is None:
            return 0, 0.0
        requests, seconds = self._requests, now_s - self._since_s
        self._requests, self._since_s = 0, now_s
        return requests, seconds


class SlowRate:
    """A mean rate, unbiased from the start; an interval that ended `memory` ticks ago weighs 1/e of the newest."""

    def __init__(self, memory: float) -> None:
        self._keep = math.exp(-1 / memory)
        self._requests = 0.0
        self._seconds = 0.0

    @property
    def per_s(self) -> float:
        """Requests per second, NaN before the first interval."""
        return self._requests / self._seconds if self._seconds else math.nan

    def add(self, requests: int, seconds: float) -> None:
        """Count in the interval that has just ended."""
        self._requests = self._keep * self._requests + requests
        self._seconds = self._keep * self._seconds + seconds
