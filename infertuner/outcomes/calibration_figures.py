"""One figure a person can judge a calibration by: measured against fitted, residuals, drift, and the held-out table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from infertuner.latency.evidence import Comparison, Evidence, fitted_s
from infertuner.latency.fitted import ProfileLatency
from infertuner.latency.machine import Direction
from infertuner.latency.points import Kind, Point
from infertuner.latency.profile import write_atomically
from infertuner.outcomes.figures import COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KIND_COLOURS: dict[Kind, str] = {"prefill": COLOURS[0], "decode": COLOURS[1], "mixed": COLOURS[2]}
BATCHES_SHOWN = 6


def write_figure(evidence: Evidence, path: Path) -> None:
    """Draw and write as PNG at once or not at all."""
    picture = io.BytesIO()
    draw_calibration(evidence).savefig(picture, dpi=130, format="png", metadata={"Software": None})
    write_atomically(path, picture.getvalue())


def draw_calibration(evidence: Evidence) -> Figure:
    """The whole report on one page; for a notebook, or for `write_figure`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    found = evidence.calibration
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 13))
        axes: Any = figure.subplots(3, 2, height_ratios=(1, 1, 0.8))
        figure.suptitle(f"{found.model.name} {found.model.dtype} on {found.hardware.name}", fontweight="bold")
        _decode(axes[0, 0], evidence)
        _prefill(axes[0, 1], evidence)
        _residuals(axes[1, 0], evidence)
        _copies(axes[1, 1], evidence) if found.copies else _parity(axes[1, 1], evidence)
        _drift(axes[2, 0], evidence)
        _table(axes[2, 1], evidence)
    return figure


def _decode(axes: Axes, evidence: Evidence) -> None:
    """Step time over context, a colour a batch size: points measured, lines fitted."""
    points = _of_kind(evidence, "decode")
    sizes = sorted({one.point.batch_size for one in points})
    shown = sorted({sizes[round(i)] for i in np.linspace(0, len(sizes) - 1, min(BATCHES_SHOWN, len(sizes)))})
    law = _law(evidence)
    for size, colour in zip(shown, COLOURS, strict=False):
        of_size = [one for one in points if one.point.batch_size == size]
        _scatter(axes, [one.point.context_tokens for one in of_size], of_size, colour)
        contexts = np.linspace(1, max(one.point.context_tokens for one in points), 60).astype(int)
        line = [fitted_s(law, Point("decode", size, 1, int(context) - 1, "fit")) for context in contexts]
        axes.plot(contexts, np.array(line) * 1e3, color=colour, lw=1.5, label=f"batch {size}")
    _finish(axes, "Decode step (points measured, lines fitted)", "context, tokens")
    axes.set_ylim(bottom=0)
    axes.legend(ncols=2, fontsize=9)


