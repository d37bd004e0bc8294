"""Latency straight from measurements: a table that is interpolated, and a list that is replayed."""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np

from infertuner.errors import OutOfRangeError, ProfileError
from infertuner.parts import FilePath, part

LARGEST = 10**7
"""The largest batch or number of tokens in a table."""


@part
class MeasuredTable:
    """Measured seconds, interpolated between the measured sizes and refused outside them."""

    kind: Literal["table"]
    path: FilePath
    """CSV with columns `kind` (prefill or decode), `batch_size`, `tokens` (new tokens of each sequence for prefill,
    context of each sequence for decode) and `seconds`; a relative path starts at the scenario's folder."""

    def model(self) -> TableLatency:
        """Read the table and answer from it."""
        rows: dict[str, dict[int, dict[int, float]]] = {"prefill": {}, "decode": {}}
        for where, (kind, batch_size, tokens, seconds) in _rows(self.path, "kind", "batch_size", "tokens", "seconds"):
            if kind not in rows:
                raise ProfileError(f"{where}: kind is {kind!r}; write prefill or decode")
            sizes = rows[kind].setdefault(_whole(where, "batch_size", batch_size), {})
            sizes[_whole(where, "tokens", tokens)] = _number(where, "seconds", seconds)
        for kind, measured in rows.items():
            if not measured:
                raise ProfileError(f"{self.path}: no row of kind {kind}; measure at least one")
        surfaces = {kind: Surface(f"{self.path}: {kind}", by_batch) for kind, by_batch in rows.items()}
        return TableLatency(surfaces["prefill"], surfaces["decode"])

    def source(self) -> str:
        """Where its seconds come from."""
        return f"measurements in {self.path.name}, interpolated"


@part
class Replay:
    """Seconds that were measured, batch after batch: the first batch takes the first of them, and so on.

    A measurement covers a batch from its start to its last token, so the first token of a replayed batch is stamped
    when the batch ends.
    """

    kind: Literal["replay"]
    path: FilePath
    """CSV with one row a batch, in the order in which they ran; a relative path starts at the scenario's folder."""
    column: str = "seconds"
    """Column that holds the seconds."""

    def model(self) -> ReplayLatency:
        """Read the measurements and start at the first."""
        seconds = [_number(where, self.column, text) for where, (text,) in _rows(self.path, self.column)]
        return ReplayLatency(seconds, name=f"{self.path}: {self.column}")

    def source(self) -> str:
        """Where its seconds come from."""
        return f"measurements in {self.path.name}, replayed"


@dataclass(frozen=True)
class Line:
    """Seconds along the tokens of one batch size, as a running sum, so that any stretch of steps is one subtraction."""

    first: int
    """Smallest measured number of tokens."""
    running_s: list[float]
    """Entry i is the sum of the steps from `first` to `first` + i - 1."""

    @classmethod
    def through(cls, measured: dict[int, float]) -> Line:
        """Straight lines between the measured points."""
        tokens = sorted(measured)
        steps = np.interp(range(tokens[0], tokens[-1] + 1), tokens, [measured[size] for size in tokens])
        return cls(tokens[0], [0.0, *accumulate(steps.tolist())])

    @property
    def last(self) -> int:
        """Largest measured number of tokens."""
        return self.first + len(self.running_s) - 2

    def total_s(self, tokens: int, steps: int) -> float:
        """Seconds of `steps` steps, the first at `tokens`, each next one token on."""
        start = tokens - self.first
        return self.running_s[start + steps] - self.running_s[start]


class Surface:
    """Seconds over batch size and tokens: straight lines between neighbouring measurements, first along tokens."""

    def __init__(self, name: str, measured: dict[int, dict[int, float]]) -> None:
        self._name = name
        self._batch_sizes = sorted(measured)
        self._lines = [Line.through(measured[size]) for size in self._batch_sizes]

    def total_s(self, batch_size: int, tokens: int, steps: int) -> float:
        """Seconds of `steps` steps of `batch_size` sequences, the first at `tokens`."""
        sizes = self._batch_sizes
        self._inside("batch_size", batch_size, sizes[0], sizes[-1])
        above = bisect_right(sizes, batch_size)
        below = above - 1
        total_s = self._along(below, tokens, steps)
        if sizes[below] == batch_size:
            return total_s
        share = (batch_size - sizes[below]) / (sizes[above] - sizes[below])
        return total_s + share * (self._along(above, tokens, steps) - total_s)

    def _along(self, index: int, tokens: int, steps: int) -> float:
        line = self._lines[index]
        self._inside("tokens", tokens, line.first, line.last)
        self._inside("tokens", tokens + steps - 1, line.first, line.last)
        return line.total_s(tokens, steps)

    def _inside(self, axis: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            raise OutOfRangeError(
                f"{self._name} with {axis} {value} is outside the table ({low} to {high}); "
                "keep the workload inside or measure more rows"
            )


class TableLatency:
    """Answers from two interpolated surfaces."""

    outside_calls = 0

    def __init__(self, prefill: Surface, decode: Surface) -> None:
        self._prefill = prefill
        self._decode = decode

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds to prefill a batch; the table knows no cached tokens, so there may be none."""
        if not new_tokens:
            return 0.0
        if cached_tokens:
            raise OutOfRangeError(
                f"prefill with cached_tokens {cached_tokens}: a latency table has no such column; use a profile"
            )
        return self._prefill.total_s(batch_size, new_tokens, 1)

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds for `steps` decode steps, the first at `context_tokens`."""
        return self._decode.total_s(batch_size, context_tokens, steps) if steps else 0.0


class ReplayLatency:
    """Hands out the measurements in order, one a batch."""

    outside_calls = 0

    def __init__(self, seconds: list[float], *, name: str) -> None:
        self._seconds = seconds
        self._name = name
        self._next = 0

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """The next measurement: every batch has one prefill, so each call is a batch."""
        if self._next == len(self._seconds):
            raise OutOfRangeError(
                f"{self._name} holds {self._next} measurements and one more batch began; "
                "send fewer requests or measure more"
            )
        self._next += 1
        return self._seconds[self._next - 1]

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Nothing: the measurement covered the whole batch."""
        return 0.0


def _rows(path: Path, *columns: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The asked columns of each row of a CSV file, with the place to name in an error."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ProfileError(f"{path}: no column {missing[0]!r}; it has {', '.join(reader.fieldnames or ())}")
            for row in reader:
                yield f"{path}, line {reader.line_num}", tuple(row[column] or "" for column in columns)
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ProfileError(f"{path}: is no CSV in UTF-8 ({error}); export it again") from None


def _number(where: str, column: str, text: str) -> float:
    """A finite number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise ProfileError(f"{where}: {column} is {text!r}; write a number, 0 or more")
    return value


def _whole(where: str, column: str, text: str) -> int:
    """A whole number, 1 or more."""
    value = _number(where, column, text)
    if not 1 <= value <= LARGEST or value != int(value):
        raise ProfileError(f"{where}: {column} is {text!r}; write a whole number from 1 to {LARGEST}")
    return int(value)
