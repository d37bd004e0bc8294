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
MAX_BATCH_SIZES_IN_BARS = 6


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, dpi=150, metadata={"Software": None})


def draw_scaling(rows: Sequence[Row], title: str) -> Figure:
    """Throughput against the number of GPUs with the ideal line, and latency beside it; one line per condition."""
    with _figure(title, columns=2) as (figure, (left, right)):
        for colour, (label, line) in zip(_colours(), _lines(rows, "parallelism").items(), strict=False):
            gpus = [row["parallelism"] for row in line]
            _errorbar(left, gpus, [row["total_throughput"] for row in line], colour, label)
            _errorbar(right, gpus, [row["e2e_mean_s"] for row in line], colour, label)
            first = line[0]["total_throughput"].mean
            left.plot(gpus, [first * n / gpus[0] for n in gpus], ls=":", color=colour, lw=1)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted({row["parallelism"] for row in rows}))
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.set_xlabel("GPUs")
        if max(row["parallelism"] for row in rows) > 16:
            left.set_yscale("log")
        left.set_title("Throughput (dotted: linear)")
        left.set_ylabel("requests / s")
        right.set_title("End-to-end latency")
        right.set_ylabel("mean, s")
        right.set_ylim(bottom=0)
        _legend(left, rows, "parallelism")
    return figure


def draw_batching(rows: Sequence[Row], title: str) -> Figure:
    """Latency and throughput against the batch limit; with several loads, the frontier of one against the other."""
    lines = _lines(rows, "batch_size")
    if len(lines) > MAX_BATCH_SIZES_IN_BARS:
        return _draw_frontier(rows, title)
    with _figure(title, columns=2) as (figure, (left, right)):
        for colour, (label, line) in zip(_colours(), lines.items(), strict=False):
            sizes = [row["batch_size"] for row in line]
            _errorbar(left, sizes, [row["e2e_mean_s"] for row in line], colour, label or "end to end")
            waits = [row["wait_mean_s"] for row in line]
            _errorbar(left, sizes, waits, colour, None if label else "waiting", ls="--")
            _errorbar(right, sizes, [row["real_throughput_per_s"] for row in line], colour, label or "completed")
            if any(row["throughput_req_per_sec"] != row["real_throughput_per_s"] for row in line):
                formula = [row["throughput_req_per_sec"] for row in line]
                _errorbar(right, sizes, formula, COLOURS[1], "published formula", ls="--")
        for axes in (left, right):
            axes.set_xlabel("batch limit")
            axes.set_ylim(bottom=0)
            axes.legend()
        left.set_title("Latency")
        left.set_ylabel("mean, s")
        right.set_title("Throughput")
        right.set_ylabel("requests / s")
    return figure


def _draw_frontier(rows: Sequence[Row], title: str) -> Figure:
    """Every arm as a point of throughput against tail latency; the Pareto front joins those that nothing beats."""
    points = [row for row in rows if row["e2e_p95_s"].mean is not None]
    with _figure(title, columns=1) as (figure, (axes,)):
        for colour, size in zip(_colours(), sorted({row["batch_size"] for row in points}), strict=False):
            line = sorted(_throughput_and_tail(row) for row in points if row["batch_size"] == size)
            axes.plot(*zip(*line, strict=True), "o-", ms=4, lw=1, color=colour, label=f"limit {size}")
        front = pareto_front([_throughput_and_tail(row) for row in points])
        axes.plot(*zip(*front, strict=True), color="black", lw=2.5, alpha=0.35, label="nothing is better")
        axes.set_yscale("log")
        axes.set_xlabel("throughput, requests / s")
        axes.set_ylabel("end-to-end latency, 95th percentile, s")
        axes.legend(ncols=2)
    return figure


