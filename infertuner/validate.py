"""`python -m infertuner.validate MODE ...`: hold a simulation against what really happens, and say the error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from infertuner.commands import run_command
from infertuner.errors import ValidationError
from infertuner.experiments.report import resolved_yaml
from infertuner.outcomes.folder import RunFolder, to_json
from infertuner.scenario.overrides import parse_setting
from infertuner.scenario.study import Study, load_study
from infertuner.validation import file_requests, file_results, hardware_runs
from infertuner.validation.engine import runs as engine_runs
from infertuner.validation.file_formats import COLUMNS
from infertuner.validation.files import KNOWN
from infertuner.validation.progress import progress
from infertuner.validation.report import Validation, print_validation, write_validation
from infertuner.validation.unfinished import UnfinishedFile
from infertuner.validation.verdicts import parse_bound

BOUNDS: dict[str, dict[str, float]] = {
    "hardware": {"e2e_mean": 0.05, "e2e_p95": 0.05},
    "engine": {"e2e_mean": 0.08, "ttft_mean": 0.12},
    "file": {"tpot_mean": 0.10, "ttft_mean": 0.25},
    "results": {"tpot_mean": 0.10, "ttft_mean": 0.25},
}
"""What each mode promises unless told otherwise."""
EXAMPLES = {
    "hardware": "example: python -m infertuner.validate hardware scenarios/cache.yaml",
    "engine": "example: python -m infertuner.validate engine scenarios/engine.yaml --replications 3",
    "file": "example: python -m infertuner.validate file measured.json scenarios/engine.yaml --bound ttft_p95=0.3",
    "results": "example: python -m infertuner.validate results measured.json results/plain/engine --bound e2e_mean=0.1",
}
HELP = {
    "hardware": "run the scenario on the device: every simulated step lasts what it is measured to last",
    "engine": "serve the scenario's requests in real time with transformers' continuous batching",
    "file": "simulate the requests of a file that a benchmark wrote",
    "results": "compare two results: run folders or files that benchmarks wrote, either with either",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when every bound held, 1 when one was missed and 2 on bad input."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _validate(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infertuner.validate", description=__doc__)
    modes = parser.add_subparsers(dest="mode", required=True, metavar="MODE")
    for mode, text in HELP.items():
        one = modes.add_parser(mode, help=text, description=text, epilog=EXAMPLES[mode])
        if mode in ("file", "results"):
            one.add_argument("measured", type=Path, metavar="MEASURED", help=KNOWN)
        if mode == "results":
            one.add_argument("compared", type=Path, metavar="COMPARED", help="the same; held against MEASURED")
        else:
            one.add_argument("scenario", type=Path, metavar="SCENARIO.yaml")
            one.add_argument(
                "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key (repeatable)"
            )
        _add_common(one, mode)
        if mode in ("file", "results"):
            names = ", ".join(COLUMNS)
            one.add_argument(
                "--column", action="append", default=[], metavar="OURS=THEIRS", help=f"what a .csv calls {names}"
            )
        else:
            one.add_argument("--replications", type=int, default=1, metavar="N", help="runs to measure (1)")
            one.add_argument("--twice", action="store_true", help="measure each run twice: the noise floor")
            one.add_argument("--resume", action="store_true", help="go on with a validation that was interrupted")
        if mode == "hardware":
            one.add_argument("--profile", type=Path, metavar="FILE", help="use this profile as the scenario's latency")
    return parser


def _add_common(parser: argparse.ArgumentParser, mode: str) -> None:
    default = " ".join(f"{name}={ratio:g}" for name, ratio in BOUNDS[mode].items())
    parser.add_argument(
        "--bound",
        action="append",
        default=[],
        metavar="METRIC=RATIO",
        help=f"largest error allowed, such as e2e_mean=0.05 (repeatable; default: {default})",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"default: results/validation/{mode}-<name>")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json prints summary.json alone")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder of results")


def _validate(asked: argparse.Namespace) -> int:
    bounds = dict(parse_bound(bound) for bound in asked.bound) or BOUNDS[asked.mode]
    if getattr(asked, "replications", 1) < 1:
        raise ValidationError(f"--replications: is {asked.replications}; write a number of 1 or more")
    if asked.mode == "results":
        validation = file_results.validate(asked.measured, asked.compared, dict(map(_column, asked.column)), bounds)
        out = asked.out or Path("results", "validation", f"results-{asked.compared.stem}")
        with RunFolder(out, overwrite=asked.overwrite) as folder:
            write_validation(folder, validation, sys.argv)
        return _tell(validation, out, asked.format)
    study = load_study(asked.scenario, _settings(asked))
    out = asked.out or Path("results", "validation", f"{asked.mode}-{study.scenario.name}")
    with RunFolder(out, overwrite=asked.overwrite) as folder:
        unfinished = UnfinishedFile(out.with_name(f"{out.name}.unfinished.jsonl"))
        try:
            validation = _run(asked, study, bounds, unfinished)
        except KeyboardInterrupt:
            if unfinished.path.exists():
                sys.stderr.write(f"{unfinished.path} holds the runs that ended; go on with --resume\n")
            raise
        write_validation(folder, validation, sys.argv)
        folder.write_text("scenario.resolved.yaml", resolved_yaml(study, folder.path))
        if unfinished.path.exists():
            folder.write_text("measured.jsonl", unfinished.path.read_text(encoding="utf-8"))
    unfinished.remove()
    return _tell(validation, out, asked.format)


def _tell(validation: Validation, out: Path, form: str) -> int:
    """Show what was found; the exit code."""
    if form == "json":
        sys.stdout.write(to_json(validation.summary()))
    else:
        console = Console()
        print_validation(validation, console)
        console.print(f"written to {out}", markup=False, highlight=False, soft_wrap=True)
    return 0 if validation.held else 1


def _settings(asked: argparse.Namespace) -> dict[str, Any]:
    """What the command line changes in the scenario."""
    settings = dict(parse_setting(setting) for setting in asked.set)
    profile = getattr(asked, "profile", None)
    if profile is not None:
        settings["latency"] = {"kind": "profile", "path": os.path.relpath(profile, asked.scenario.parent)}
    return settings


def _run(
    asked: argparse.Namespace, study: Study, bounds: Mapping[str, float], unfinished: UnfinishedFile
) -> Validation:
    if asked.mode == "file":
        return file_requests.validate(study, asked.measured, dict(map(_column, asked.column)), bounds)
    run = hardware_runs.validate if asked.mode == "hardware" else engine_runs.validate
    with progress() as tell:
        return run(
            study,
            bounds,
            unfinished,
            tell,
            replications=asked.replications,
            twice=asked.twice,
            resume=asked.resume,
        )


def _column(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not equals or ours not in COLUMNS or not theirs:
        raise ValidationError(f"--column {text}: must be OURS=THEIRS with one of {', '.join(COLUMNS)} before the =")
    return ours, theirs


if __name__ == "__main__":
    sys.exit(main())
