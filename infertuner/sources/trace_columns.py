"""Reading the columns of a trace file: fast when it is well formed, precise about the line when it is not.

The whole file is read at once; only if a rule is broken is it read again line by line, to name the first bad line.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from infertuner.errors import TraceError

Record: TypeAlias = tuple[int, dict[str, str]]
"""A 1-based line number and the text of each field on that line."""


@dataclass(frozen=True)
class Kind:
    """What a column holds: its name for people, its Arrow type, and how one field is read from text."""

    label: str
    arrow: Any
    parse: Callable[[str], Any]


def _whole(text: str) -> int:
    """A whole number that 64 bits can hold."""
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _zoned(text: str) -> datetime:
    """An instant that says how far it is from UTC."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError
    return instant


NUMBER = Kind("a finite number", pa.float64(), float)
WHOLE = Kind("a whole number", pa.int64(), _whole)
INSTANT = Kind("an instant such as 2023-11-16 18:15:46.6805900", pa.timestamp("ns"), np.datetime64)
INSTANT_WITH_ZONE = Kind(
    "an instant with its time zone, such as 2024-05-10 00:00:00.009930+00:00, as on the first line",
    pa.timestamp("ns", tz="UTC"),
    _zoned,
)
WHOLE_LIST = Kind(
    "a list of whole numbers", pa.list_(pa.int64()), lambda text: [int(item) for item in json.loads(text)]
)
TEXT = Kind("text", pa.string(), str)


@dataclass(frozen=True)
class Column:
    """A column of a trace and the rules its values obey."""

    name: str
    kind: Kind
    at_least: float = -math.inf
    below: str | None = None
    """Another column whose value this one stays below."""
    may_lack: bool = False
    """Whether single lines may be without it."""

    def holds(self, table: Any) -> bool:
        """Whether every value obeys the rules."""
        values = table[self.name]
        if values.null_count and not self.may_lack:
            return False
        if values.null_count == len(values):
            return True
        if self.kind is WHOLE_LIST and pc.list_flatten(values).null_count:
            return False
        if self.kind is NUMBER and not pc.all(pc.is_finite(values)).as_py():
            return False
        if self.at_least > -math.inf and pc.min(values).as_py() < self.at_least:
            return False
        return self.below is None or bool(pc.all(pc.less(values, table[self.below])).as_py())

    def fault(self, record: dict[str, str]) -> str | None:
        """What is wrong with this column on one line, if anything."""
        if self.may_lack and record.get(self.name, "null") == "null":
            return None
        if self.name not in record:
            return f"{self.name} is missing"
        text = record[self.name]
        try:
            value = self.kind.parse(text)
        except (ValueError, TypeError):
            return f"{self.name} is {text!r}, must be {self.kind.label}"
        if self.kind is NUMBER and not math.isfinite(value):
            return f"{self.name} is {text!r}, must be {self.kind.label}"
        return self._out_of_bounds(text, value, record)

    def _out_of_bounds(self, text: str, value: Any, record: dict[str, str]) -> str | None:
        if self.at_least > -math.inf and value < self.at_least:
            return f"{self.name} is {text}, must be {self.at_least:g} or more"
        if self.below is not None and value >= int(record[self.below]):
            return f"{self.name} is {text}, must be below {self.below} ({record[self.below]})"
        return None


def read_csv(path: Path, required: Sequence[Column], optional: Sequence[Column] = ()) -> Any:
    """The named columns of a CSV file with a header, as an Arrow table; other columns are ignored."""
    header = _header(path)
    for column in required:
        if column.name not in header:
            found = ", ".join(header) or "nothing"
            raise TraceError(f"{path}, line 1: no column {column.name} (found {found}); is this the right format?")
    columns = [*required, *(column for column in optional if column.name in header)]
    types = {column.name: column.kind.arrow for column in columns}
    options = pa.csv.ConvertOptions(include_columns=list(types), column_types=types)
    return _read(path, columns, lambda: pa.csv.read_csv(path, convert_options=options), _csv_records)


def field_names(path: Path) -> set[str]:
    """The names of the columns of a CSV file, or of the fields of the first object of a file of JSON lines."""
    header = _header(path)
    if header and header[0].lstrip().startswith("{"):
        return set(next((record for _, record in _json_records(path)), {}))
    return set(header)


def first_records(path: Path) -> Iterator[dict[str, str]]:
    """The records of a CSV file, as text by column name; nothing for a file without any."""
    if _header(path):
        yield from (record for _, record in _csv_records(path))


def read_json_lines(path: Path, required: Sequence[Column], optional: Sequence[Column] = ()) -> Any:
    """The named fields of a file with one JSON object a line, as an Arrow table; other fields are ignored.

    A field of `optional` that the first line does not have is no column of the table.
    """
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise _empty(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    first = next((record for _, record in _json_records(path)), {})
    columns = [*required, *(column for column in optional if column.may_lack or column.name in first)]
    schema = pa.schema([(column.name, column.kind.arrow) for column in columns])
    options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return _read(path, columns, lambda: pa.json.read_json(path, parse_options=options), _json_records)


def _read(
    path: Path,
    columns: Iterable[Column],
    read: Callable[[], Any],
    records: Callable[[Path], Iterator[Record]],
) -> Any:
    try:
        table = read()
    except pa.ArrowInvalid as error:
        _refuse(path, columns, records(path), str(error).splitlines()[0])
    if not table.num_rows:
        raise _empty(path)
    if not all(column.holds(table) for column in columns):
        _refuse(path, columns, records(path), "a value breaks a rule of this format")
    return table


def _refuse(path: Path, columns: Iterable[Column], records: Iterator[Record], otherwise: str) -> NoReturn:
    """Raise for the first line that breaks a rule, or with `otherwise` if no single line does."""
    for line, record in records:
        for column in columns:
            if fault := column.fault(record):
                raise TraceError(f"{path}, line {line}: {fault}")
    raise TraceError(f"{path}: {otherwise}")


def _header(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return next(csv.reader(file), [])
    except OSError as error:
        raise _unreadable(path, error) from None


def _csv_records(path: Path) -> Iterator[Record]:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file)
        header = next(reader)
        for fields in reader:
            if fields and len(fields) != len(header):
                raise TraceError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields, must be {len(header)} as in the header"
                )
            if fields:
                yield reader.line_num, dict(zip(header, fields, strict=True))


def _json_records(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line, text in enumerate(file, start=1):
            if text.isspace():
                continue
            try:
                fields = json.loads(text)
            except (ValueError, RecursionError):
                fields = None
            if not isinstance(fields, dict):
                raise TraceError(f"{path}, line {line}: must be one complete JSON object")
            yield line, {name: json.dumps(value) for name, value in fields.items()}


def _unreadable(path: Path, error: OSError) -> TraceError:
    return TraceError(f"{path}: cannot read this trace ({error.strerror or error}); check workload.path")


def _empty(path: Path) -> TraceError:
    return TraceError(f"{path}: no requests in this trace")
