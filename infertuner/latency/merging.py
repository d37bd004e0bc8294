"""Several runs of one calibration fitted as one: more visits, and the level of more than one hour."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from infertuner.errors import CalibrationError
from infertuner.latency.calibration import (
    REFUSE_ABOVE,
    Outcome,
    beside,
    fit_calibration,
    held_out_error,
)
from infertuner.latency.evidence import load_samples
from infertuner.latency.machine import Samples
from infertuner.latency.measuring.plan import Plan
from infertuner.latency.measuring.protocol import Stopped
from infertuner.latency.measuring.sample_table import samples_csv
from infertuner.latency.measuring.samples import Measurements
from infertuner.latency.profile import Calibration, load_calibration, save_calibration, write_atomically


def merge(profiles: Sequence[Path], out: Path | None) -> Outcome:
    """Fit the samples of these profiles together and write one profile; refuses what was not measured alike."""
    if out is None or len(profiles) < 2:
        raise CalibrationError("--merge: name two profiles or more, and the new one with --out")
    if len({path.resolve() for path in profiles}) < len(profiles):
        raise CalibrationError("--merge: a profile is named twice, and its samples would count twice; name it once")
    loaded = [load_calibration(path) for path in profiles]
    first = loaded[0]
    for path, other in zip(profiles[1:], loaded[1:], strict=True):
        _refuse_unlike(profiles[0], first, path, other)
    pooled = Measurements()
    for number, (path, one) in enumerate(zip(profiles, loaded, strict=True)):
        measured = load_samples(path, one)
        held = {visit.point for visit in pooled.visits}
        if number and held.isdisjoint(visit.point for visit in measured.visits):
            raise CalibrationError(f"--merge: {path} shares no point with the others, so their levels cannot be tied")
        pooled.visits += measured.visits
        pooled.extras += measured.extras
    fitted = {replace(visit.point, role="holdout") for visit in pooled.visits if visit.point.role == "fit"}
    pooled.visits = [visit for visit in pooled.visits if visit.point not in fitted]  # one run's held out, another's fit
    runs = [one.run_here() for one in loaded]
    plan = Plan(
        hardware=first.hardware.model_copy(update={"ceilings": None}),
        software=runs[0].software,
        model=first.model,
        seed=runs[0].protocol.seed,
        points=list(dict.fromkeys(visit.point for visit in pooled.visits)),
    )
    csv, csv_path = samples_csv(pooled), beside(out, ".samples.csv.gz")
    samples = Samples(file=csv_path.name, sha256=hashlib.sha256(csv).hexdigest())
    stopped: Stopped = "interval" if all(run.protocol.stopped == "interval" for run in runs) else "budget"
    calibration = fit_calibration(plan, pooled, stopped, samples)
    if held_out_error(calibration) > REFUSE_ABOVE:
        return Outcome(calibration, None, csv_path)
    write_atomically(csv_path, csv)
    save_calibration(calibration, out)
    return Outcome(calibration, out, csv_path)


def _refuse_unlike(first_path: Path, first: Calibration, path: Path, other: Calibration) -> None:
    """Only runs of one machine, one set of programs and one model are one calibration."""
    if "measured" not in (first.provenance, other.provenance) or first.provenance != other.provenance:
        raise CalibrationError(f"--merge: {path} is {other.provenance} and {first_path} {first.provenance}; merge runs")
    for what in ("hardware", "software", "model"):
        here, there = (getattr(one, what).model_dump(exclude={"ceilings"}) for one in (first, other))
        key = next((key for key, value in here.items() if value != there[key]), None)
        if key is not None:
            raise CalibrationError(
                f"--merge: {path} was measured with another {what} than {first_path}: "
                f"{key} is {there[key]!r} there and {here[key]!r} here; merge runs of one machine and model"
            )
