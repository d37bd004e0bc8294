"""The figures of the experiments, drawn from the rows of their tables. The only door to matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infertuner.outcomes.statistics import Interval
from infertuner.units import SECONDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

COLOURS = ("#1f5fa8", "#d9822b", "#2e8b57", "#a23b72", "#6b6b6b", "#8c6d1f", "#3aa6a6", "#c44e52")
"""Distinguishable in print and to colour-blind eyes in neighbouring pairs."""

STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
TIERS = (
    ("local_hits", "local hit", "#1f5fa8"),
    ("remote_hits", "remote hit", "#9cc3e6"),
    ("misses", "miss", "#dcdcdc"),
)
LINEAR_UP_TO = 16
"""GPUs up to which a linear axis still shows every point."""
ALIKE = 0.01
"""Relative difference of throughputs that a frontier does not see."""
LINES_AGAINST_LIMIT = 3
"""Loads up to which latency and throughput are drawn against the batch limit; more make a frontier."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, dpi=150, metadata={"Software": None})


def draw_scaling(title: str, rows: Sequence[Row], conditions: Sequence[Row]) -> Figure:
    """Throughput against the number of GPUs with the ideal line, and waiting beside it; one line per condition."""
    gpus_drawn = sorted({row["parallelism"] for row in rows})
    wide = gpus_drawn[-1] > LINEAR_UP_TO
    with blank_figure(title, columns=2) as (figure, (left, right)):
        for colour, (label, line) in zip(_colours(), _lines(rows, conditions, "parallelism").items(), strict=False):
            gpus = [row["parallelism"] for row in line]
            _errorbar(left, gpus, [row["total_throughput"] for row in line], colour, label)
            _errorbar(right, gpus, [row["wait_mean_s"] for row in line], colour, label)
            first = line[0]["total_throughput"].mean or float("nan")
            left.plot(gpus, [first * n / gpus[0] for n in gpus], ls=":", color=colour, lw=1)
        for axes in (left, right):
            axes.set_xscale("log" if wide else "linear")
            axes.set_xticks(gpus_drawn, [f"{gpus:,}" for gpus in gpus_drawn])
            axes.minorticks_off()
            axes.set_xlabel("GPUs")
        if wide:
            left.set_yscale("log")
        else:
            left.set_ylim(bottom=0)
        right.set_ylim(bottom=0)
        left.set_title("Throughput (dotted: linear)")
        left.set_ylabel("requests / s")
        right.set_title("Waiting time")
        right.set_ylabel("mean, s")
        _legend(left)
    return figure


def draw_batching(title: str, rows: Sequence[Row], conditions: Sequence[Row]) -> Figure:
    """Latency and throughput against the batch limit; with several loads, the frontier of one against the other."""
    lines = _lines(rows, conditions, "batch_size")
    if len(lines) > LINES_AGAINST_LIMIT:
        return _draw_frontier(title, rows)
    with blank_figure(title, columns=2) as (figure, (left, right)):
        for colour, (label, line) in zip(_colours(), lines.items(), strict=False):
            sizes = [row["batch_size"] for row in line]
            prefix = f"{label}: " if label else ""
            _errorbar(left, sizes, [row["e2e_mean_s"] for row in line], colour, f"{prefix}end to end")
            _errorbar(left, sizes, [row["wait_mean_s"] for row in line], colour, f"{prefix}waiting", ls="--")
            _errorbar(right, sizes, [row["real_throughput_per_s"] for row in line], colour, f"{prefix}completed")
            if line[0]["throughput_req_per_sec"] != line[0]["real_throughput_per_s"]:
                formula = [row["throughput_req_per_sec"] for row in line]
                _errorbar(right, sizes, formula, COLOURS[1], "as published: batch / latency", ls="--")
        for axes in (left, right):
            axes.set_xticks(sorted({row["batch_size"] for row in rows}))
            axes.set_xlabel("batch limit")
            axes.set_ylim(bottom=0)
            _legend(axes)
        left.set_title("Latency")
        left.set_ylabel("mean, s")
        right.set_title("Throughput")
        right.set_ylabel("requests / s")
    return figure


def _draw_frontier(title: str, rows: Sequence[Row]) -> Figure:
    """Every arm as a point of throughput against tail latency; the Pareto front joins those that nothing beats."""
    points = [row for row in rows if row["e2e_p95_s"].mean is not None]
    with blank_figure(title, columns=1) as (figure, (axes,)):
        for colour, size in zip(_colours(), sorted({row["batch_size"] for row in points}), strict=False):
            line = [_throughput_and_tail(row) for row in points if row["batch_size"] == size]
            axes.plot(*zip(*line, strict=True), "o-", ms=4, lw=1, color=colour, label=f"batch limit {size}")
        front = pareto_front([_throughput_and_tail(row) for row in points])
        axes.plot(*zip(*front, strict=True), color="black", lw=6, alpha=0.15, label="nothing is better")
        axes.set_yscale("log")
        axes.set_xlabel("throughput, requests / s")
        axes.set_ylabel("end-to-end latency, 95th percentile, s")
        figure.legend(loc="outside right upper")
    return figure


