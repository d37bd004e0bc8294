"""Latency straight from measurements: a table that is interpolated, and a list that is replayed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from infertuner.errors import OutOfRangeError, ProfileError, ScenarioError
from infertuner.latency.lines import PS_PER_S, DecodeLine
from infertuner.latency.model import Chunk
from infertuner.latency.static_only import StaticOnly
from infertuner.latency.surfaces import Surface
from infertuner.parts import FilePath, part
from infertuner.streams import Streams

LARGEST = 10**7
"""The largest batch or number of tokens in a table."""


@part
class MeasuredTable:
    """Measured seconds, interpolated between the measured sizes and refused outside them."""

    kind: Literal["table"]
    path: FilePath
    """CSV with columns `kind` (prefill or decode), `batch_size`, `tokens` (new tokens of each sequence for prefill,
    context of each sequence for decode) and `seconds`; a relative path starts at the scenario's folder."""

    def model(self, streams: Streams) -> TableLatency:
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

    def model(self, streams: Streams) -> ReplayLatency:
        """Read the measurements and start at the first."""
        seconds = [_number(where, self.column, text) for where, (text,) in _rows(self.path, self.column)]
        return ReplayLatency(seconds, name=f"{self.path}: {self.column}")

    def source(self) -> str:
        """Where its seconds come from."""
        return f"measurements in {self.path.name}, replayed"


class TableLatency:
    """Answers from two interpolated surfaces."""

    outside_calls = 0
    noise = None

    def __init__(self, prefill: Surface, decode: Surface) -> None:
        self._prefill = prefill
        self._decode = decode
        self._lines: dict[int, DecodeLine] = {}

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds to prefill a batch; the table knows no cached tokens, so there may be none."""
        if not new_tokens:
            return 0.0
        if cached_tokens:
            raise OutOfRangeError(
                f"prefill with cached_tokens {cached_tokens}: a latency table has no such column; use a profile"
            )
        return self._prefill.at(batch_size, new_tokens)

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds for `steps` decode steps, the first at `context_tokens`."""
        if not steps:
            return 0.0
        line = self.decode_line(batch_size)
        for context in (context_tokens, context_tokens + steps - 1):
            self._refuse_beyond(line, batch_size * context)
        return line.span_ps(batch_size * context_tokens, steps) / PS_PER_S

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Seconds of an iteration: its chunks one after the other, then its decode step. A table has no mixed rows."""
        seconds = sum(
            self.prefill_s(batch_size=1, new_tokens=chunk.new_tokens, cached_tokens=chunk.cached_tokens)
            for chunk in chunks
        )
        if decodes:
            line = self.decode_line(decodes)
            self._refuse_beyond(line, kv_entries)
            seconds += line.step_ps(kv_entries) / PS_PER_S
        return seconds

    def decode_line(self, batch_size: int) -> DecodeLine:
        """The measured decode steps of this batch size and straight lines between them."""
        if batch_size not in self._lines:
            self._lines[batch_size] = self._decode.line(batch_size)
        return self._lines[batch_size]

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """Refuse: a table is never extrapolated."""
        line = self.decode_line(batch_size)
        last = kv_entries + (steps - 1) * batch_size
        self._refuse_beyond(line, kv_entries if kv_entries < line.low else last)

    def _refuse_beyond(self, line: DecodeLine, kv_entries: int) -> None:
        if not line.low <= kv_entries <= line.high:
            self._decode.refuse(line.batch_size, kv_entries)


class ReplayLatency(StaticOnly):
    """Hands out the measurements in order, one a batch."""

    outside_calls = 0
    noise = None

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

    def _refusal(self) -> ScenarioError:
        return ScenarioError(
            f"latency.kind: replay plays whole batches back ({self._name}) and continuous batching asks for single "
            "iterations; choose latency kind profile, table or per_token, or a static batcher"
        )


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