def _prefill(axes: Axes, evidence: Evidence) -> None:
    """Step time over new tokens; the line is a single prompt, and batches and chunks stand where they were measured."""
    points = _of_kind(evidence, "prefill")
    law = _law(evidence)
    groups = {
        "single prompts": [one for one in points if one.point.batch_size == 1 and not one.point.cached_tokens],
        "batches": [one for one in points if one.point.batch_size > 1 and not one.point.cached_tokens],
        "behind a cached prefix": [one for one in points if one.point.cached_tokens],
        "chunk beside decodes": _of_kind(evidence, "mixed"),
    }
    for (label, group), colour in zip(groups.items(), COLOURS, strict=False):
        if group:
            tokens = [one.point.batch_tokens for one in group]
            _scatter(axes, tokens, group, colour)
            axes.scatter(tokens, [one.fitted_s * 1e3 for one in group], marker="_", s=90, color=colour, label=label)
    single = [one.point.new_tokens for one in groups["single prompts"]]
    if single:
        sizes = sorted({int(size) for size in np.geomspace(min(single), max(single), 80)})
        line = [fitted_s(law, Point("prefill", 1, size, 0, "fit")) * 1e3 for size in sizes]
        axes.plot(sizes, line, color=COLOURS[0], lw=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _finish(axes, "Prefill and mixed (points measured, dashes and line fitted)", "new tokens in the step")
    axes.legend(fontsize=9)


def _residuals(axes: Axes, evidence: Evidence) -> None:
    """Fitted over measured, minus 1, with the interval of the measurement; hollow points were never fitted."""
    worst = max(abs(one.error_ratio) for one in evidence.comparisons)
    for kind, colour in KIND_COLOURS.items():
        for role, fill in (("fit", colour), ("holdout", "none")):
            group = [one for one in _of_kind(evidence, kind) if one.point.role == role]
            if not group:
                continue
            label = f"{kind}, {'fitted' if role == 'fit' else 'held out'}"
            x, y = [one.measured_s * 1e3 for one in group], [one.error_ratio * 100 for one in group]
            widths = [min(one.half_width_ratio, 1.0) * 100 for one in group]
            axes.errorbar(x, y, yerr=widths, fmt="none", ecolor=colour, alpha=0.25, lw=1)
            size = 22 if role == "fit" else 44
            axes.scatter(x, y, s=size, facecolors=fill, edgecolors=colour, linewidths=1.4, label=label, zorder=3)
    axes.axhspan(-5, 5, color="#f0f0f0", zorder=0)
    axes.axhline(0, color="#555555", lw=1)
    axes.set_xscale("log")
    limit = min(60.0, max(8.0, 130 * worst))
    axes.set_ylim(-limit, limit)
    axes.set_title("Residuals (bars: 95 % interval of the measurement)")
    axes.set_xlabel("measured step, ms")
    axes.set_ylabel("fitted over measured - 1, %")
    axes.legend(fontsize=9, ncols=2)


def _copies(axes: Axes, evidence: Evidence) -> None:
    """Copy time over size, measured and by the law."""
    laws = evidence.calibration.copies
    for direction, colour in zip(get_args(Direction), COLOURS, strict=False):
        if direction not in laws:
            continue
        visits = [one for one in evidence.measured.extras if one.extra.kind == direction]
        sizes = sorted({one.extra.size for one in visits if one.extra.size})
        seconds = [median(one.timing.median_s for one in visits if one.extra.size == size) for size in sizes]
        axes.scatter(np.array(sizes) / 2**20, np.array(seconds) * 1e3, color=colour, s=24, zorder=3)
        curve = np.geomspace(sizes[0], sizes[-1], 200)
        law_ms = [laws[direction].copy_s(size) * 1e3 for size in curve]
        axes.plot(curve / 2**20, law_ms, color=colour, lw=1.5, label=direction.replace("_", " "))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _finish(axes, "Copies (points measured, lines fitted)", "MiB")
    axes.legend(fontsize=9)


def _parity(axes: Axes, evidence: Evidence) -> None:
    """Fitted over measured time, where nothing was copied."""
    for kind, colour in KIND_COLOURS.items():
        group = _of_kind(evidence, kind)
        if group:
            _scatter(axes, [one.fitted_s * 1e3 for one in group], group, colour)
            axes.scatter([], [], color=colour, label=kind)
    ends = [min(one.measured_s for one in evidence.comparisons), max(one.measured_s for one in evidence.comparisons)]
    axes.plot(np.array(ends) * 1e3, np.array(ends) * 1e3, color="#555555", lw=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _finish(axes, "Measured against fitted (hollow: held out)", "fitted, ms")
    axes.legend(fontsize=9)


def _drift(axes: Axes, evidence: Evidence) -> None:
    """The common change of speed that was removed."""
    minutes, ratios = zip(*evidence.drift, strict=True)
    axes.plot(minutes, (np.array(ratios) - 1) * 100, color=COLOURS[3], lw=1.2)
    axes.axhline(0, color="#555555", lw=1)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -5), max(high, 5))
    axes.set_title("Drift of the machine, removed before fitting")
    axes.set_xlabel("minutes since the first visit")
    axes.set_ylabel("slower than usual, %")


def _table(axes: Axes, evidence: Evidence) -> None:
    """Errors on points never fitted, and whole calls of generate()."""
    axes.axis("off")
    axes.set_title("Never fitted")
    rows = [*_holdout_rows(evidence), *_call_rows(evidence)]
    head = ["", "n", "mean", "median", "worst"]
    table = axes.table(
        cellText=[list(row) for row in rows],
        colLabels=head,
        loc="upper center",
        cellLoc="right",
        colWidths=[0.4, *[0.14] * 4],
    )
    table.auto_set_font_size(False)
    table.set_fontsize(10)
    table.scale(1, 1.5)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#dddddd")
        cell.visible_edges = "B"
        if row == 0:
            cell.set_text_props(weight="bold")
        if column == 0:
            cell.set_text_props(ha="left")


def _holdout_rows(evidence: Evidence) -> Iterator[Sequence[str]]:
    for kind in KIND_COLOURS:
        errors = [abs(one.error_ratio) for one in _of_kind(evidence, kind) if one.point.role == "holdout"]
        if errors:
            yield _row(kind, errors)


def _call_rows(evidence: Evidence) -> Iterator[Sequence[str]]:
    checks = evidence.calibration.end_to_end
    if checks:
        yield _row("generate()", [abs(check.error_ratio) for check in checks])
    corrected = [abs(check.with_host_term_ratio) for check in checks if check.with_host_term_ratio is not None]
    if corrected:
        yield _row("  with a host term", corrected)


def _row(name: str, errors: Sequence[float]) -> Sequence[str]:
    figures = (float(np.mean(errors)), median(errors), max(errors))
    return [name, f"{len(errors)}", *(f"{error:.1%}" for error in figures)]


def _scatter(axes: Axes, x: Sequence[float], group: Sequence[Comparison], colour: str) -> None:
    """Measured milliseconds; hollow where the point was held out."""
    for role, fill in (("fit", colour), ("holdout", "none")):
        chosen = [(at, one.measured_s * 1e3) for at, one in zip(x, group, strict=True) if one.point.role == role]
        if chosen:
            at, milliseconds = zip(*chosen, strict=True)
            axes.scatter(at, milliseconds, s=26, facecolors=fill, edgecolors=colour, linewidths=1.3, zorder=3)


def _finish(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel("ms")


def _of_kind(evidence: Evidence, kind: Kind) -> list[Comparison]:
    return [one for one in evidence.comparisons if one.point.kind == kind]


def _law(evidence: Evidence) -> ProfileLatency:
    return ProfileLatency(evidence.calibration, name="this profile", refuse=False)