def _throughput_and_tail(row: Row) -> tuple[float, float]:
    return row["real_throughput_per_s"].mean, row["e2e_p95_s"].mean


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (throughput, latency) that no other point beats in both, by rising throughput.

    Throughputs within `ALIKE` of each other count as the same: what lies between them is noise.
    """

    def beaten(point: tuple[float, float]) -> bool:
        return any(
            other[0] >= point[0] * (1 - ALIKE)
            and other[1] <= point[1]
            and (other[1] < point[1] or other[0] > point[0] * (1 + ALIKE))
            for other in points
        )

    return sorted(point for point in set(points) if not beaten(point))


def draw_cache(title: str, rows: Sequence[Row], conditions: Sequence[Row]) -> Figure:
    """Where lookups were answered, with the static cache of equal memory marked, and the latency that follows."""
    labels = labels_of(conditions)
    names = [f"{row['strategy']}\n{label}".strip() for row, label in zip(rows, labels, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name}\n{row['strategy_config']}" for name, row in zip(names, rows, strict=True)]
    with blank_figure(title, columns=2) as (figure, (left, right)):
        bottoms = [0.0] * len(rows)
        for column, label, colour in TIERS:
            heights = [(row[column].mean or 0.0) / row["total_requests"] for row in rows]
            left.bar(names, heights, 0.6, bottom=bottoms, color=colour, label=label)
            bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
        static = [(row["static_local_hits"].mean or 0.0) / row["total_requests"] for row in rows]
        left.scatter(
            names, static, marker="_", s=900, color="black", zorder=3, label="local hits of a static LRU, same memory"
        )
        left.set_title("Where prefixes were found")
        left.set_ylabel("share of requests")
        left.set_ylim(0, 1)
        figure.legend(loc="outside lower center", ncols=4)
        latencies = [row["avg_latency_ms"].scaled(SECONDS["ms"]) for row in rows]
        means = [latency.mean or 0.0 for latency in latencies]
        right.bar(names, means, 0.6, color="#d9822b")
        right.errorbar(names, means, yerr=reach_of(latencies), fmt="none", capsize=4, ecolor="black")
        right.set_title("Latency")
        right.set_ylabel("mean, s")
        for axes in (left, right):
            axes.grid(visible=False, axis="x")
    return figure


@contextmanager
def blank_figure(title: str, columns: int) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """An empty figure in the house style, drawn without a display and without pyplot's global state."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * columns if columns > 1 else 8.5, 4.4))
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, parse_math=False)
        yield figure, figure.subplots(1, columns, squeeze=False)[0]


def _colours() -> Iterator[str]:
    while True:
        yield from COLOURS


def _lines(rows: Sequence[Row], conditions: Sequence[Row], x: str) -> dict[str, list[Row]]:
    """Rows with equal conditions, by rising `x`, under the label of what they were run with."""
    lines: dict[str, list[Row]] = {}
    for row, label in zip(rows, labels_of(conditions), strict=True):
        lines.setdefault(label, []).append(row)
    return {label: sorted(line, key=lambda row: float(row[x])) for label, line in lines.items()}


def labels_of(conditions: Sequence[Row]) -> list[str]:
    """Each condition in words, without what all have in common."""
    varying = [name for name in conditions[0] if len({str(condition.get(name)) for condition in conditions}) > 1]
    return [", ".join(f"{name} {condition[name]}" for name in varying if name in condition) for condition in conditions]


def _legend(axes: Axes) -> None:
    if any(axes.get_legend_handles_labels()):
        axes.legend()


def _errorbar(
    axes: Axes, x: Sequence[float], values: Sequence[Interval], colour: str, label: str, *, ls: str = "-"
) -> None:
    means = [value.mean if value.mean is not None else float("nan") for value in values]
    reach = reach_of(values)
    axes.errorbar(x, means, yerr=reach, marker="o", ms=5, capsize=3, color=colour, label=label or None, ls=ls)


def reach_of(values: Sequence[Interval]) -> list[list[float]]:
    """How far each interval reaches below and above its mean, as matplotlib wants it."""
    below = [0.0 if v.mean is None or v.ci_low is None else v.mean - v.ci_low for v in values]
    above = [0.0 if v.mean is None or v.ci_high is None else v.ci_high - v.mean for v in values]
    return [below, above]
