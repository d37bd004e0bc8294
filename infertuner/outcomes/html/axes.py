"""What all figures of a page have in common: axes, labels that fit a phone, and how far intervals reach."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any, TypeAlias

from infertuner.outcomes.statistics import Interval

Chart: TypeAlias = dict[str, Any]
"""Data and layout as plotly reads them."""

LABEL_WIDTH = 26
"""Letters in a line of an arm's label; a phone has room for no more."""
NO_BREAK = "\u00a0"
LINE_PX, ROW_PX, FRAME_PX = 17, 16, 78


def text(value: object) -> str:
    """Plain text as plotly wants it: it reads some HTML in labels."""
    return escape(str(value), quote=False)


def by_arm(data: list[Chart], labels: Sequence[str], x: str) -> Chart:
    """A chart with a line an arm, the first on top, as high as its labels need."""
    unbroken = [", ".join(word.replace(" ", NO_BREAK) for word in label.split(", ")) for label in labels]
    wrapped = [textwrap.wrap(label, LABEL_WIDTH, max_lines=3, placeholder=" …") or [""] for label in unbroken]
    height = FRAME_PX + sum(ROW_PX + LINE_PX * len(lines) for lines in wrapped)
    down = {
        "tickvals": list(range(len(labels))),
        "ticktext": ["<br>".join(map(text, lines)) for lines in wrapped],
        "range": [len(labels) - 0.45, -0.55],
        "showgrid": False,
        "zeroline": False,
    }
    chart = chart_of(data, {"title": {"text": text(x)}, "rangemode": "tozero"}, down, height)
    chart["layout"]["hovermode"] = "closest"
    return chart


def chart_of(data: list[Chart], across: Chart, down: Chart, height: int) -> Chart:
    """A chart in the style of the page, from its data and what its axes say."""
    axis = {
        "gridcolor": "--line",
        "zerolinecolor": "--line",
        "linecolor": "--soft",
        "automargin": True,
        "exponentformat": "SI",
    }
    return {
        "data": data,
        "layout": {
            "height": height,
            "margin": {"l": 8, "r": 14, "t": 8, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 12.5, "color": "--ink"},
            "hoverlabel": {"bgcolor": "--raised", "bordercolor": "--line", "font": {"color": "--ink"}},
            "showlegend": False,
            "xaxis": axis | across,
            "yaxis": axis | down,
        },
    }


def reach_of(values: Sequence[Interval], colour: str) -> Chart:
    """How far each interval reaches to both sides of its mean."""
    above = [None if v.mean is None or v.ci_high is None else v.ci_high - v.mean for v in values]
    below = [None if v.mean is None or v.ci_low is None else v.mean - v.ci_low for v in values]
    known = any(above) or any(below)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "visible": known,
            "color": colour, "thickness": 1.3, "width": 4}  # fmt: skip


def seconds(intervals: Sequence[Interval]) -> tuple[float, str]:
    """The unit in which durations are read best, as a factor from seconds and its name."""
    most = max((abs(value.mean) for value in intervals if value.mean is not None), default=1.0)
    scales = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"))
    return next(((factor, unit) for least, factor, unit in scales if most >= least), (1e6, "µs"))
