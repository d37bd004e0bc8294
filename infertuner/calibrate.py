"""`python -m infertuner.calibrate`: measure a decoder on this machine and write the profile simulations run on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from infertuner.commands import run_command
from infertuner.errors import CalibrationError
from infertuner.latency import hardware
from infertuner.latency.calibration import REFUSE_ABOVE, WARN_ABOVE, Outcome, beside, calibrate, held_out_error
from infertuner.latency.evidence import load_evidence
from infertuner.latency.forecast import forecast
from infertuner.latency.hardware.timing import Device
from infertuner.latency.importers.gpus import GPUS
from infertuner.latency.importers.profiles import READERS, import_profile, profile_name
from infertuner.latency.machine import Hardware, Software
from infertuner.latency.measuring.plan import Plan, choose, make_plan
from infertuner.latency.measuring.protocol import Progress as Reached
from infertuner.latency.merging import merge
from infertuner.latency.models import DTYPE_BYTES, MODELS
from infertuner.latency.points import LIMITS
from infertuner.latency.profile import save_calibration
from infertuner.outcomes import calibration_report as report
from infertuner.outcomes.calibration_figures import write_figure
from infertuner.outcomes.console import print_table
from infertuner.validation.step_profile import SUFFIXES, import_results

SEED = 0
BUDGET_S = {"cpu": 150.0, "cuda": 300.0}
ASSUMED_GPU_BYTES = 80 * 2**30
"""Memory of the GPU a dry run imagines where there is none."""
EXAMPLE = "example: python -m infertuner.calibrate --model cpu-25m --device cpu --budget-s 150"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when a profile was written, 1 when the law does not predict well enough."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _calibrate(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infertuner.calibrate", description=__doc__, epilog=EXAMPLE)
    cores = os.cpu_count() or 1
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: CUDA if there is")
    parser.add_argument(
        "--model",
        metavar="NAME_OR_FOLDER",
        help=f"{', '.join(MODELS)}, or a folder with config.json; default: cpu-25m, qwen1.5-1.8b on CUDA",
    )
    parser.add_argument("--shape", metavar="SIZES", help="instead of --model: layers=..,hidden=..,heads=..,...")
    parser.add_argument("--tp", type=int, default=1, metavar="N", help="measure one of N tensor-parallel shards (1)")
    parser.add_argument("--dtype", choices=list(DTYPE_BYTES), help="default: fp32, bf16 on CUDA")
    parser.add_argument("--budget-s", type=float, metavar="N", help="measure for at most N s (150, 300 on CUDA)")
    parser.add_argument("--threads", type=int, default=max(1, cores - 1), metavar="N", help="default: cores - 1")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: calibration/<hardware>-<model>.json")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="for the figure; default: beside the profile")
    parser.add_argument("--resume", action="store_true", help="go on with a calibration that was interrupted")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="PROFILE", help="fit profiles' samples as one, to --out"
    )
    parser.add_argument(
        "--import",
        dest="published",
        nargs=2,
        metavar=("FORMAT", "PATH"),
        help=f"fit somebody else's measurements instead: {', '.join([*READERS, *SUFFIXES])} (see docs/importing.md)",
    )
    parser.add_argument("--gpu", metavar="NAME", help=f"of --import, where the path does not tell: {', '.join(GPUS)}")
    parser.add_argument("--commit", metavar="ID", help="of --import: the version of the source, for the record")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost, measure nothing")
    return parser


def _calibrate(asked: argparse.Namespace) -> int:
    for key, value in (("--budget-s", asked.budget_s), ("--threads", asked.threads)):
        if value is not None and not value > 0:
            raise CalibrationError(f"{key}: is {value:g}; write a number above 0")
    if asked.out is not None and (asked.out.is_dir() or not asked.out.name):
        raise CalibrationError(f"--out: {asked.out} is a folder; name the profile's file, such as profile.json")
    for key, value in (("--gpu", asked.gpu), ("--commit", asked.commit)):
        if value is not None and not asked.published:
            raise CalibrationError(f"{key}: belongs to --import; leave it out, the machine here is asked what it is")
    console = Console()
    if asked.published:
        return _import(asked, console)
    if asked.merge:
        return _finish(merge(asked.merge, asked.out), asked.report, console)
    device, machine, software = _machine(asked)
    dtype = asked.dtype or ("fp32" if device == "cpu" else "bf16")
    choice = choose(asked.model, asked.shape, asked.tp, "cpu-25m" if device == "cpu" else "qwen1.5-1.8b")
    plan = make_plan(choice, machine, software, dtype=dtype, limits=LIMITS[device], seed=SEED)
    out = asked.out or Path("calibration", f"{plan.name}.json")
    budget_s = asked.budget_s or BUDGET_S[device]
    if asked.dry_run:
        _print_plan(plan, out, budget_s, console)
        return 0
    build = partial(
        hardware.build_bench,
        choice.config,
        dtype=dtype,
        device=device,
        threads=asked.threads,
        kv_tokens=plan.kv_tokens,
        seed=SEED,
        weights=choice.weights,
    )
    with _bar() as bar:
        task = bar.add_task(plan.name, total=budget_s, left="")

        def tell(reached: Reached) -> None:
            done = f"{plan.name}: round {reached.round + 1}, {reached.settled} of {reached.points} points settled"
            left = f"{reached.left_s:.0f} s left at most"
            bar.update(task, completed=reached.elapsed_s, description=done, left=left, refresh=True)

        outcome = calibrate(plan, build, out, budget_s=budget_s, resume=asked.resume, tell=tell)
    return _finish(outcome, asked.report, console)


def _import(asked: argparse.Namespace, console: Console) -> int:
    """Fit what somebody else measured, and publish it if it predicts what was held out."""
    format_, path = asked.published
    if format_ not in {*READERS, *SUFFIXES}:
        raise CalibrationError(f"--import: {format_!r} is not known; choose one of {', '.join([*READERS, *SUFFIXES])}")
    read = import_results if format_ in SUFFIXES else import_profile
    found = read(format_, Path(path), model=asked.model, gpu=asked.gpu, tp=asked.tp, commit=asked.commit)
    out = asked.out or Path("calibration", f"{profile_name(found)}.json")
    error = held_out_error(found)
    written = error <= REFUSE_ABOVE
    if written:
        save_calibration(found, out)
    print_table(
        f"{found.model.name} {found.model.dtype} on {found.hardware.name}", list(report.law_rows(found)), console
    )
    verdict = (
        f"wrote {out}" if written else f"no profile written: the held-out error {error:.1%} is above {REFUSE_ABOVE:.0%}"
    )
    _print([f"from {found.source}", found.origin.note if found.origin else "", verdict], console)
    return 0 if written else 1


def _machine(asked: argparse.Namespace) -> tuple[Device, Hardware, Software]:
    """The device and what runs on it; a dry run imagines a GPU where there is none."""
    imagined = asked.dry_run and asked.device == "cuda" and hardware.choose_device("auto") == "cpu"
    device = hardware.choose_device("cpu" if imagined else asked.device)
    machine, software = hardware.describe(device, asked.threads)
    if not imagined:
        return device, machine, software
    gpu = {"name": "a GPU that is not here", "device": "cuda", "memory_bytes": ASSUMED_GPU_BYTES}
    return "cuda", machine.model_copy(update=gpu), software


def _bar() -> Progress:
    """A bar on stderr without a thread of its own, which would take the core away from what is being timed."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    console = Console(stderr=True)
    return Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)


