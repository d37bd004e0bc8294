"""The page of a run: report.html beside its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infertuner.experiments import slo
from infertuner.experiments.analyses import analysis_of
from infertuner.experiments.answers import answers
from infertuner.experiments.charts import breakdown_figures, latency_figures
from infertuner.experiments.own_charts import experiment_figures
from infertuner.experiments.result import StudyResult
from infertuner.experiments.tables import ceilings, headline, ttft_rows
from infertuner.outcomes.html.page import Page, folded, render
from infertuner.outcomes.html.tables import table


def run_page(result: StudyResult, provenance: Mapping[str, Any], scenario_yaml: str) -> str:
    """The page of a study that has been run; provenance is that of provenance.json."""
    scenario = result.study.scenario
    every = table("Every column of the table", analysis_of(scenario).table(result))
    return render(
        Page(
            kind="Run",
            name=scenario.name,
            title=scenario.description or scenario.name,
            answer=answers(result),
            warnings=result.warnings(),
            sections=[
                ("Results", table("Results by arm", headline(result)) + folded("Every column", every)),
                ("Objectives", table("Objectives by arm", slo.rows(result))),
                ("Figures", "\n".join(experiment_figures(result))),
                ("What the cache found", table("Found, and what any cache could have found", ceilings(result))),
                (
                    "Where the time to the first token went",
                    "\n".join(breakdown_figures(result)) + table("Parts of the mean time", ttft_rows(result)),
                ),
                ("Latencies", "\n".join(latency_figures(result))),
            ],
            provenance=provenance,
            scenario_yaml=scenario_yaml,
            facts=facts(result),
        )
    )


def facts(result: StudyResult) -> list[tuple[str, str]]:
    """Where seconds come from and what was simulated, for the end of a page."""
    scenario = result.study.scenario
    sources = [("Seconds", source) for source in result.latency_sources()]
    runs = f"{len(result.arms)} arms, {scenario.replications} replications, seed {scenario.seed}"
    took = f"{result.requests:,} requests, {result.events:,} events, {result.wall_s:.1f} s"
    return [*sources, ("Simulated", f"{runs}: {took}")]
