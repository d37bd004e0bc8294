"""Requests that somebody measured, from the files that benchmarks write."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infertuner.errors import ValidationError
from infertuner.sources.requests import Floats
from infertuner.validation.runs import Run

COLUMNS = ("arrived_at_s", "first_token_at_s", "finished_at_s", "prompt_tokens", "output_tokens")
"""What a CSV of measured requests must have; `requests.parquet` of a run folder has the same names."""
NS_PER = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "sec": 10**9}
LARGEST = 10**7
"""The most tokens a request can have."""


@dataclass(frozen=True)
class _Row:
    """One answered request; instants on the clock of its file."""

    where: str
    arrived_at_s: float
    first_token_at_s: float
    finished_at_s: float
    prompt_tokens: int
    output_tokens: int
    gaps_s: tuple[float, ...] = ()


def read_measured(path: Path, columns: Mapping[str, str]) -> tuple[Run, int]:
    """The answered requests of a file by arrival, the first at 0 s, and how many failed requests were left out.

    A `.json` file is what `vllm bench serve --save-result --save-detailed` writes, a `.jsonl` file is aiperf's
    `profile_export.jsonl`, a `.csv` file has the columns `COLUMNS`, or others that `columns` names for them.
    """
    readers: dict[str, Callable[[str, str], Iterator[_Row | None]]] = {
        ".json": _vllm,
        ".jsonl": _aiperf,
        ".csv": partial(_csv, columns=columns),
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise ValidationError(
            f"{path}: cannot tell its format from {path.suffix!r}; give vLLM's .json, aiperf's .jsonl or a .csv"
        )
    if columns and path.suffix != ".csv":
        raise ValidationError(f"--column: names columns of a .csv; {path.name} has none, so leave it out")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValidationError(f"{path}: cannot be read ({reason}); give a file of measured requests") from None
    rows: list[_Row] = []
    failed = 0
    for row in reader(text, str(path)):
        if row is None:
            failed += 1
        else:
            rows.append(_checked(row))
    if not rows:
        raise ValidationError(f"{path}: has no answered request; measure at least one")
    return _run(rows), failed


def _run(rows: list[_Row]) -> Run:
    rows = sorted(rows, key=lambda row: row.arrived_at_s)
    start_s = rows[0].arrived_at_s
    known = all(row.gaps_s or row.output_tokens == 1 for row in rows)
    return Run(
        arrived_at_s=_floats(row.arrived_at_s - start_s for row in rows),
        first_token_at_s=_floats(row.first_token_at_s - start_s for row in rows),
        finished_at_s=_floats(row.finished_at_s - start_s for row in rows),
        prompt_tokens=np.array([row.prompt_tokens for row in rows], dtype=np.int64),
        output_tokens=np.array([row.output_tokens for row in rows], dtype=np.int64),
        gaps_s=[_floats(row.gaps_s) for row in rows] if known else (),
    )


def _floats(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)


def _checked(row: _Row) -> _Row:
    """A row whose instants are in order and whose sizes can be; otherwise a complaint that names its place."""
    if not row.arrived_at_s <= row.first_token_at_s <= row.finished_at_s:
        raise ValidationError(
            f"{row.where}: arrived at {row.arrived_at_s:g} s, first token at {row.first_token_at_s:g} s, finished at "
            f"{row.finished_at_s:g} s; these must rise, on one clock and in seconds"
        )
    for name in ("prompt_tokens", "output_tokens"):
        if not 1 <= getattr(row, name) <= LARGEST:
            raise ValidationError(f"{row.where}: {name} is {getattr(row, name)}; must be from 1 to {LARGEST}")
    return row


def _csv(text: str, name: str, columns: Mapping[str, str]) -> Iterator[_Row | None]:
    """Rows of a CSV; one without a finish or a first token is a failed request."""
    theirs = {ours: columns.get(ours, ours) for ours in COLUMNS}
    reader = csv.DictReader(text.splitlines())
    present = reader.fieldnames or ()
    for ours, there in theirs.items():
        if there not in present:
            raise ValidationError(
                f"{name}: no column {there!r} for {ours}; it has {', '.join(present)}. "
                f"Name the right one with --column {ours}=NAME"
            )
    for cells in reader:
        where = f"{name}, line {reader.line_num}"
        if not (cells[theirs["first_token_at_s"]] and cells[theirs["finished_at_s"]]):
            yield None
            continue
        at, first, end = (_number(where, theirs[ours], cells[theirs[ours]]) for ours in COLUMNS[:3])
        prompt, output = (_whole(where, theirs[ours], cells[theirs[ours]]) for ours in COLUMNS[3:])
        yield _Row(where, at, first, end, prompt, output)


def _vllm(text: str, name: str) -> Iterator[_Row | None]:
    """Requests of `vllm bench serve`; an error, or no output, is a failed request."""
    content = _json(text, name)
    arrays = ("start_times", "ttfts", "itls", "input_lens", "output_lens")
    if not isinstance(content, dict) or not all(isinstance(content.get(array), list) for array in arrays):
        missing = next((a for a in arrays if not (isinstance(content, dict) and isinstance(content.get(a), list))), "")
        raise ValidationError(
            f"{name}: no array {missing!r}; run vllm bench serve with --save-result --save-detailed, which writes it"
        )
    lengths = {array: len(content[array]) for array in arrays}
    if len(set(lengths.values())) > 1:
        raise ValidationError(f"{name}: arrays differ in length ({lengths}); the file is damaged, measure again")
    errors = content.get("errors") or [""] * lengths["ttfts"]
    for i, (start, ttft, itl, prompt, output) in enumerate(zip(*(content[array] for array in arrays), strict=True)):
        where = f"{name}, request {i}"
        if (i < len(errors) and errors[i]) or not output:
            yield None
            continue
        if not isinstance(itl, list):
            raise ValidationError(f"{where}: itls is {itl!r}; must be a list of seconds")
        gaps_s = tuple(_number(where, "itls", gap) for gap in itl)
        first_s = _number(where, "start_times", start) + _number(where, "ttfts", ttft)
        lengths_of = _whole(where, "input_lens", prompt), _whole(where, "output_lens", output)
        yield _Row(where, float(start), first_s, first_s + sum(gaps_s), *lengths_of, gaps_s)


def _aiperf(text: str, name: str) -> Iterator[_Row | None]:
    """Requests of aiperf's `profile_export.jsonl`; warm-up is skipped, an error is a failed request."""
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{name}, line {number}"
        if not line.strip():
            continue
        record = _json(line, where)
        metadata, metrics = (record.get(key) if isinstance(record, dict) else None for key in ("metadata", "metrics"))
        if not isinstance(metadata, dict) or not isinstance(metrics, dict):
            raise ValidationError(f"{where}: no metadata and metrics; give aiperf's profile_export.jsonl")
        if metadata.get("benchmark_phase", "profiling") != "profiling":
            continue
        if record.get("error"):
            yield None
            continue
        start_ns = _number(where, "request_start_ns", metadata.get("request_start_ns"))
        ttft_s = _quantity(where, metrics, "time_to_first_token")
        e2e_s = _quantity(where, metrics, "request_latency")
        prompt, output = (_size(where, metrics, f"{side}_sequence_length") for side in ("input", "output"))
        start_s = start_ns / NS_PER["s"]
        yield _Row(where, start_s, start_s + ttft_s, start_s + e2e_s, prompt, output)


def _quantity(where: str, metrics: Mapping[str, Any], name: str) -> float:
    """Seconds of an aiperf metric, which carries its unit."""
    metric = metrics.get(name)
    unit = metric.get("unit") if isinstance(metric, dict) else None
    if not isinstance(metric, dict) or unit not in NS_PER:
        raise ValidationError(f"{where}: {name} is {metric!r}; must have a value and a unit such as ms")
    return _number(where, name, metric.get("value")) * NS_PER[unit] / NS_PER["s"]


def _size(where: str, metrics: Mapping[str, Any], name: str) -> int:
    metric = metrics.get(name)
    return _whole(where, name, metric.get("value") if isinstance(metric, dict) else None)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValidationError(f"{where}: not JSON ({error}); the file is damaged or of another format") from None


def _number(where: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValidationError(f"{where}: {name} is {value!r}; must be a number, 0 or more")
    return number


def _whole(where: str, name: str, value: Any) -> int:
    number = _number(where, name, value)
    if number != int(number):
        raise ValidationError(f"{where}: {name} is {value!r}; must be a whole number")
    return int(number)
