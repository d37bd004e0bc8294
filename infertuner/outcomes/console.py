"""Tables for people: units from column names on a terminal, plain aligned text in a pipe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from infertuner.outcomes.statistics import Interval
from infertuner.units import format_number, format_seconds

Rows: TypeAlias = Sequence[Mapping[str, object]]
"""One mapping a row, column name to value; all rows have the columns of the first."""

PIPE_WIDTH = 10_000


def print_table(title: str, rows: Rows | pd.DataFrame, console: Console) -> None:
    """Print `rows` under `title`; a pipe gets every column in full, however wide, and no lines or colours.

    A table too wide for its terminal is turned on its side, a column a row, where that makes it narrower.
    """
    if isinstance(rows, pd.DataFrame):
        rows = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    if not console.is_terminal:
        console = Console(file=console.file, width=PIPE_WIDTH, color_system=None)
    names = list(rows[0]) if rows else []
    cells = [[format_cell(name, row[name]) for name in names] for row in rows]
    is_text = [any(isinstance(row[name], str) for row in rows) for name in names]
    table = _table(console, zip(names, is_text, strict=True), cells)
    if rows and _width(table, console) > console.width:
        first, *others = zip(names, *cells, strict=True)
        turned = _table(console, zip(first, [True] + [False] * len(rows), strict=True), others)
        table = min(table, turned, key=lambda candidate: _width(candidate, console))
    console.print(title, markup=False, highlight=False, style="italic")
    console.print(table, markup=False, highlight=False)


def _width(table: Table, console: Console) -> int:
    """Columns of the terminal that a table would like to have."""
    return Measurement.get(console, console.options.update(width=PIPE_WIDTH), table).maximum


def _table(console: Console, columns: Iterable[tuple[str, bool]], cells: Iterable[Sequence[str]]) -> Table:
    """A table of formatted cells; columns are (heading, whether they hold text)."""
    table = Table(box=box.SIMPLE if console.is_terminal else None)
    for heading, is_text in columns:
        table.add_column(heading, justify="left" if is_text else "right", overflow="fold")
    for row in cells:
        table.add_row(*row)
    return table


def format_cell(name: str, value: object) -> str:
    """`value` as people read it, in the unit that its column name ends in.

    >>> format_cell("ttft_mean_s", 0.0123), format_cell("hit_ratio", Interval(0.5, 0.4, 0.6, 8)), format_cell("n", None)
    ('12.3 ms', '50.0 % ± 10.0 %', '-')
    """
    if isinstance(value, Interval):
        return _format_interval(name, value)
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return _format_float(name, value)
    return f"{value:,}" if type(value) is int else str(value)


def _format_float(name: str, value: float, digits: int = 3) -> str:
    if name.endswith("_ratio"):
        return f"{100 * value:.1f} %"
    if name.endswith("_s") and not name.endswith("per_s"):
        return format_seconds(value, digits)
    return format_number(value, digits)


def _format_interval(name: str, value: Interval) -> str:
    """Mean ± half-width; an interval that is not symmetric, as of a ratio, keeps its two ends."""
    mean = format_cell(name, value.mean)
    if value.mean is None or value.ci_low is None or value.ci_high is None:
        return mean
    below, above = value.mean - value.ci_low, value.ci_high - value.mean
    if max(below, above) <= 1e-9 * abs(value.mean):
        return f"{mean} ± 0"
    if math.isclose(below, above, rel_tol=1e-6, abs_tol=1e-12):
        return f"{mean} ± {_format_float(name, above, digits=2)}"
    return f"{mean} ({_format_float(name, value.ci_low)} to {_format_float(name, value.ci_high)})"
