"""Requests that somebody measured, or simulated: results files of benchmarks and run folders, told apart by content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from infertuner.errors import ValidationError
from infertuner.sources.requests import Floats
from infertuner.validation import file_formats
from infertuner.validation.file_formats import COLUMNS, Rows
from infertuner.validation.file_rows import Row, parsed
from infertuner.validation.runs import Run

LARGEST = 10**7
"""The most tokens a request can have."""
REQUESTS = "requests.parquet"
KNOWN = "a run folder, vLLM's, GuideLLM's or inference-perf's .json, AIPerf's or sglang's .jsonl, or a .csv"


def read_measured(path: Path, columns: Mapping[str, str]) -> tuple[Run, int]:
    """The answered requests of a file by arrival, the first at 0 s, and how many failed requests were left out.

    path: a run folder, or a file of the formats of `file_formats`. columns: what a .csv calls those of `COLUMNS`.
    """
    if columns and path.suffix != ".csv":
        raise ValidationError(f"--column: names columns of a .csv; {path.name} has none, so leave it out")
    if path.is_dir() or path.name == REQUESTS:
        return _run_folder(path)
    found: list[Row] = []
    failed = 0
    content, has_arrivals = _rows(path, columns)
    for row in content:
        if row is None:
            failed += 1
        else:
            found.append(_checked(row))
    if not found:
        raise ValidationError(f"{path}: has no answered request; measure at least one")
    return _run(found, has_arrivals), failed


def _rows(path: Path, columns: Mapping[str, str]) -> tuple[Rows, bool]:
    """The rows of a file, and whether it says when they were sent."""
    name = str(path)
    if path.suffix not in (".csv", ".json", ".jsonl"):
        raise ValidationError(f"{path}: cannot tell its format from {path.suffix!r}; give {KNOWN}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValidationError(f"{path}: cannot be read ({reason}); give a file of measured requests") from None
    if path.suffix == ".csv":
        return file_formats.csv_rows(text, name, columns), True
    if path.suffix == ".jsonl":
        lines = [line for line in text.splitlines() if line.strip()]
        first = parsed(lines[0], f"{name}, line 1") if lines else {}
        if isinstance(first, dict) and "ttfts" in first:
            if len(lines) > 1:
                raise ValidationError(f"{path}: holds {len(lines)} runs, one a line; keep the line of one")
            return _detailed(first, name)
        return file_formats.aiperf_rows(text, name), True
    content = parsed(text, name)
    if isinstance(content, list):
        return file_formats.inference_perf_rows(content, name), True
    if isinstance(content, dict) and "benchmarks" in content:
        return file_formats.guidellm_rows(content, name), True
    return file_formats.vllm_rows(content if isinstance(content, dict) else {}, name), True


def _detailed(content: Mapping[str, object], name: str) -> tuple[Rows, bool]:
    """vLLM's arrays, or sglang's, which have no start times."""
    if "start_times" in content:
        return file_formats.vllm_rows(content, name), True
    return file_formats.sglang_rows(content, name), False


def results_file(path: Path) -> Path:
    """The file that has the requests: of a run folder, its table of them."""
    return path / REQUESTS if path.is_dir() else path


def _run_folder(path: Path) -> tuple[Run, int]:
    """The first run of a simulation's only arm; what was not answered in it counts as failed."""
    file = results_file(path)
    try:
        frame = pd.read_parquet(file, columns=["arm", *COLUMNS])
    except (OSError, ValueError) as error:
        reason = "there is none" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise ValidationError(
            f"{file}: cannot be read ({reason}); give the folder of python -m infertuner.simulate with driver: serving"
        ) from None
    if (arms := frame["arm"].nunique()) > 1:
        raise ValidationError(f"{file}: holds {arms} arms; simulate one of them, with --set for the varied keys")
    answered = frame[frame["finished_at_s"].notna()].sort_values("arrived_at_s", kind="stable")
    if not len(answered):
        raise ValidationError(f"{file}: has no answered request; simulate at least one")
    start_s = answered["arrived_at_s"].iloc[0]
    at_s, first_s, last_s = ((answered[name] - start_s).to_numpy(dtype=np.float64) for name in COLUMNS[:3])
    prompt_tokens, output_tokens = (answered[name].to_numpy(dtype=np.int64) for name in COLUMNS[3:])
    return Run(at_s, first_s, last_s, prompt_tokens, output_tokens), int(frame["arrived_at_s"].notna().sum()) - len(
        answered
    )


def _run(rows: list[Row], has_arrivals: bool) -> Run:
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
        has_arrivals=has_arrivals,
    )


def _floats(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)


def _checked(row: Row) -> Row:
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
