"""Figures of caches of many tiers: what size buys, what it costs, and what controllers do over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from infertuner.outcomes.figures import COLOURS, blank_figure, labels_of, reach_of
from infertuner.outcomes.window import view
from infertuner.records import Records
from infertuner.sources.requests import Floats, OpenLoop

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row: TypeAlias = Mapping[str, Any]

STRETCHES = 96
"""Equal stretches of a run over which hits are averaged: a quarter of an hour of a day."""
GREY = "#555555"
STYLES = [(colour, dashes, marker) for (dashes, marker), colour in product((("-", "o"), ("--", "s")), COLOURS)]
"""Colour, dashes and marker of each line, so that more lines than colours stay apart."""


def draw_tiers(title: str, rows: Sequence[Row], conditions: Sequence[Row]) -> Figure | None:
    """Hits over size against the oracles where arms differ in size, otherwise arm by arm; beside it what they cost."""
    if not rows or any(row["hit_ratio"].mean is None for row in rows):
        return None
    lines = _lines(rows, conditions)
    with blank_figure(title, columns=2) as (figure, (left, right)):
        if any(len({row["capacity_mean"].mean for row in line}) > 1 for line in lines.values()):
            _draw_sizes(left, lines)
            _draw_worth(right, lines)
            handles, named = left.get_legend_handles_labels()
            figure.legend(handles, named, loc="outside lower center", ncols=6, fontsize=9)
        else:
            _draw_arms(left, right, rows, labels_of(conditions))
            figure.legend(loc="outside lower center", ncols=5)
    return figure


def _but_capacity(conditions: Sequence[Row]) -> list[str]:
    """What arms differ in besides their capacity, in as few words as tell them apart."""
    kept = [{key: value for key, value in condition.items() if "capacity" not in key} for condition in conditions]
    return [str(*one.values()) for one in kept] if len(kept[0]) == 1 else labels_of(kept)


def _lines(rows: Sequence[Row], conditions: Sequence[Row]) -> dict[str, list[Row]]:
    """Arms that differ in capacity alone, by rising capacity, under what they have in common."""
    lines: dict[str, list[Row]] = {}
    for row, label in zip(rows, _but_capacity(conditions), strict=True):
        lines.setdefault(label, []).append(row)
    return {label: sorted(line, key=lambda row: row["capacity_mean"].mean or 0.0) for label, line in lines.items()}


def _draw_sizes(axes: Axes, lines: Mapping[str, Sequence[Row]]) -> None:
    """One line a policy, between the exact LRU of the same size and the best of all policies."""
    bounds = {row["capacity_mean"].mean: row for line in lines.values() for row in line}
    sizes = sorted(size for size in bounds if size is not None)
    for name, label, style in (
        ("ceiling_hit_ratio", "ceiling: all but first uses", ":"),
        ("belady_hit_ratio", "Belady", "--"),
        ("lru_hit_ratio", "LRU, exact", "-"),
    ):
        means = [bounds[size][name].mean for size in sizes]
        if None not in means:
            axes.plot(sizes, means, ls=style, color=GREY, lw=4 if style == "-" else 1, alpha=0.6, label=label)
    _draw_lines(axes, lines, "capacity_mean", "hit_ratio")
    _log_axis(axes, sizes)
    axes.set_ylim(0, 1)
    axes.set_xlabel("capacity, bytes or entries")
    axes.set_ylabel("share of lookups")
    axes.set_title("Hits by size")


def _draw_lines(axes: Axes, lines: Mapping[str, Sequence[Row]], x: str, y: str) -> None:
    for (colour, dashes, marker), (label, line) in zip(cycle(STYLES), lines.items()):
        values = [row[y] for row in line]
        axes.errorbar(
            [row[x].mean for row in line],
            [value.mean for value in values],
            yerr=reach_of(values),
            marker=marker,
            ls=dashes,
            ms=4,
            lw=1.3,
            capsize=2,
            color=colour,
            label=label,
        )


def _draw_worth(axes: Axes, lines: Mapping[str, Sequence[Row]]) -> None:
    """The time to a first token, or the GPU time saved where that is unknown, over what the tiers cost."""
    rows = [row for line in lines.values() for row in line]
    priced = all(row["cost"].mean for row in rows)
    x = "cost" if priced else "capacity_mean"
    y = next(name for name in ("ttft_mean_s", "unqueued_ttft_mean_s", "saved_gpu_hours") if _known(rows, name))
    _draw_lines(axes, lines, x, y)
    _log_axis(axes, sorted({row[x].mean for row in rows}))
    axes.set_xlabel("cost of the tiers, in the currency of their prices" if priced else "capacity, bytes or entries")
    axes.set_ylabel("mean, s" if y.endswith("_s") else "GPU-hours")
    axes.set_title(WORTH[y])


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with ticks at some of the values, a fifth of the axis apart or more."""
    axes.set_xscale("log")
    least = (values[-1] / values[0]) ** 0.18 if values else 1.0
    ticks: list[float] = []
    for value in values:
        if not ticks or value > ticks[-1] * least:
            ticks.append(value)
    axes.set_xticks(ticks, [_short(tick) for tick in ticks])
    axes.minorticks_off()


def _short(number: float) -> str:
    """A number in at most three digits and a prefix."""
    number = float(f"{number:.3g}")
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g}{prefix}"
    return f"{number:.3g}"


WORTH = {
    "ttft_mean_s": "Time to first token",
    "unqueued_ttft_mean_s": "Time to first token without queues",
    "saved_gpu_hours": "GPU time saved",
}


def _known(rows: Sequence[Row], name: str) -> bool:
    return all(row[name].mean is not None for row in rows)


