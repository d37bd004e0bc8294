"""A calibration from beginning to end: measure, check, fit, judge, and publish what passed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from infertuner.errors import CalibrationError
from infertuner.latency.fitted import ProfileLatency
from infertuner.latency.fitting import fit_visits, side_sections
from infertuner.latency.machine import Protocol, Samples
from infertuner.latency.measuring.plan import Plan, named
from infertuner.latency.measuring.polish import MIN_VISITS, polish
from infertuner.latency.measuring.protocol import Bench, Progress, Stopped, measure
from infertuner.latency.measuring.sample_table import samples_csv
from infertuner.latency.measuring.samples import Measurements, SampleFile
from infertuner.latency.physics import SLACK, least_s
from infertuner.latency.profile import Calibration, save_calibration, write_atomically
from infertuner.units import format_seconds

REFUSE_ABOVE, WARN_ABOVE = 0.10, 0.05
"""Mean held-out error above which a profile is not written, and above which it is with a warning."""


@dataclass(frozen=True)
class Outcome:
    """What a calibration found, and the file it wrote if the law holds."""

    calibration: Calibration
    written: Path | None
    """None when the held-out error is above `REFUSE_ABOVE`."""
    samples: Path
    """Where the raw measurements are."""


def calibrate(
    plan: Plan,
    build: Callable[[], Bench],
    out: Path,
    *,
    budget_s: float,
    resume: bool,
    tell: Callable[[Progress], None],
) -> Outcome:
    """Measure `plan` for at most `budget_s`, fit, and write the profile to `out` if it predicts well.

    The raw measurements end up beside it as CSV; until then they are in a `.part` file that survives being killed.
    build: makes the bench to measure on, once it is clear that measuring can begin.
    """
    part = SampleFile(beside(out, ".samples.jsonl.part"))
    measured = part.begin(plan.header(), resume=resume)
    faster = set_aside(plan, measured)
    bench = build()
    before = bench.state()
    stopped = measure(bench, plan.points, plan.extras, part, measured, budget_s=budget_s, seed=plan.seed, tell=tell)
    faster += set_aside(plan, measured)
    check_enough(plan, measured, f"{budget_s:g} s were spent", f"go on with --resume (all is kept in {part.path})")
    csv = samples_csv(measured)
    csv_path = beside(out, ".samples.csv.gz")
    samples = Samples(file=csv_path.name, sha256=hashlib.sha256(csv).hexdigest())
    calibration = fit_calibration(plan, measured, stopped, samples)
    states = {"device_before": before, "device_after": bench.state(), "faster_than_peak": faster}
    calibration = calibration.model_copy(update={"protocol": calibration.run_here().protocol.model_copy(update=states)})
    if held_out_error(calibration) > REFUSE_ABOVE:
        return Outcome(calibration, None, part.path)
    write_atomically(csv_path, csv)
    save_calibration(calibration, out)
    part.path.unlink()
    return Outcome(calibration, out, csv_path)


def set_aside(plan: Plan, measured: Measurements) -> list[str]:
    """Take visits that are faster than the hardware can be out of `measured`; returns each in words."""
    peak = side_sections.ceilings(measured.extras)
    if peak is None:
        return []
    model = plan.model
    least = {point: least_s(point, model.config, model.dtype, peak) / SLACK for point in plan.points}
    faster = [visit for visit in measured.visits if visit.median_s < least[visit.point]]
    measured.visits = [visit for visit in measured.visits if visit.median_s >= least[visit.point]]
    return [
        f"{named(visit.point)}: {format_seconds(visit.median_s)} in round {visit.round + 1}, and reading its bytes and "
        f"doing its operations at the measured peak takes {format_seconds(least[visit.point])}"
        for visit in faster
    ]


def check_enough(plan: Plan, measured: Measurements, spent: str, next_step: str) -> None:
    """Raise CalibrationError when a point that can be measured has too few visits to have an interval."""
    counts = Counter(visit.point for visit in measured.visits)
    gone = {one.work for one in measured.skipped}
    points = [point for point in plan.points if point not in gone]
    short = sum(counts[point] < MIN_VISITS for point in points)
    if short:
        raise CalibrationError(
            f"--budget-s: {spent} and {short} of {len(points)} points have fewer than {MIN_VISITS} visits; {next_step}"
        )


def fit_calibration(plan: Plan, measured: Measurements, stopped: Stopped, samples: Samples) -> Calibration:
    """Fit all laws to these measurements and put the profile together."""
    visits, model = measured.visits, plan.model
    polished = polish(visits)
    half_widths = polished.half_widths()
    began = datetime.fromtimestamp(min(visit.at_s for visit in visits), tz=UTC)
    preempted = [flag for visit in visits for flag in visit.timing.preempted]
    protocol = Protocol(
        measured_at=began.isoformat(timespec="seconds"),
        seed=plan.seed,
        fit_points=sum(point.role == "fit" for point in plan.points),
        holdout_points=sum(point.role == "holdout" for point in plan.points),
        visits=len(visits),
        calls=len(preempted),
        stopped=stopped,
        median_interval_ratio=float(np.median(half_widths)),
        widest_interval_ratio=float(np.max(half_widths)),
        drift_ratio=(float(np.exp(polished.drift.min())), float(np.exp(polished.drift.max()))),
        preempted_ratio=sum(preempted) / len(preempted),
        skipped=[f"{named(one.work)}: {one.reason}" for one in measured.skipped],
    )
    laws = fit_visits(visits, polished, seed=plan.seed)
    gap = side_sections.host_gap(plan.hardware.device, visits, measured.extras)
    calibration = Calibration(
        schema="infertuner.calibration/1",
        provenance="measured",
        source="python -m infertuner.calibrate on the hardware named here",
        hardware=plan.hardware.model_copy(update={"ceilings": side_sections.ceilings(measured.extras)}),
        software=plan.software,
        model=model,
        protocol=protocol,
        samples=samples,
        prefill=laws.prefill,
        decode=laws.decode,
        mixed=laws.mixed,
        copies=side_sections.copies(measured.extras),
        host_gap=gap,
    )
    law = ProfileLatency(calibration, name="this profile", refuse=False)
    return calibration.model_copy(update={"end_to_end": side_sections.end_to_end(measured.extras, law, gap)})


def held_out_error(calibration: Calibration) -> float:
    """The worst of the laws' mean absolute relative errors on points they never saw."""
    laws = (calibration.prefill, calibration.decode, calibration.mixed)
    return max(law.holdout.mean_ratio for law in laws if law is not None)


def beside(out: Path, ending: str) -> Path:
    """A file that belongs to the profile `out`."""
    return out.with_name(out.name.removesuffix(".json") + ending)
