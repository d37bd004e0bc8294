"""Figures of continuous engines: what each arm's latencies are made of, and one run over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from infertuner.outcomes.figures import COLOURS, Row, blank_figure, labels_of, reach_of
from infertuner.outcomes.latencies import TTFT_PARTS
from infertuner.outcomes.segments import OverTime, over_time
from infertuner.outcomes.statistics import Interval
from infertuner.records import Records
from infertuner.sources.requests import Floats
from infertuner.units import format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PART_COLOURS = ("#6b6b6b", "#a23b72", "#8c6d1f", "#1f5fa8", "#9cc3e6", "#d9822b")
BINS = 150
"""Points of a curve: more would only be noise at a figure's width."""


def draw_engines(title: str, rows: Sequence[Row], conditions: Sequence[Row]) -> Figure | None:
    """Each arm's TTFT by its parts, its gaps between tokens and its throughput; None where no arm can tell."""
    known = [place for place, row in enumerate(rows) if row["itl_mean_s"].mean is not None]
    if not known:
        return None
    labels = [labels_of(conditions)[place] or "all" for place in known]
    shown = [rows[place] for place in known]
    places = np.arange(len(shown))
    with blank_figure(title, columns=3) as (figure, (left, middle, right)):
        bottom = np.zeros(len(shown))
        for part, colour in zip(TTFT_PARTS, PART_COLOURS, strict=True):
            heights = np.array([row[f"ttft_{part}_mean_s"].mean or 0.0 for row in shown])
            if heights.any():
                left.barh(places, heights, 0.6, left=bottom, color=colour, label=part.replace("_", " "))
            bottom += heights
        for place, total_s in zip(places, bottom, strict=True):
            left.annotate(format_seconds(total_s), (total_s, place), (4, 0), textcoords="offset points", va="center")
        left.set_title("Mean time to first token")
        left.set_xlabel("s")
        gaps = [("itl_p50_s", "median"), ("itl_mean_s", "mean"), ("itl_p95_s", "p95"), ("itl_p99_s", "p99")]
        for (name, label), colour in zip(gaps, COLOURS, strict=False):
            _points(middle, [row[name] for row in shown], colour, label)
        middle.set_title("Gaps between tokens")
        middle.set_xlabel("s")
        _points(right, [row["throughput_per_s"] for row in shown], COLOURS[0])
        right.set_title("Throughput")
        right.set_xlabel("requests / s")
        for axes in (left, middle, right):
            axes.set_yticks(places, labels if axes is left else [""] * len(labels))
            axes.set_ylim(len(shown) - 0.5, -0.5)
            axes.margins(x=0.08)
            axes.autoscale_view()
            axes.set_xlim(left=0)
            axes.grid(visible=False, axis="y")
        left.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3)
        middle.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=4)
    return figure


def _points(axes: Axes, values: Sequence[Interval], colour: str, label: str | None = None) -> None:
    means = [value.mean if value.mean is not None else float("nan") for value in values]
    places = range(len(values))
    axes.errorbar(means, places, xerr=reach_of(values), fmt="o", ms=6, capsize=3, color=colour, label=label)


def draw_over_time(title: str, records: Records) -> Figure:
    """Requests running and waiting, batch size and KV blocks of one run, all GPUs together."""
    edges_s = np.linspace(0.0, records.ended_at_s, BINS + 1)
    curves = over_time(records, edges_s)
    with blank_figure(title, columns=2) as (figure, (left, right)):
        _step(left, curves, curves.running, COLOURS[0], "running")
        _step(left, curves, curves.waiting, COLOURS[1], "waiting for a GPU")
        if records.num_gpus > 1:
            _step(left, curves, curves.batch_size(), COLOURS[2], "batch size of a busy GPU")
        left.set_title("Requests")
        capacity = sum(records.kv_blocks)
        _step(right, curves, curves.kv_blocks / (capacity or 1), COLOURS[3])
        right.set_title("KV blocks held by running requests")
        right.set_ylabel("share of all" if capacity else "blocks")
        if capacity:
            right.set_ylim(0, 1)
        for axes in (left, right):
            axes.set_xlabel("simulated time, s")
            axes.set_xlim(0, records.ended_at_s)
            axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower left", ncols=3)
    return figure


def _step(axes: Axes, curves: OverTime, values: Floats, colour: str, label: str | None = None) -> None:
    axes.stairs(values, curves.edges_s, baseline=None, color=colour, lw=1.3, label=label)
