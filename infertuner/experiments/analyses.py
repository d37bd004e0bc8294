"""Which analysis belongs to which experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infertuner.experiments import batching, cache, gpu_scaling, plain
from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes import figures
from infertuner.outcomes.metrics import Metrics
from infertuner.records import Records
from infertuner.scenario.model import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Analysis:
    """What an experiment adds to a sweep: its own metrics, its table and its figure."""

    folder: str
    """Its folder under results/ and the name of its table."""
    measure: Callable[[Records, Scenario], Metrics]
    """Metrics of one run beyond the general ones."""
    table: Callable[[StudyResult], list[Row]]
    """One row an arm; the columns of the first publication come first."""
    headline: tuple[str, ...]
    """The columns worth a terminal's width; parameters of the arms come before them."""
    draw: Callable[[list[Row], str], Figure] | None
    """The figure, from the table's rows and a title."""


ANALYSES = {
    "gpu_scaling": Analysis(
        "gpu_scaling", gpu_scaling.measure, gpu_scaling.table, gpu_scaling.HEADLINE, figures.draw_scaling
    ),
    "batching": Analysis("batch_analysis", batching.measure, batching.table, batching.HEADLINE, figures.draw_batching),
    "cache": Analysis("cache_experiments", cache.measure, cache.table, cache.HEADLINE, figures.draw_cache),
}
PLAIN = Analysis("plain", plain.measure, plain.table, plain.HEADLINE, None)


def analysis_of(scenario: Scenario) -> Analysis:
    """The analysis a scenario asks for, or the plain one."""
    return ANALYSES[scenario.experiment] if scenario.experiment else PLAIN