def _throughput_and_tail(row: Row) -> tuple[float, float]:
    return row["real_throughput_per_s"].mean, row["e2e_p95_s"].mean


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (throughput, latency) that no other point beats in both, by rising throughput."""
    front: list[tuple[float, float]] = []
    for throughput, latency in sorted(points, key=lambda point: (-point[0], point[1])):
        if not front or latency < front[-1][1]:
            front.append((throughput, latency))
    return front[::-1]


def draw_cache(rows: Sequence[Row], title: str) -> Figure:
    """Where lookups were answered, with the static cache of equal memory marked, and the latency that follows."""
    names = [_bar_name(row, rows) for row in rows]
    with _figure(title, columns=2) as (figure, (left, right)):
        bottoms = [0.0] * len(rows)
        for colour, (column, label) in zip(
            ("#1f5fa8", "#9cc3e6", "#dcdcdc"),
            (("local_hits", "local hit"), ("remote_hits", "remote hit"), ("misses", "miss")),
            strict=True,
        ):
            heights = [row[column].mean / row["total_requests"] for row in rows]
            left.bar(names, heights, 0.6, bottom=bottoms, color=colour, label=label)
            bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
        static = [row["static_local_hits"].mean / row["total_requests"] for row in rows]
        left.scatter(names, static, marker="_", s=900, color="black", zorder=3, label="static LRU, same memory")
        left.set_title("Where prefixes were found")
        left.set_ylabel("share of requests")
        left.set_ylim(0, 1)
        left.legend(loc="lower center", bbox_to_anchor=(0.5, -0.35), ncols=2)
        latencies = [row["avg_latency_ms"].scaled(SECONDS["ms"]) for row in rows]
        right.bar(names, [latency.mean or 0.0 for latency in latencies], 0.6, color="#d9822b")
        _whiskers(right, names, latencies)
        right.set_title("Latency")
        right.set_ylabel("mean, s")
    return figure


@contextmanager
def _figure(title: str, columns: int) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """An empty figure in the house style, drawn without a display and without pyplot's global state."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * columns if columns > 1 else 7.5, 4.4))
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=14)
        yield figure, figure.subplots(1, columns, squeeze=False)[0]


def _colours() -> Iterator[str]:
    while True:
        yield from COLOURS


def _lines(rows: Sequence[Row], x: str) -> dict[str, list[Row]]:
    """Rows that differ in `x` alone, by the label of what else they were run with."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(_condition(row, rows, x), []).append(row)
    return {label: sorted(line, key=lambda row: float(row[x])) for label, line in lines.items()}


def _condition(row: Row, rows: Sequence[Row], x: str) -> str:
    """The parameters of a row that are not numbers measured: those that vary over the table, besides `x`."""
    return ", ".join(
        f"{name} {value}"
        for name, value in row.items()
        if name not in (x, "gpu_distribution", "efficiency_notes")
        and isinstance(value, str | int | float)
        and len({other[name] for other in rows}) > 1
    )


def _legend(axes: Axes, rows: Sequence[Row], x: str) -> None:
    if any(_condition(row, rows, x) for row in rows):
        axes.legend()


def _bar_name(row: Row, rows: Sequence[Row]) -> str:
    condition = _condition(row, rows, "strategy")
    return f"{row['strategy']}\n{condition}" if condition else row["strategy"]


def _errorbar(
    axes: Axes, x: Sequence[float], values: Sequence[Interval], colour: str, label: str | None, *, ls: str = "-"
) -> None:
    means = [value.mean if value.mean is not None else float("nan") for value in values]
    axes.errorbar(x, means, yerr=_reach(values), marker="o", ms=5, capsize=3, color=colour, label=label or None, ls=ls)


def _whiskers(axes: Axes, names: Sequence[str], values: Sequence[Interval]) -> None:
    means = [value.mean or 0.0 for value in values]
    axes.errorbar(names, means, yerr=_reach(values), fmt="none", capsize=4, ecolor="black")


def _reach(values: Sequence[Interval]) -> list[list[float]]:
    """How far each interval reaches below and above its mean, as matplotlib wants it."""
    below = [0.0 if v.mean is None or v.ci_low is None else v.mean - v.ci_low for v in values]
    above = [0.0 if v.mean is None or v.ci_high is None else v.ci_high - v.mean for v in values]
    return [below, above]
