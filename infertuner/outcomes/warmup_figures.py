"""The figure that shows where warm-ups end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infertuner.outcomes.figures import COLOURS, blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class WarmUp:
    """One arm's beginning."""

    at_s: list[float]
    """Instants of arrival of Welch's moving average."""
    e2e_s: list[float]
    """Welch's moving average."""
    mser5_s: float | None
    """Where MSER-5 lets the steady part begin, averaged over replications."""


def draw_warmup(title: str, arms: Mapping[str, WarmUp], warmup_s: float) -> Figure:
    """Welch's moving average of each arm over its mean in the second half; marks where MSER-5 would cut."""
    with blank_figure(title, columns=1) as (figure, (axes,)):
        for (label, arm), colour in zip(arms.items(), COLOURS, strict=False):
            level = np.array(arm.e2e_s) / np.nanmean(arm.e2e_s[len(arm.e2e_s) // 2 :])
            axes.plot(arm.at_s, level, color=colour, lw=1.5, label=label)
            if arm.mser5_s is not None:
                axes.plot(arm.mser5_s, np.interp(arm.mser5_s, arm.at_s, level), "o", color=colour)
        axes.axhline(1.0, color="black", lw=0.8)
        if warmup_s:
            axes.axvline(warmup_s, color="black", ls="--", lw=1, label="warmup_s")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("arrival, s (dots: MSER-5)")
        axes.set_ylabel("end-to-end latency / its later mean")
        if arms:
            figure.legend(loc="outside right upper")
    return figure
