"""`python -m infertuner.simulate SCENARIO.yaml`: run a scenario's arms and write tables, figures and records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from infertuner.commands import run_command, scenario_parser
from infertuner.errors import ResultsError
from infertuner.experiments.analyses import analysis_of
from infertuner.experiments.exports import export_run
from infertuner.experiments.report import keep_records, print_result, summary, write_run
from infertuner.experiments.result import Cell
from infertuner.experiments.runs import run_study
from infertuner.outcomes.exports import EXPORTS
from infertuner.outcomes.folder import RunFolder, to_json
from infertuner.outcomes.perfetto import parse_window, write_timeline
from infertuner.outcomes.progress import progress_bar
from infertuner.scenario.overrides import parse_setting
from infertuner.scenario.study import Study, load_study

EXAMPLE = "python -m infertuner.simulate scenarios/cache.yaml --set cluster.gpus=2 --replications 5"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when done and 2 on bad input."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _simulate(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = scenario_parser(
        "simulate", __doc__, EXAMPLE, values="change a key, such as cluster.gpus=4", runs="every arm is run"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json prints summary.json alone")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write the first arm's first run as a Perfetto timeline (JSON)"
    )
    parser.add_argument("--trace-window", metavar="FROM:TO", help="what of it to write, such as 10s:20s (default: all)")
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        choices=EXPORTS,
        help="write each arm's first run as this benchmark would have, under exports/ (repeatable)",
    )
    return parser


def _simulate(arguments: argparse.Namespace) -> int:
    settings = dict(parse_setting(setting) for setting in arguments.set)
    settings |= {
        key: getattr(arguments, key) for key in ("seed", "replications") if getattr(arguments, key) is not None
    }
    study = load_study(arguments.scenario, settings)
    if arguments.overwrite and arguments.out is None:
        raise ResultsError("--overwrite: replaces the folder named by --out; name it, or leave --overwrite out")
    if arguments.trace_window is not None and arguments.trace is None:
        raise ResultsError("--trace-window: chooses a part of the file named by --trace; name it, or leave this out")
    window = parse_window(arguments.trace_window) if arguments.trace_window else None
    out = arguments.out or _new_folder(study)
    with RunFolder(out, overwrite=arguments.overwrite) as folder:

        def keep(cell: Cell) -> None:
            keep_records(folder, cell)
            export_run(folder, study, cell, arguments.export)
            if arguments.trace is not None and cell.arm_index == cell.replication == 0:
                write_timeline(arguments.trace, cell.records, window)

        with progress_bar(study.scenario.name) as progress:
            result = run_study(study, progress, keep)
        write_run(folder, result, sys.argv)
    if arguments.format == "json":
        sys.stdout.write(to_json(summary(result)))
        return 0
    console = Console()
    print_result(result, console)
    if arguments.trace is not None:
        console.print(f"timeline, to open in ui.perfetto.dev: {arguments.trace}", markup=False, soft_wrap=True)
    console.print(f"{result.requests:,} requests in {result.wall_s:.1f} s; written to", highlight=False)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        console.print(f"  {path}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _new_folder(study: Study) -> Path:
    """results/<experiment>/<scenario>-<local time>: a new folder every second."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("results", analysis_of(study.scenario).folder, f"{study.scenario.name}-{stamp}")


if __name__ == "__main__":
    sys.exit(main())
