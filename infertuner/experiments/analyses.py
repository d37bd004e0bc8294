"""Which analysis belongs to which experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infertuner.experiments import batching, cache, cache_tiers, gpu_scaling, plain
from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes import cache_figures, engine_figures, figures
from infertuner.outcomes.window import Metrics
from infertuner.records import Records
from infertuner.scenario.model import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Analysis:
    """What an experiment adds to a sweep: its own metrics, its table and its figure."""

    folder: str
    """Its folder under results/ and the name of its table."""
    table: Callable[[StudyResult], list[Row]]
    """One row an arm; the columns of the first publication come first."""
    headline: tuple[str, ...]
    """The columns worth a terminal's width; parameters of the arms come before them."""
    measure: Callable[[Records, Scenario], Metrics] | None = None
    """Metrics of one run beyond the general ones, where it has any."""
    axis: str = ""
    """The dotted key along which its figure compares arms."""
    draw: Callable[[str, list[Row], list[Row]], Figure | None] | None = None
    """The figure, from a title, the table's rows, and what each row was run with besides its place on the axis."""
    course: Callable[[Records], Any] | None = None
    """How one run went, for a figure over time; None where there is nothing to show."""
    draw_courses: Callable[[str, Sequence[Row], Sequence[Any]], Figure | None] | None = None
    """The figure of the courses of every arm's first run, from a title and what each arm was run with."""


ANALYSES = {
    "gpu_scaling": Analysis(
        folder="gpu_scaling",
        measure=gpu_scaling.measure,
        table=gpu_scaling.table,
        headline=gpu_scaling.HEADLINE,
        axis=gpu_scaling.AXIS,
        draw=figures.draw_scaling,
    ),
    "batching": Analysis(
        folder="batch_analysis",
        table=batching.table,
        headline=batching.HEADLINE,
        axis=batching.AXIS,
        draw=figures.draw_batching,
    ),
    "cache": Analysis(
        folder="cache_experiments",
        measure=cache.measure,
        table=cache.table,
        headline=cache.HEADLINE,
        axis=cache.AXIS,
        draw=figures.draw_cache,
    ),
    "cache_tiers": Analysis(
        folder="cache_tiers",
        measure=cache_tiers.measure,
        table=cache_tiers.table,
        headline=cache_tiers.HEADLINE,
        axis=cache_tiers.AXIS,
        draw=cache_figures.draw_tiers,
        course=cache_figures.tier_course,
        draw_courses=cache_figures.draw_courses,
    ),
}
PLAIN = Analysis(folder="plain", table=plain.table, headline=plain.HEADLINE, draw=engine_figures.draw_engines)


def analysis_of(scenario: Scenario) -> Analysis:
    """The analysis a scenario asks for, or the plain one."""
    return ANALYSES[scenario.experiment] if scenario.experiment else PLAIN
