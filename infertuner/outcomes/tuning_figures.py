"""The figure of a tuning: what was evaluated, by cost and latency, with the front that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from infertuner.outcomes.figures import COLOURS, Row, blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_tuning(title: str, rows: Sequence[Row], latency: str, limit_s: float | None, unit: str) -> Figure:
    """Cost against a latency, a point a configuration; the line joins those that nothing beats in both.

    rows: as evaluated, with cost_per_hour, verdict, saturation, answer and the latency as an interval.
    limit_s: that of the objective on this latency, where it has one.
    """
    known = [row for row in rows if row[latency].mean is not None]
    saturated = [row for row in known if row["saturation"] == "saturated"]
    steady = [row for row in known if row["saturation"] != "saturated"]
    meets = [row for row in steady if row["verdict"] == "meets"]
    others = [row for row in steady if row["verdict"] != "meets"]
    with blank_figure(title, columns=1) as (figure, (axes,)):
        for chosen, name, colour, marker in (
            (meets, "meets the objectives", COLOURS[2], "o"),
            (others, "does not, or not surely", COLOURS[1], "s"),
            (saturated, "saturated", COLOURS[4], "x"),
        ):
            if chosen:
                axes.scatter(*_places(chosen, latency), s=45, color=colour, marker=marker, label=name)
        front = _staircase(list(zip(*_places(steady, latency), strict=True)))
        if front:
            axes.plot(*zip(*front, strict=True), color="black", lw=6, alpha=0.12, label="nothing is better")
        if answer := [row for row in known if row["answer"]]:
            x, y = _places(answer, latency)
            axes.scatter(x, y, s=260, facecolors="none", edgecolors="black", lw=1.5, label="answer")
        if limit_s is not None:
            axes.axhline(limit_s, color=COLOURS[7], ls="--", lw=1, label="objective")
        if known:
            axes.set_yscale("log")
            axes.legend()
        axes.set_xlabel("GPUs" if unit == "GPUs" else "cost an hour")
        axes.set_ylabel(f"{latency.removesuffix('_s').replace('_', ' ')}, s")
    return figure


def _places(rows: Sequence[Row], latency: str) -> tuple[list[float], list[float]]:
    return [row["cost_per_hour"] for row in rows], [row[latency].mean for row in rows]


def _staircase(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points than which no other is both cheaper and faster, by rising cost."""
    front: list[tuple[float, float]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front
