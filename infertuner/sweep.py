"""`python -m infertuner.sweep SCENARIO.yaml`: run many variants on all cores or a cluster, and resume after a stop."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from infertuner.commands import run_command, scenario_parser
from infertuner.errors import ResultsError, ScenarioError
from infertuner.experiments.report import resolved_yaml, study_provenance
from infertuner.experiments.result import Row
from infertuner.outcomes import figures
from infertuner.outcomes.console import print_table
from infertuner.outcomes.folder import RunFolder, to_json
from infertuner.outcomes.progress import progress_bar
from infertuner.outcomes.stopping import Precision, parse_precision
from infertuner.outcomes.warmup_figures import draw_warmup
from infertuner.scenario.domains import Design, full_grid
from infertuner.scenario.overrides import parse_setting
from infertuner.scenario.study import Study, load_study
from infertuner.sweeping import table
from infertuner.sweeping.cells import cell_key, read_cell, simulate_cell
from infertuner.sweeping.design import latin_hypercube, one_at_a_time
from infertuner.sweeping.engines import engine
from infertuner.sweeping.page import sweep_page
from infertuner.sweeping.runner import Sweep
from infertuner.sweeping.store import Store

EXAMPLE = "python -m infertuner.sweep scenarios/tiny.yaml --set 'workload.arrivals.per_s={choices: [1, 2]}'"
DESIGNS = ("grid", "lhs", "one_at_a_time")
STORE = Path("results/cells")
MOST_TIMES = 10
"""Without --max-replications, --until stops at so many times the scenario's replications."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when done, 1 when cells failed, and 2 on bad input."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(given)
    return run_command(lambda: _sweep(arguments, given))


def _parser() -> argparse.ArgumentParser:
    parser = scenario_parser(
        "sweep",
        __doc__,
        EXAMPLE,
        values="change a key, or vary it: cluster.gpus={choices: [1, 2]}",
        runs="every arm is run",
    )
    parser.add_argument("--design", choices=DESIGNS, default="grid", help="which points to look at (default: grid)")
    parser.add_argument("--points", type=_count, metavar="N", help="how many points a Latin hypercube has")
    parser.add_argument("--until", metavar="METRIC=SHARE", help="replicate until a mean is precise, as ttft_mean_s=2%%")
    parser.add_argument("--max-replications", type=_count, metavar="N", help="give up on --until after so many")
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument("--minimise", metavar="METRIC", help="rank arms: less of this metric is better")
    aim.add_argument("--maximise", metavar="METRIC", help="rank arms: more of this metric is better")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--jobs", type=_count, metavar="N", help="processes (default: one for each core)")
    place.add_argument("--cluster", metavar="ADDRESS", help="compute on a Dask cluster, such as tcp://host:8786")
    parser.add_argument("--store", type=Path, default=STORE, metavar="DIR", help=f"finished cells (default: {STORE})")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json prints summary.json alone")
    parser.add_argument(
        "--cell", metavar="ARM:REPLICATION", help="compute this cell alone, here, and print its metrics as JSON"
    )
    return parser


def _sweep(arguments: argparse.Namespace, given: Sequence[str]) -> int:
    study = load_study(arguments.scenario, _settings(arguments), _design(arguments))
    store = Store(arguments.store)
    if arguments.cell is not None:
        return _one_cell(study, store, arguments.cell)
    precision, aim = _precision(arguments), _aim(arguments)
    if arguments.overwrite and arguments.out is None:
        raise ResultsError("--overwrite: replaces the folder named by --out; name it, or leave --overwrite out")
    out = arguments.out or _new_folder(study)
    asked = [name for name in (precision and precision.metric, aim and aim.metric) if name]
    with RunFolder(out, overwrite=arguments.overwrite) as folder:
        with engine(arguments.jobs, arguments.cluster) as computing:
            sweep = Sweep(study, computing, store, asked)
            with progress_bar(study.scenario.name) as progress:
                if precision is None:
                    sweep.run(progress)
                else:
                    sweep.run_until(precision, _most(arguments, study.scenario.replications), progress)
        told, rows = _write(folder, sweep, aim, given)
    if arguments.format == "json":
        sys.stdout.write(to_json(told))
    else:
        _print(sweep, told, rows, out)
    return 1 if told["failures"] else 0


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = dict(parse_setting(setting) for setting in arguments.set)
    shortcuts = {key: getattr(arguments, key) for key in ("seed", "replications")}
    return settings | {key: value for key, value in shortcuts.items() if value is not None}


