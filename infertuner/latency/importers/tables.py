"""Published tables of kernel times, looked up between their rows; and reading them without believing too much."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from infertuner.errors import CalibrationError

Node: TypeAlias = "float | tuple[list[float], list[Node]]"


class Table:
    """A function of several axes, known at the rows of a table; linear between rows, axis by axis, and beyond them.

    Rows need not form a full grid: each value of an axis has its own values of the next. Linear and not in logarithms,
    because kernels cost a constant plus what they do: blending logarithms errs by a tenth upwards on doubling grids.
    """

    def __init__(self, rows: Iterable[tuple[Sequence[float], float]]) -> None:
        self._root = _node([(tuple(at), value) for at, value in rows])

    def __call__(self, *at: float) -> float:
        """The value at one place; exact on a row."""
        return _look_up(self._root, at)


def _node(rows: list[tuple[tuple[float, ...], float]]) -> Node:
    """Rows that agree on the axes so far, keyed by the next axis; of repeated rows the last counts."""
    if not rows[0][0]:
        return rows[-1][1]
    below: dict[float, list[tuple[tuple[float, ...], float]]] = {}
    for at, value in rows:
        below.setdefault(at[0], []).append((at[1:], value))
    keys = sorted(below)
    return keys, [_node(below[key]) for key in keys]


def _look_up(node: Node, at: Sequence[float]) -> float:
    if isinstance(node, float):
        return node
    keys, children = node
    place = bisect_right(keys, at[0])
    if place and keys[place - 1] == at[0]:
        return _look_up(children[place - 1], at[1:])
    if len(keys) == 1:
        return _look_up(children[0], at[1:])
    i = min(max(place - 1, 0), len(keys) - 2)
    low, high = _look_up(children[i], at[1:]), _look_up(children[i + 1], at[1:])
    return low + (high - low) * (at[0] - keys[i]) / (keys[i + 1] - keys[i])


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV or parquet file that has at least these columns."""
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except FileNotFoundError:
        raise CalibrationError(f"--import: {path}: no such file; give the path of a published table") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CalibrationError(f"--import: {path}: cannot be read ({reason}); download it again") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise CalibrationError(
            f"--import: {path}: no column {missing[0]!r}; it has {', '.join(map(str, table.columns))}. "
            "Is this the right format?"
        )
    numbers = table[[column for column in columns if column in NUMBERS]].apply(pd.to_numeric, errors="coerce")
    wrong = numbers.isna().any(axis=1) | (numbers < 0).any(axis=1)
    if wrong.any():
        row = int(wrong.to_numpy().argmax()) + 1
        raise CalibrationError(f"--import: {path}, row {row}: not a number, or below 0; the table is damaged")
    if table.empty:
        raise CalibrationError(f"--import: {path}: has no rows; download it again")
    return table.assign(**{column: numbers[column] for column in numbers.columns})


NUMBERS = {
    "time_us", "tokens", "sequences", "prefill_chunk", "kv_prefill", "n_decode", "kv_decode",
    "m", "n", "k", "latency", "batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim",
    "window_size", "num_gpus", "message_size", "prompt_size", "token_size", "prompt_time", "token_time",
    "tensor_parallel",
}  # fmt: skip
"""Columns whose cells must be numbers from 0 up."""


def sha256_of_all(paths: Iterable[Path]) -> str:
    """One SHA-256 over several files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
