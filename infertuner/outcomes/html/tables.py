"""Tables of a page: numbers as people read them, sorted by their exact values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from infertuner.outcomes.console import format_cell
from infertuner.outcomes.statistics import Interval

VERDICTS = ("meets", "fails", "refuted", "stable", "saturated", "best", "worse")
"""Words that have a colour of their own; the word itself says it all."""

NARROW = 12
"""Letters up to which a heading stays on one line."""
TALL = 30
"""Rows from which on a table scrolls within the page."""
LONG = 32
"""Letters from which on a cell may be broken into lines."""


def table(caption: str, rows: Sequence[Mapping[str, Any]], chosen: Collection[int] = ()) -> str:
    """Rows as a table that sorts by a click on a heading; a single row stands upright, a line a column.

    rows: all have the columns of the first, whose names say the units. chosen: rows to mark.
    """
    if not rows:
        return ""
    if len(rows) == 1:
        return _scroll(caption, _upright(rows[0]))
    names = list(rows[0])
    is_text = {name: any(isinstance(row[name], str) for row in rows) for name in names}
    head = "".join(
        f'<th scope="col" data-kind="{"text" if is_text[name] else "number"}"{" class=text" if is_text[name] else ""}>'
        f'<button type="button">{heading(name)}</button></th>'
        for name in names
    )
    body = "\n".join(
        f"<tr{' class=chosen' if place in chosen else ''}>"
        + "".join(_cell(name, row[name], is_text=is_text[name]) for name in names)
        + "</tr>"
        for place, row in enumerate(rows)
    )
    return _scroll(
        caption,
        f'<table class="sortable">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>',
        tall=len(rows) > TALL,
    )


def heading(name: str) -> str:
    """A column's name, which may be broken where its words end."""
    shown = escape(name)
    return shown if len(name) <= NARROW else shown.replace("_", "_<wbr>").replace(".", ".<wbr>")


def _upright(row: Mapping[str, Any]) -> str:
    lines = "\n".join(
        f'<tr><th scope="row" class="text">{escape(name)}</th>{_cell(name, value, is_text=isinstance(value, str))}</tr>'
        for name, value in row.items()
    )
    return f"<table>\n<tbody>\n{lines}\n</tbody>\n</table>"


def _cell(name: str, value: Any, *, is_text: bool) -> str:
    shown = format_cell(name, value)
    classes = ["text"] if is_text else []
    classes += ["long"] if len(shown) > LONG else []
    classes += [shown] if shown in VERDICTS else []
    kind = f' class="{" ".join(classes)}"' if classes else ""
    return f'<td{kind} data-value="{escape(_key(value))}">{escape(shown)}</td>'


def _key(value: Any) -> str:
    """What a column is sorted by; nothing where the value is missing."""
    value = value.mean if isinstance(value, Interval) else value
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _scroll(caption: str, table: str, *, tall: bool = False) -> str:
    """A table wider than the page scrolls by itself, by keys as well; a tall one under its headings."""
    kind = "scroll tall" if tall else "scroll"
    return f'<div class="{kind}" role="region" tabindex="0" aria-label="{escape(caption)}">\n{table}\n</div>'
