"""Interactive figures of a page, as data that plotly draws in the browser.

Colours are names of the page's CSS variables, so that one figure is right in light, in dark and on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TypeAlias

from infertuner.outcomes.html.axes import Chart, by_arm, chart_of, reach_of, text
from infertuner.outcomes.html.page import script_json
from infertuner.outcomes.statistics import Interval

Numbers: TypeAlias = Sequence[float | None]

COLOURS = tuple(f"--c{place}" for place in range(8))
GLYPHS = "●■◆▲✖✚★⬢"
"""The symbols below as letters, for the legend."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot")
DODGE = 0.14
"""Distance of the groups of one arm, where the next arm is 1 away."""
WIDE = 16
"""Ratio of the ends of an axis beyond which it is logarithmic."""


def figure(heading: str, chart: Chart, caption: str) -> str:
    """A chart with its heading and a caption that says what to see for those who cannot."""
    return (
        f"<figure>\n<h3>{escape(heading)}</h3>\n{_legend(chart['data'])}"
        f'<div class="plot" role="img" aria-label="{escape(f"{heading}. {caption}")}" '
        f'style="height:{chart["layout"]["height"]}px"></div>\n'
        f'<script type="application/json" class="chart">{script_json(chart)}</script>\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
    )


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[Interval]]],
    x: str,
    y: str,
    *,
    references: Mapping[str, tuple[Sequence[float], Numbers]] | None = None,
    log_x: bool = False,
    ticks: bool = True,
    from_zero: bool = True,
) -> Chart:
    """Lines of means with their intervals over a number; references are thin lines without points.

    ticks: whether the axis is marked at the points alone, as where they are GPUs.
    """
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": text(label),
            "x": list(places),
            "y": [value.mean for value in values],
            "error_y": reach_of(values, colour),
            "line": {"color": colour, "width": 2, "dash": DASHES[place // len(COLOURS) % len(DASHES)]},
            "marker": {"color": colour, "size": 7, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        }
        for place, (label, (places, values)) in enumerate(lines.items())
        for colour in (COLOURS[place % len(COLOURS)],)
    ]
    data += [
        {
            "type": "scatter",
            "mode": "lines",
            "name": text(label),
            "x": list(places),
            "y": list(values),
            "line": {"color": "--soft", "width": 1.5, "dash": DASHES[1 + place % 3]},
        }
        for place, (label, (places, values)) in enumerate((references or {}).items())
    ]
    points = sorted({place for places, _ in lines.values() for place in places})
    across: Chart = {"title": {"text": text(x)}, "type": "log" if log_x else "linear"}
    if log_x:
        across["dtick"] = "D2"
    if ticks and len(points) <= 12:
        across |= {"tickvals": points, "ticktext": [f"{point:,g}" for point in points]}
    return chart_of(data, across, {"title": {"text": text(y)}, "rangemode": "tozero" if from_zero else "normal"}, 380)


def tracks(
    lines: Mapping[str, tuple[Iterable[float], Iterable[float]]], x: str, y: str, *, step: bool = False
) -> Chart:
    """Lines over time, without points; a value that is not a number is a gap."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": text(label),
            "x": [float(place) for place in places],
            "y": [None if math.isnan(value) else float(value) for value in values],
            "line": {
                "color": COLOURS[number % len(COLOURS)], "width": 1.8, "shape": "hv" if step else "linear",
                "dash": DASHES[number // len(COLOURS) % len(DASHES)],
            },
        }
        for number, (label, (places, values)) in enumerate(lines.items())
    ]  # fmt: skip
    return chart_of(data, {"title": {"text": text(x)}}, {"title": {"text": text(y)}, "rangemode": "tozero"}, 360)


def dots(labels: Sequence[str], groups: Mapping[str, Sequence[Interval]], x: str) -> Chart:
    """One line an arm, a point and an interval a group: percentiles, or a metric.

    The axis is logarithmic where some means are so much longer than others that these would lie on the edge.
    """
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": text(name),
            "x": [value.mean for value in values],
            "y": [arm + DODGE * (place - (len(groups) - 1) / 2) for arm in range(len(labels))],
            "error_x": reach_of(values, COLOURS[place % len(COLOURS)]),
            "marker": {"color": COLOURS[place % len(COLOURS)], "size": 9, "symbol": SYMBOLS[place % len(SYMBOLS)]},
            "customdata": [text(label) for label in labels],
            "hovertemplate": "%{customdata}<br>%{x:.4~g}",
        }
        for place, (name, values) in enumerate(groups.items())
    ]
    chart = by_arm(data, labels, x)
    means = [value.mean for values in groups.values() for value in values if value.mean is not None]
    if means and min(means) > 0 and max(means) > WIDE**2 * min(means):
        chart["layout"]["xaxis"] |= {"type": "log", "dtick": 1}
    return chart


def stack(
    labels: Sequence[str], parts: Mapping[str, Numbers], x: str, marks: Mapping[str, Numbers] | None = None
) -> Chart:
    """One bar an arm, made of its parts; marks are strokes across it, as of a ceiling."""
    data: list[Chart] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": text(name),
            "x": [value or 0.0 for value in values],
            "y": list(range(len(labels))),
            "width": 0.62,
            "marker": {"color": "--pale" if name == "miss" else COLOURS[place % len(COLOURS)], "line": {"width": 0}},
            "customdata": [text(label) for label in labels],
            "hovertemplate": "%{customdata}<br>%{x:.4~g}",
        }
        for place, (name, values) in enumerate(parts.items())
    ]
    data += [
        {
            "type": "scatter",
            "mode": "markers",
            "name": text(name),
            "x": list(values),
            "y": list(range(len(labels))),
            "marker": {"symbol": "line-ns-open", "size": 22, "color": colour, "line": {"width": 3, "color": colour}},
            "hovertemplate": "%{x:.4~g}",
        }
        for (name, values), colour in zip((marks or {}).items(), ("--ink", COLOURS[3]), strict=False)
    ]
    chart = by_arm(data, labels, x)
    chart["layout"] |= {"barmode": "stack"}
    return chart


def scatter(
    groups: Mapping[str, tuple[Numbers, Numbers, Sequence[str]]],
    x: str,
    y: str,
    *,
    colours: Sequence[str] = COLOURS,
    ring: tuple[str, float, float] | None = None,
    limit: tuple[str, float] | None = None,
    front: Sequence[tuple[float, float]] = (),
    log_y: bool = False,
) -> Chart:
    """Points in groups that name themselves under the pointer, with a limit on y and the front of the best.

    groups: name to (x, y, what each point is). ring: name and place of the point to look at.
    """
    data: list[Chart] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": text(name),
            "x": list(xs),
            "y": list(ys),
            "customdata": [text(label) for label in labels],
            "hovertemplate": "%{customdata}<br>%{x:.4~g}, %{y:.4~g}",
            "marker": {"color": colours[place % len(colours)], "size": 9, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        }
        for place, (name, (xs, ys, labels)) in enumerate(groups.items())
    ]
    if front:
        line = {"color": "--pale", "width": 7}
        xs, ys = ([point[axis] for point in front] for axis in (0, 1))
        data.insert(
            0, {"type": "scatter", "mode": "lines", "name": "nothing is better", "x": xs, "y": ys, "line": line}
        )
    if ring is not None:
        name, across, up = ring
        marker = {"symbol": "circle-open", "size": 20, "color": "--ink", "line": {"width": 2}}
        data.append(
            {"type": "scatter", "mode": "markers", "name": text(name), "x": [across], "y": [up], "marker": marker}
        )
        data[-1]["hoverinfo"] = "skip"
    down: Chart = {"title": {"text": text(y)}} | ({"type": "log"} if log_y else {"rangemode": "tozero"})
    chart = chart_of(data, {"title": {"text": text(x)}, "rangemode": "tozero"}, down, 420)
    if limit is not None:
        name, value = limit
        shape = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value}
        chart["layout"]["shapes"] = [shape | {"line": {"color": "--bad", "width": 1.5, "dash": "dash"}}]
        place = math.log10(value) if log_y else value
        chart["layout"]["annotations"] = [
            {"xref": "paper", "x": 1, "xanchor": "right", "y": place, "yanchor": "bottom", "text": text(name),
             "showarrow": False, "font": {"color": "--bad"}}
        ]  # fmt: skip
    return chart


def _legend(data: Sequence[Chart]) -> str:
    """Names of the lines as buttons that hide and show them; nothing beside a single one."""
    if len(data) < 2:
        return ""
    buttons = "\n".join(
        f'<button type="button" aria-pressed="true"><span aria-hidden="true" style="color:var({colour})">{glyph}</span>'
        f"{trace['name']}</button>"
        for trace in data
        for glyph, colour in (_glyph(trace),)
    )
    return f'<div class="legend" role="group" aria-label="Legend">\n{buttons}\n</div>\n'


def _glyph(trace: Chart) -> tuple[str, str]:
    """How a line, a bar or a point looks in the legend, and its colour."""
    if trace["type"] == "bar":
        return "■", trace["marker"]["color"]
    if "marker" not in trace:
        return "—", trace["line"]["color"]
    symbol = trace["marker"]["symbol"]
    glyph = GLYPHS[SYMBOLS.index(symbol)] if symbol in SYMBOLS else "◯" if symbol == "circle-open" else "|"
    return glyph, trace["marker"]["color"]