def _print_plan(plan: Plan, out: Path, budget_s: float, console: Console) -> None:
    expected = forecast(plan)
    title = f"{plan.model.name} {plan.model.dtype} on {plan.hardware.name}: nothing is measured yet"
    print_table(title, list(report.forecast_rows(expected)), console)
    _print([*report.forecast_lines(expected, budget_s), f"would write {', '.join(map(str, _files(out)))}"], console)


def _files(out: Path) -> list[Path]:
    return [out, beside(out, ".samples.csv.gz"), beside(out, ".png")]


def _finish(outcome: Outcome, folder: Path | None, console: Console) -> int:
    """Report, draw, and say by the exit code whether there is a profile."""
    found = outcome.calibration
    print_table(
        f"{found.model.name} {found.model.dtype} on {found.hardware.name}", list(report.law_rows(found)), console
    )
    print_table("What the laws say", list(report.example_rows(found)), console)
    if found.end_to_end:
        print_table("Whole calls, never fitted", list(report.end_to_end_rows(found.end_to_end)), console)
    figure = _draw(outcome.written, folder) if outcome.written else None
    lines = [*report.notes(found), *_verdict(outcome, figure), *(f"warning: {one}" for one in report.warnings(found))]
    _print(lines, console)
    return 0 if outcome.written else 1


def _draw(written: Path, folder: Path | None) -> Path:
    path = beside(written, ".png") if folder is None else folder / beside(written, ".png").name
    write_figure(load_evidence(written), path)
    return path


def _verdict(outcome: Outcome, figure: Path | None) -> Iterator[str]:
    """Where the profile is or why there is none."""
    error = held_out_error(outcome.calibration)
    if outcome.written is None:
        yield f"no profile written: the held-out error {error:.1%} is above {REFUSE_ABOVE:.0%}"
        yield f"measure longer in a quiet moment with --resume, or delete {outcome.samples} to start over"
        return
    yield f"wrote {outcome.written}, {outcome.samples} and {figure}"
    if error > WARN_ABOVE:
        yield f"warning: the held-out error {error:.1%} is above {WARN_ABOVE:.0%}; measure longer if you can"


def _print(lines: list[str], console: Console) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
