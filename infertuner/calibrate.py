"""`python -m infertuner.calibrate`: measure a decoder on this machine and write the profile simulations run on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from infertuner.commands import run_command
from infertuner.errors import CalibrationError
from infertuner.latency import hardware
from infertuner.latency.calibration import REFUSE_ABOVE, WARN_ABOVE, Outcome, calibrate, held_out_error, make_plan
from infertuner.latency.models import DTYPE_BYTES, MODELS
from infertuner.latency.points import LIMITS
from infertuner.latency.profile import Calibration, Estimate
from infertuner.latency.protocol import Progress as Reached
from infertuner.outcomes.console import print_table
from infertuner.units import format_seconds

SEED = 0
DISTURBED_ABOVE = 1.2
"""Common slow-down above which the machine had other things to do."""
EXAMPLE = "example: python -m infertuner.calibrate --model cpu-25m --device cpu --budget-s 300"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when a profile was written, 1 when the law does not predict well enough."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _calibrate(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infertuner.calibrate", description=__doc__, epilog=EXAMPLE)
    cores = os.cpu_count() or 1
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: CUDA if there is")
    parser.add_argument("--model", metavar="NAME", help=f"{', '.join(MODELS)}; default: cpu-25m, qwen1.5-1.8b on CUDA")
    parser.add_argument("--dtype", choices=list(DTYPE_BYTES), help="default: fp32, bf16 on CUDA")
    parser.add_argument("--budget-s", type=float, default=300.0, metavar="N", help="measure for at most N s (300)")
    parser.add_argument("--threads", type=int, default=max(1, cores - 1), metavar="N", help="default: cores - 1")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: calibration/<hardware>-<model>.json")
    parser.add_argument("--resume", action="store_true", help="go on with a calibration that was interrupted")
    return parser


def _calibrate(asked: argparse.Namespace) -> int:
    for key, value in (("--budget-s", asked.budget_s), ("--threads", asked.threads)):
        if not value > 0:
            raise CalibrationError(f"{key}: is {value:g}; write a number above 0")
    if asked.out is not None and (asked.out.is_dir() or not asked.out.name):
        raise CalibrationError(f"--out: {asked.out} is a folder; name the profile's file, such as profile.json")
    device = hardware.choose_device(asked.device)
    dtype = asked.dtype or ("fp32" if device == "cpu" else "bf16")
    plan = make_plan(
        asked.model or ("cpu-25m" if device == "cpu" else "qwen1.5-1.8b"),
        *hardware.describe(device, asked.threads),
        dtype=dtype,
        limits=LIMITS[device],
        seed=SEED,
    )
    build = partial(
        hardware.build_decoder,
        plan.model.config,
        dtype=dtype,
        device=device,
        threads=asked.threads,
        kv_tokens=plan.kv_tokens,
        seed=SEED,
    )
    with _bar() as bar:
        task = bar.add_task(plan.name, total=asked.budget_s)

        def tell(reached: Reached) -> None:
            done = f"{plan.name}: round {reached.round + 1}, {reached.settled} of {reached.points} points settled"
            bar.update(task, completed=reached.elapsed_s, description=done, refresh=True)

        out = asked.out or Path("calibration", f"{plan.name}.json")
        outcome = calibrate(plan, build, out, budget_s=asked.budget_s, resume=asked.resume, tell=tell)
    _report(outcome, Console())
    return 0 if outcome.written else 1


def _bar() -> Progress:
    """A bar on stderr without a thread of its own, which would take the core away from what is being timed."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("left at most"))
    console = Console(stderr=True)
    return Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)


def _report(outcome: Outcome, console: Console) -> None:
    """Print what was found, how well it predicts, and where it is."""
    found, protocol = outcome.calibration, outcome.calibration.protocol
    print_table(f"{found.model.name} {found.model.dtype} on {found.hardware.name}", list(_rows(found)), console)
    low, high = protocol.drift_ratio
    lines = [
        f"{protocol.calls:,} calls in {protocol.visits} visits, stopped by {protocol.stopped}; "
        f"{protocol.preempted_ratio:.0%} of calls preempted; drift of {low - 1:+.0%} to {high - 1:+.0%} removed",
        *_verdict(outcome),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _rows(found: Calibration) -> Iterator[dict[str, str]]:
    prefill, decode = found.prefill, found.decode
    for what, cells in {
        "form": [law.form for law in (prefill, decode)],
        "smallest step": [_step(law.knots[0].tokens, law.knots[0].step_s) for law in (prefill, decode)],
        "largest step": [_step(law.knots[-1].tokens, law.knots[-1].step_s) for law in (prefill, decode)],
        "per KV entry read": [_seconds(law.kv_entry_s) for law in (prefill, decode)],
        "per sequence": [_seconds(prefill.sequence_s), ""],
        "per attended pair": [_seconds(prefill.attended_pair_s), ""],
        "batch sizes": [_range(law.box.batch_size) for law in (prefill, decode)],
        "context tokens": [_range(law.box.context_tokens) for law in (prefill, decode)],
        "tokens in a batch": [_range(prefill.box.batch_tokens), ""],
        "held-out points": [f"{law.holdout.points}" for law in (prefill, decode)],
        "held-out error, mean": [f"{law.holdout.mean_ratio:.1%}" for law in (prefill, decode)],
        "held-out error, worst": [f"{law.holdout.worst_ratio:.1%}" for law in (prefill, decode)],
        "scatter of visits": [f"{law.noise.between_visits_ratio:.1%}" for law in (prefill, decode)],
    }.items():
        yield {"": what, "prefill": cells[0], "decode": cells[1]}


def _verdict(outcome: Outcome) -> Iterator[str]:
    """Where the profile is or why there is none, then what to be careful about."""
    error, slowest = held_out_error(outcome.calibration), outcome.calibration.protocol.drift_ratio[1]
    if outcome.written is None:
        yield f"no profile written: the held-out error {error:.1%} is above {REFUSE_ABOVE:.0%}"
        yield f"measure longer in a quiet moment with --resume, or delete {outcome.samples} to start over"
        return
    yield f"wrote {outcome.written} and {outcome.samples}"
    if error > WARN_ABOVE:
        yield f"warning: the held-out error {error:.1%} is above {WARN_ABOVE:.0%}; measure longer if you can"
    if slowest > DISTURBED_ABOVE:
        yield f"warning: everything took {slowest:.1f} times as long for a while; measure again in a quiet moment"


def _step(tokens: int, seconds: Estimate) -> str:
    return f"{tokens} tokens: {_seconds(seconds)}"


def _seconds(estimate: Estimate) -> str:
    """The number and the half-width of its interval in per cent."""
    half = (estimate.high - estimate.low) / 2 / estimate.value if estimate.value else 0.0
    return f"{format_seconds(estimate.value)} ± {half:.1%}"


def _range(measured: tuple[int, int]) -> str:
    return f"{measured[0]} to {measured[1]}"


if __name__ == "__main__":
    sys.exit(main())
