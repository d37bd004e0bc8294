"""The figure of a validation: how measured and simulated latencies are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from infertuner.outcomes.figures import COLOURS, STYLE, save
from infertuner.sources.requests import Floats
from infertuner.units import SECONDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_validation", "save"]

LOOKS = {
    "measured": {"color": "black", "lw": 2.2},
    "simulated": {"color": COLOURS[0], "lw": 1.8, "ls": "--"},
    "compared": {"color": COLOURS[0], "lw": 1.8, "ls": "--"},
    "drift_corrected": {"color": COLOURS[1], "lw": 1.5, "ls": ":"},
}
HEADINGS = {"ttft": "Time to first token", "tpot": "Time per output token", "e2e": "End to end"}
MS_BELOW_S = 0.3
"""95th percentile below which an axis is in milliseconds."""
LOG_FROM = 30.0
"""Ratio of the 95th to the 5th percentile from which an axis is logarithmic."""


def draw_validation(title: str, distributions: Mapping[str, Mapping[str, Floats]]) -> Figure:
    """The share of requests at or below each latency, measured and simulated; one panel a metric.

    distributions: metric (`ttft`, `tpot`, `e2e`), then side (a key of `LOOKS`), then values.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(distributions), 4.2))
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, parse_math=False)
        panels = figure.subplots(1, len(distributions), squeeze=False, sharey=True)[0]
        for axes, (metric, sides) in zip(panels, distributions.items(), strict=True):
            measured = sides["measured"]
            low, high = np.percentile(measured, (5, 95)) if measured.size else (0.0, 0.0)
            unit = "ms" if high < MS_BELOW_S else "s"
            for side, values in sides.items():
                if values.size:
                    axes.ecdf(values / SECONDS[unit], label=side.replace("_", "-"), **LOOKS[side])
            axes.set_title(HEADINGS[metric])
            axes.set_xlabel(unit)
            if low > 0 and high / low >= LOG_FROM:
                axes.set_xscale("log")
            else:
                axes.set_xlim(left=0)
        panels[0].set_ylabel("share of requests")
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
