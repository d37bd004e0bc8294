"""Seconds measured over batch size and tokens, with straight lines between the measurements."""

from __future__ import annotations

from bisect import bisect_left
from typing import NoReturn, TypeAlias

from infertuner.errors import OutOfRangeError
from infertuner.latency.lines import DecodeLine

Row: TypeAlias = tuple[list[int], dict[int, float]]
"""The measured numbers of tokens of one batch size in rising order, and the seconds of each."""


class Surface:
    """Seconds over batch size and tokens: straight lines between neighbouring measurements, first along tokens."""

    def __init__(self, name: str, measured: dict[int, dict[int, float]]) -> None:
        self._name = name
        self._batch_sizes = sorted(measured)
        self._rows: list[Row] = [(sorted(by_tokens), by_tokens) for _, by_tokens in sorted(measured.items())]

    def at(self, batch_size: int, tokens: int) -> float:
        """Seconds of `batch_size` sequences at `tokens` each."""
        low, high = self.bounds(batch_size)
        self._inside("tokens", tokens, low, high)
        share, below, above = self._between(batch_size)
        return (1 - share) * _interpolated(below, tokens) + share * _interpolated(above, tokens)

    def line(self, batch_size: int) -> DecodeLine:
        """The same for one batch size as a line over KV entries, bent at every measured number of tokens."""
        low, high = self.bounds(batch_size)
        _, (below, _), (above, _) = self._between(batch_size)
        bends = sorted({tokens for tokens in (*below, *above) if low <= tokens <= high})
        corners = [(batch_size * tokens, self.at(batch_size, tokens)) for tokens in bends]
        return DecodeLine(batch_size, corners, batch_size * low, batch_size * high)

    def bounds(self, batch_size: int) -> tuple[int, int]:
        """Fewest and most tokens measured for both neighbours of a batch size."""
        self._inside("batch_size", batch_size, self._batch_sizes[0], self._batch_sizes[-1])
        _, (below, _), (above, _) = self._between(batch_size)
        return max(below[0], above[0]), min(below[-1], above[-1])

    def refuse(self, batch_size: int, kv_entries: int) -> NoReturn:
        """Say that `kv_entries` read by `batch_size` sequences lie outside the table."""
        low, high = self.bounds(batch_size)
        raise self._outside("tokens", kv_entries / batch_size, low, high)

    def _between(self, batch_size: int) -> tuple[float, Row, Row]:
        """The measured rows around a batch size, and how far it is from the first towards the second."""
        sizes = self._batch_sizes
        above = bisect_left(sizes, batch_size)
        if sizes[above] == batch_size:
            return 0.0, self._rows[above], self._rows[above]
        share = (batch_size - sizes[above - 1]) / (sizes[above] - sizes[above - 1])
        return share, self._rows[above - 1], self._rows[above]

    def _inside(self, axis: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            raise self._outside(axis, value, low, high)

    def _outside(self, axis: str, value: float, low: int, high: int) -> OutOfRangeError:
        return OutOfRangeError(
            f"{self._name} with {axis} {value:g} is outside the table ({low} to {high}); "
            "keep the workload inside or measure more rows"
        )


def _interpolated(row: Row, tokens: int) -> float:
    """Seconds at `tokens` on the straight line between its measured neighbours."""
    measured, seconds = row
    above = bisect_left(measured, tokens)
    end = measured[above]
    if end == tokens:
        return seconds[end]
    start = measured[above - 1]
    return seconds[start] + (tokens - start) / (end - start) * (seconds[end] - seconds[start])