def _design(arguments: argparse.Namespace) -> Design:
    if (arguments.design == "lhs") != (arguments.points is not None):
        raise ScenarioError("--points: says how many points --design lhs has; give both or neither")
    if arguments.points is not None:
        return latin_hypercube(arguments.points)
    return one_at_a_time if arguments.design == "one_at_a_time" else full_grid


def _precision(arguments: argparse.Namespace) -> Precision | None:
    if arguments.until is None and arguments.max_replications is not None:
        raise ScenarioError("--max-replications: bounds --until; add that, or use --replications")
    return None if arguments.until is None else parse_precision(arguments.until)


def _most(arguments: argparse.Namespace, least: int) -> int:
    most: int = arguments.max_replications or MOST_TIMES * least
    if most < least:
        raise ScenarioError(f"--max-replications: is {most}, must be at least the {least} replications to begin with")
    return most


def _aim(arguments: argparse.Namespace) -> table.Aim | None:
    metric = arguments.minimise or arguments.maximise
    return table.Aim(metric, arguments.maximise is not None) if metric else None


def _one_cell(study: Study, store: Store, place: str) -> int:
    """Compute one cell in this process, where a defect shows its traceback and a debugger can look at it."""
    arm, colon, replication = place.partition(":")
    if not (colon and arm.isdigit() and replication.isdigit() and int(arm) < len(study.arms)):
        raise ScenarioError(f"--cell {place}: must be ARM:REPLICATION with an arm below {len(study.arms)}, such as 0:0")
    chosen, number = study.arms[int(arm)], int(replication)
    text = simulate_cell(chosen, number)
    store.put(cell_key(chosen.scenario, number), text)
    sys.stdout.write(to_json({"parameters": chosen.parameters, "metrics": read_cell(text).metrics}))
    return 0


def _write(
    folder: RunFolder, sweep: Sweep, aim: table.Aim | None, given: Sequence[str]
) -> tuple[dict[str, Any], list[Row]]:
    """Write the folder; returns the summary and the table of arms."""
    result, frame = sweep.result(), table.cells_frame(sweep)
    command = ["python", "-m", "infertuner.sweep", *given]
    failures: list[Row] = [
        {"arm": arm, "replication": number, "reason": why, "rerun": shlex.join([*command, "--cell", f"{arm}:{number}"])}
        for (arm, number), why in sweep.counted_failures().items()
    ]
    told, rows = table.summary(sweep, result, aim, failures), table.arm_rows(sweep, result, aim)
    if len(frame):
        folder.append("sweep.parquet", frame)
        frame.to_csv(folder.file("sweep.csv"), index=False, lineterminator="\n")
        folder.write_csv("arms.csv", rows)
        drawn = table.warmups(sweep, result)
        scenario = sweep.study.scenario
        if drawn:
            figure = draw_warmup(f"{scenario.name}: warm-up", drawn, scenario.warmup_s)
            figures.save(figure, folder.file("figures/warmup.png"))
    folder.write_json("summary.json", told)
    as_run, made = resolved_yaml(sweep.study, folder.path), study_provenance(sweep.study, command)
    folder.write_text("scenario.resolved.yaml", as_run)
    folder.write_json("provenance.json", made)
    folder.write_text("report.html", sweep_page(sweep, aim, rows, told=told, provenance=made, scenario_yaml=as_run))
    return told, rows


def _print(sweep: Sweep, told: dict[str, Any], rows: list[Row], out: Path) -> None:
    console, scenario, run = Console(), sweep.study.scenario, told["run"]
    if rows:
        title = f"{scenario.name}: {scenario.description}" if scenario.description else scenario.name
        print_table(title, rows, console)
    notes = [f"latency: {source}" for source in told["latency"]]
    notes += [f"warning: {warning}" for warning in told["warnings"]]
    notes += [
        f"failed: arm {row['arm']}, replication {row['replication']}: {row['reason']}" for row in told["failures"]
    ]
    notes += [f"  again: {row['rerun']}" for row in told["failures"]]
    notes.append(
        f"{run['cells']:,} cells in {run['wall_s']:.1f} s: {run['computed']:,} computed by {run['workers']} at a time, "
        f"{run['from_store']:,} from {sweep.store.folder}, {len(told['failures']):,} failed; written to {out}"
    )
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _new_folder(study: Study) -> Path:
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("results", "sweep", f"{study.scenario.name}-{stamp}")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