def _draw_arms(left: Axes, right: Axes, rows: Sequence[Row], labels: Sequence[str]) -> None:
    """A bar an arm: what tiers gave of the prompts, up to the ceiling of all caches, and the time to a first token."""
    names = [label.replace(".capacity_bytes", "").replace(".capacity_entries", "") or "all" for label in labels]
    places = range(len(rows))
    tiers = [name.removesuffix("_written_bytes") for name in rows[0] if name.endswith("_written_bytes")]
    lefts = [0.0] * len(rows)
    for colour, tier in zip(cycle(COLOURS), tiers):
        widths = [row[f"{tier}_token_hit_ratio"].mean or 0.0 for row in rows]
        left.barh(places, widths, 0.6, left=lefts, color=colour, label=tier)
        lefts = [start + width for start, width in zip(lefts, widths, strict=True)]
    own = [max(0.0, row["token_hit_ratio"].mean - start) for row, start in zip(rows, lefts, strict=True)]
    if any(own):
        left.barh(places, own, 0.6, left=lefts, color="#cccccc", label="the GPU itself")
    ceilings = [row["ceiling_token_hit_ratio"].mean for row in rows]
    left.scatter(ceilings, places, marker="|", s=400, color="black", zorder=3, label="ceiling")
    left.set_yticks(places, names, fontsize=8)
    left.set_xlim(0, 1)
    left.set_xlabel("share of prompt tokens")
    left.set_title("Where they were found")
    y = next(name for name in ("ttft_mean_s", "unqueued_ttft_mean_s", "saved_gpu_hours") if _known(rows, name))
    values = [row[y] for row in rows]
    right.barh(places, [value.mean or 0.0 for value in values], 0.6, xerr=reach_of(values), color="#d9822b", capsize=3)
    right.set_yticks(places, [""] * len(rows))
    right.set_xlabel("mean, s" if y.endswith("_s") else "GPU-hours")
    right.set_title(WORTH[y])
    for axes in (left, right):
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")


@dataclass(frozen=True)
class TierCourse:
    """How one run of elastic tiers went."""

    at_s: Floats
    """Middles of equal stretches of time."""
    hit_ratio: Floats
    """Share of the requests of each stretch that were given something; NaN where nobody asked."""
    requests_per_s: Floats
    changed_at_s: Floats
    """When the capacity of the elastic tiers together changed, and to what."""
    capacity: Floats


def tier_course(records: Records) -> TierCourse | None:
    """The course of a run; None where no tier changes its size by itself, or nothing came."""
    pacing = records.asked.pacing
    places = dict.fromkeys(use.name for use in records.tiers)
    elastic = [
        place for place, name in enumerate(places) if any(use.ticks for use in records.tiers if use.name == name)
    ]
    if not isinstance(pacing, OpenLoop) or not elastic or not records.ended_at_s:
        return None
    edges = np.linspace(0, records.ended_at_s, STRETCHES + 1)
    asked, _ = np.histogram(pacing.arrived_at_s, edges)
    given, _ = np.histogram(pacing.arrived_at_s[view(records.requests.cached_tokens) > 0], edges)
    rows = records.capacities
    gpu_id, tier, capacity = view(rows.gpu_id), view(rows.tier), view(rows.capacity)
    moving = np.isin(tier, elastic)
    at_s, change = view(rows.at_s)[moving], np.empty(moving.sum())
    latest: dict[tuple[int, int], float] = {}
    for row, (gpu, place, size) in enumerate(zip(gpu_id[moving], tier[moving], capacity[moving], strict=True)):
        change[row] = size - latest.get((gpu, place), 0.0)
        latest[gpu, place] = size
    order = np.argsort(at_s, kind="stable")
    with np.errstate(invalid="ignore"):
        hit_ratio = np.where(asked > 0, given / np.maximum(asked, 1), np.nan)
    return TierCourse(
        at_s=(edges[1:] + edges[:-1]) / 2,
        hit_ratio=hit_ratio,
        requests_per_s=asked * STRETCHES / records.ended_at_s,
        changed_at_s=at_s[order],
        capacity=np.cumsum(change[order]),
    )


def draw_courses(title: str, conditions: Sequence[Row], courses: Sequence[TierCourse | None]) -> Figure | None:
    """Size and hits of every arm over time, above the load that they had in common; None where no tier moves."""
    labels = _but_capacity(conditions)
    moving = [(label, course) for label, course in zip(labels, courses, strict=True) if course is not None]
    if not moving:
        return None
    with blank_figure(title, columns=2) as (figure, (left, right)):
        for (colour, dashes, _), (label, course) in zip(cycle(STYLES), moving):
            hours, capacity = np.append(course.changed_at_s, course.at_s[-1]) / 3600, course.capacity
            left.step(hours, np.append(capacity, capacity[-1:]), where="post", color=colour, ls=dashes, label=label)
            right.plot(course.at_s / 3600, course.hit_ratio, color=colour, ls=dashes, lw=1.2)
        load = right.twinx()
        load.fill_between(moving[0][1].at_s / 3600, moving[0][1].requests_per_s, color=GREY, alpha=0.15, lw=0)
        load.set_ylabel("requests / s (grey)")
        load.set_ylim(bottom=0)
        load.grid(visible=False)
        left.set_yscale("log")
        left.set_ylabel("bytes or entries")
        left.set_title("Capacity")
        right.set_ylim(0, 1)
        right.set_ylabel("share of requests")
        right.set_title("Requests given something")
        for axes in (left, right):
            axes.set_xlabel("hours")
        if len(moving) > 1:
            figure.legend(loc="outside lower center", ncols=4)
    return figure
