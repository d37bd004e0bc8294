"""The tables that people read of a study, on a terminal and on its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infertuner.experiments.analyses import analysis_of
from infertuner.experiments.ceiling import NAMES as CEILING
from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.latencies import TTFT_PARTS
from infertuner.outcomes.statistics import Interval
from infertuner.units import format_seconds

DESCRIPTIVE = ("efficiency_notes", "gpu_distribution")
"""Text columns of the published tables that are no parameters."""


def headline(result: StudyResult) -> list[Row]:
    """How the arms differ and what matters of each, with verdicts on saturation where there are any."""
    analysis = analysis_of(result.study.scenario)
    rows = analysis.table(result)
    shown = [name for name in rows[0] if _identifies(name, rows) and name not in analysis.headline]
    shown += [name for name in analysis.headline if any(_is_known(row[name]) for row in rows)]
    shown = [name for place, name in enumerate(shown) if not any(_equal(rows, name, other) for other in shown[:place])]
    return [{name: row[name] for name in shown} | verdict for row, verdict in zip(rows, _verdicts(result), strict=True)]


def ceilings(result: StudyResult) -> list[Row]:
    """How much of its lookups a cache could have found at most, and how much of that it found."""
    return [
        {"arm": index} | result.labels(index) | result.intervals(index, *CEILING)
        for index in range(len(result.arms))
        if result.interval(index, "ceiling_ratio").mean is not None
    ]


def ttft_rows(result: StudyResult) -> list[Row]:
    """Where the time to the first token went, a row an arm, for engines that can tell."""
    rows = []
    for index in range(len(result.arms)):
        parts = ttft_parts(result, index)
        if parts is not None:
            told = {name: _seconds_and_share(**part) for name, part in parts.items()}
            rows.append({"arm": index} | result.labels(index) | told)
    return rows


def ttft_parts(result: StudyResult, index: int) -> dict[str, dict[str, float]] | None:
    """Mean seconds and share of a TTFT by what it was spent on; None for static batches."""
    means = {name: result.interval(index, f"ttft_{name}_mean_s").mean for name in TTFT_PARTS}
    known = {name: mean for name, mean in means.items() if mean is not None}
    total = sum(known.values())
    if not total:
        return None
    return {name: {"mean_s": mean, "share_ratio": mean / total} for name, mean in known.items()}


def _verdicts(result: StudyResult) -> list[Row]:
    """A column of saturation verdicts, where any arm's is known."""
    verdicts = [result.saturation(index) for index in range(len(result.arms))]
    decided = any(verdict not in (None, "undecided") for verdict in verdicts)
    return [{"saturation": verdict} if decided else {} for verdict in verdicts]


def _seconds_and_share(mean_s: float, share_ratio: float) -> str:
    return f"{format_seconds(mean_s)} ({share_ratio:.0%})"


def _equal(rows: Sequence[Row], name: str, other: str) -> bool:
    """Whether two columns say the same, as published and sound throughput do where definitions are sound."""
    return all(isinstance(row[name], Interval) and row[other] in (row[name], row[name].mean) for row in rows)


def _is_known(value: Any) -> bool:
    return value is not None and getattr(value, "mean", value) is not None


def _identifies(name: str, rows: Sequence[Row]) -> bool:
    """Whether a column says which arm a row is."""
    values = [row[name] for row in rows]
    scalar = all(isinstance(value, str | int) for value in values)
    return scalar and name not in DESCRIPTIVE and (len(set(values)) > 1 or len(rows) == 1)
