"""What is kept and shown of a study: the run folder, summary.json and the table on the terminal."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console

from infertuner import provenance
from infertuner.experiments import slo
from infertuner.experiments.analyses import analysis_of
from infertuner.experiments.page import run_page
from infertuner.experiments.result import Cell, Row, StudyResult
from infertuner.experiments.tables import ceilings, headline, ttft_parts, ttft_rows
from infertuner.outcomes import engine_figures, figures
from infertuner.outcomes.console import print_table
from infertuner.outcomes.folder import RunFolder, flatten
from infertuner.outcomes.frames import (
    cache_sizes_frame,
    capacities_frame,
    fleet_frame,
    requests_frame,
    segments_frame,
    steps_frame,
    tiers_frame,
)
from infertuner.scenario import yaml12
from infertuner.scenario.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def keep_records(folder: RunFolder, cell: Cell) -> None:
    """Write the records of an arm's first replication; the others are kept as metrics only."""
    if cell.replication == 0:
        for name, frame in (
            *([("requests.parquet", requests_frame(cell.records))] if cell.records.requests.n else []),
            ("tiers.parquet", tiers_frame(cell.records)),
            ("capacities.parquet", capacities_frame(cell.records)),
            ("steps.parquet", steps_frame(cell.records)),
            ("segments.parquet", segments_frame(cell.records)),
            ("cache_sizes.parquet", cache_sizes_frame(cell.records)),
            ("fleet.parquet", fleet_frame(cell.records)),
        ):
            if len(frame):
                frame.insert(0, "arm", cell.arm_index)
                folder.append(name, frame)
        if cell.arm_index == 0 and len(cell.records.segments.gpu_id):
            drawn = engine_figures.draw_over_time("One run over time", cell.records)
            figures.save(drawn, folder.file("figures/over_time.png"))


def write_run(folder: RunFolder, result: StudyResult, argv: Sequence[str]) -> None:
    """Write everything but the records into a run folder."""
    scenario = result.study.scenario
    analysis = analysis_of(scenario)
    folder.write_json("summary.json", summary(result))
    folder.write_csv(f"{analysis.folder}.csv", analysis.table(result))
    folder.write_csv("replications.csv", _replications(result))
    as_run, made = resolved_yaml(result.study, folder.path), study_provenance(result.study, argv)
    folder.write_text("scenario.resolved.yaml", as_run)
    folder.write_json("provenance.json", made)
    folder.write_text("report.html", run_page(result, made, as_run))
    drawn = figure(result)
    if drawn is not None:
        figures.save(drawn, folder.file(f"figures/{scenario.name}.png"))
    over_time = figure_over_time(result)
    if over_time is not None:
        figures.save(over_time, folder.file("figures/over_time.png"))


def table(result: StudyResult) -> pd.DataFrame:
    """The experiment's table as it is written to CSV: a row an arm, means first, interval ends last."""
    return pd.DataFrame([flatten(row) for row in analysis_of(result.study.scenario).table(result)])


def figure(result: StudyResult) -> Figure | None:
    """The experiment's figure; None where there is nothing it could show."""
    scenario = result.study.scenario
    analysis = analysis_of(scenario)
    if analysis.draw is None:
        return None
    conditions = [result.condition(index, analysis.axis) for index in range(len(result.arms))]
    return analysis.draw(scenario.description or scenario.name, analysis.table(result), conditions)


def figure_over_time(result: StudyResult) -> Figure | None:
    """How the first run of every arm went; None where its analysis draws no such thing."""
    scenario = result.study.scenario
    analysis = analysis_of(scenario)
    if analysis.draw_courses is None or not result.courses:
        return None
    conditions = [result.condition(index, "") for index in range(len(result.arms))]
    return analysis.draw_courses(scenario.description or scenario.name, conditions, result.courses)


def summary(result: StudyResult) -> dict[str, Any]:
    """The content of summary.json: what was asked, every metric of every arm, and what the run took."""
    scenario = result.study.scenario
    arms = [
        {
            "arm": index,
            "parameters": arm.parameters,
            **result.intervals(index, *result.metrics[index][0]),
            "saturation": result.saturation(index),
            "slo": slo.told(result, index),
            "ttft_parts": ttft_parts(result, index),
        }
        for index, arm in enumerate(result.arms)
    ]
    return {
        "scenario": {
            "name": scenario.name,
            "description": scenario.description,
            "experiment": scenario.experiment,
            "face": scenario.face,
        },
        "arms": arms,
        "table": [flatten(row) for row in analysis_of(scenario).table(result)],
        "run": {
            "requests": result.requests,
            "events": result.events,
            "wall_s": result.wall_s,
            "peak_rss_bytes": peak_rss_bytes(),
            "seed": scenario.seed,
            "replications": scenario.replications,
        },
        "latency": result.latency_sources(),
        "warnings": result.warnings(),
    }


def print_result(result: StudyResult, console: Console) -> None:
    """The headline table: how the arms differ and what matters of each."""
    scenario = result.study.scenario
    print_table(
        f"{scenario.name}: {scenario.description}" if scenario.description else scenario.name, headline(result), console
    )
    if objectives := slo.rows(result):
        print_table("objectives", objectives, console)
    if known := ceilings(result):
        print_table("what the cache found, and the most that any cache could have found", known, console)
    if spent := ttft_rows(result):
        print_table("where the mean time to the first token went", spent, console)
    notes = [f"latency: {source}" for source in result.latency_sources()]
    notes += [f"warning: {warning}" for warning in result.warnings()]
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def resolved_yaml(study: Study, folder: Path) -> str:
    """The scenario as it was run, with file paths as seen from `folder`, so that it can be run again from there."""
    return yaml12.write(_moved(study.raw, study.folder, folder))


def peak_rss_bytes() -> int:
    """The most memory this process has held. Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _replications(result: StudyResult) -> list[Row]:
    return [
        {"arm": index, "replication": replication, **result.labels(index), **metrics}
        for index in range(len(result.arms))
        for replication, metrics in enumerate(result.metrics[index])
    ]


def study_provenance(study: Study, argv: Sequence[str]) -> dict[str, Any]:
    """The content of provenance.json: code, machine and command, and the digest of every file the arms read."""
    files = sorted({path for arm in study.arms for path in _files(arm.scenario)})
    return {
        **provenance.collect(argv),
        "files": {os.path.relpath(path, study.folder): provenance.sha256_of(path) for path in files},
    }


def _files(scenario: Any) -> list[Path]:
    """The files a scenario reads: profiles, tables, traces."""
    paths = (getattr(part, "path", None) for part in (scenario.workload, scenario.latency))
    return [path for path in paths if isinstance(path, Path)]


def _moved(value: Any, old: Path, new: Path, *, is_path: bool = False) -> Any:
    """Plain data whose relative paths, the values of `path` keys, start at `new` instead of `old`."""
    if isinstance(value, list):
        return [_moved(item, old, new, is_path=is_path) for item in value]
    if isinstance(value, dict):
        return {
            key: _moved(item, old, new, is_path=is_path or key.rsplit(".", 1)[-1] == "path")
            for key, item in value.items()
        }
    if is_path and isinstance(value, str) and not Path(value).is_absolute():
        return os.path.relpath((old / value).resolve(), new.resolve())
    return value
