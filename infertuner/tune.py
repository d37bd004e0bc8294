"""`python -m infertuner.tune SCENARIO.yaml`: the cheapest configuration that meets the objectives, and how sure."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from infertuner.commands import run_command, scenario_parser
from infertuner.errors import ResultsError
from infertuner.experiments.report import resolved_yaml, study_provenance
from infertuner.outcomes import figures
from infertuner.outcomes.folder import RunFolder, flatten, to_json
from infertuner.outcomes.progress import progress_bar
from infertuner.outcomes.tuning_figures import draw_tuning
from infertuner.scenario.overrides import parse_setting
from infertuner.scenario.study import Study
from infertuner.sweeping.engines import engine
from infertuner.sweeping.store import Store
from infertuner.tuning.answer import Report
from infertuner.tuning.page import tuning_page
from infertuner.tuning.run import load, tune
from infertuner.tuning.words import print_answer

EXAMPLE = "python -m infertuner.tune scenarios/capacity.yaml --set workload.arrivals.per_s=10"
STORE = Path("results/cells")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 with an answer, 1 where nothing meets the objectives, and 2 on bad input."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(given)
    return run_command(lambda: _tune(arguments, given))


def _parser() -> argparse.ArgumentParser:
    parser = scenario_parser(
        "tune",
        __doc__,
        EXAMPLE,
        values="change a key, or let it be chosen: cluster.gpus={choices: [1, 2]}",
        runs="a configuration is run at most",
    )
    parser.add_argument("--budget-s", type=_seconds, metavar="S", help="begin nothing after so many seconds")
    parser.add_argument("--jobs", type=_count, metavar="N", help="processes (default: one for each core)")
    parser.add_argument("--store", type=Path, default=STORE, metavar="DIR", help=f"finished cells (default: {STORE})")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json prints answer.json alone")
    return parser


def _tune(arguments: argparse.Namespace, given: Sequence[str]) -> int:
    started = time.perf_counter()
    settings = dict(parse_setting(setting) for setting in arguments.set)
    shortcuts = {key: getattr(arguments, key) for key in ("seed", "replications")}
    study = load(arguments.scenario, settings | {key: value for key, value in shortcuts.items() if value is not None})
    if arguments.overwrite and arguments.out is None:
        raise ResultsError("--overwrite: replaces the folder named by --out; name it, or leave --overwrite out")
    out = arguments.out or _new_folder(study)
    with RunFolder(out, overwrite=arguments.overwrite) as folder:
        with engine(arguments.jobs, None) as computing, progress_bar(study.scenario.name) as progress:
            report = tune(study, computing, Store(arguments.store), budget_s=arguments.budget_s, progress=progress)
        told = _told(study, report, time.perf_counter() - started)
        _write(folder, study, report, told, given)
    if arguments.format == "json":
        sys.stdout.write(to_json(told))
    else:
        print_answer(told, report, Console())
        Console().print(f"written to {out}", markup=False, highlight=False, soft_wrap=True)
    return 0 if told["feasible"] else 1


def _told(study: Study, report: Report, wall_s: float) -> dict[str, Any]:
    """The content of answer.json."""
    scenario, evaluator = study.scenario, report.evaluator
    judged = report.race.found
    return {
        "scenario": {"name": scenario.name, "description": scenario.description},
        **report.told(),
        "latency": sorted({found.point.arm.scenario.latency.source() for found in judged.values()}),
        "warnings": report.warnings(),
        "search": {
            "configurations": report.space.size,
            "judged": len(judged),
            "replications": report.race.most,
            "cells": evaluator.cells,
            "from_store": evaluator.from_store,
            "seed": scenario.seed,
            "wall_s": wall_s,
        },
    }


def _write(folder: RunFolder, study: Study, report: Report, told: dict[str, Any], given: Sequence[str]) -> None:
    scenario, rows = study.scenario, report.evaluated()
    folder.write_json("answer.json", told)
    if rows:
        names = dict.fromkeys(name for row in rows for name in row)
        frame = pd.DataFrame([flatten({name: row.get(name) for name in names}) for row in rows])
        plain = frame.map(lambda value: value if not isinstance(value, dict | list) else to_json(value).strip())
        plain.to_csv(folder.file("evaluated.csv"), index=False, lineterminator="\n")
        latency = report.latency_metric
        limit_s = next((bound.limit for bound in report.slo.bounds() if bound.metric == latency), None)
        title = scenario.description or scenario.name
        figures.save(draw_tuning(title, rows, latency, limit_s, report.cost_unit()), folder.file("figures/pareto.png"))
    as_run, made = (
        resolved_yaml(study, folder.path),
        study_provenance(study, ["python", "-m", "infertuner.tune", *given]),
    )
    folder.write_text("scenario.resolved.yaml", as_run)
    folder.write_json("provenance.json", made)
    page = tuning_page(told, rows, report.latency_metric, provenance=made, scenario_yaml=as_run)
    folder.write_text("report.html", page)


def _new_folder(study: Study) -> Path:
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("results", "tune", f"{study.scenario.name}-{stamp}")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
