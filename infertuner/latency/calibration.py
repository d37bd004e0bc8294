"""A calibration from beginning to end: measure, fit, judge, and publish what passed."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from infertuner.errors import CalibrationError
from infertuner.latency import sections
from infertuner.latency.fitting import MIN_VISITS, polish
from infertuner.latency.machine import Hardware, Model, Protocol, Samples, Software
from infertuner.latency.models import DTYPE_BYTES, model_config
from infertuner.latency.points import Limits, Point, design
from infertuner.latency.profile import Calibration, save_calibration, write_atomically
from infertuner.latency.protocol import Bench, Progress, Stopped, measure
from infertuner.latency.samples import SampleFile, Visit, samples_csv

REFUSE_ABOVE, WARN_ABOVE = 0.10, 0.05
"""Mean held-out error above which a profile is not written, and above which it is with a warning."""


@dataclass(frozen=True)
class Plan:
    """What is measured, where and with what: everything that two halves of one calibration must share."""

    hardware: Hardware
    software: Software
    model: Model
    seed: int
    points: list[Point]

    def header(self) -> dict[str, Any]:
        """The first line of the sample file."""
        return {
            "schema": "infertuner.samples/1",
            "hardware": self.hardware.model_dump(mode="json"),
            "software": self.software.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "seed": self.seed,
            "points": [asdict(point) for point in self.points],
        }

    @property
    def kv_tokens(self) -> int:
        """KV entries the largest point needs."""
        return max(point.kv_entries for point in self.points)

    @property
    def name(self) -> str:
        """Hardware and model, as a file name."""
        return f"{hardware_slug(self.hardware)}-{self.model.name}"


@dataclass(frozen=True)
class Outcome:
    """What a calibration found, and the file it wrote if the law holds."""

    calibration: Calibration
    written: Path | None
    """None when the held-out error is above `REFUSE_ABOVE`."""
    samples: Path
    """Where the raw measurements are."""


def make_plan(name: str, hardware: Hardware, software: Software, *, dtype: str, limits: Limits, seed: int) -> Plan:
    """The plan for a bundled model on this hardware, reaching as far as its memory allows."""
    config = model_config(name)
    weights_bytes = config.num_params * DTYPE_BYTES[dtype]
    model = Model(
        name=name,
        config=config,
        params=config.num_params,
        dtype=dtype,
        weights=f"random normal, seed {seed}",
        kv_bytes_per_token=config.kv_bytes_per_token(dtype),
    )
    spare_bytes = 0.8 * hardware.memory_bytes - weights_bytes  # a fifth is left for activations and everybody else
    within = limits.within_kv(int(spare_bytes / model.kv_bytes_per_token))
    if not within.batch_sizes:
        raise CalibrationError(
            f"--model: {name} in {dtype} needs {weights_bytes / 2**30:.1f} GiB for weights and more for KV cache, "
            f"and {hardware.name} has {hardware.memory_bytes / 2**30:.1f} GiB; choose a smaller model"
        )
    return Plan(hardware, software, model, seed, design(within, seed))


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
    part = SampleFile(_beside(out, ".samples.jsonl.part"))
    visits = part.begin(plan.header(), resume=resume)
    stopped = measure(build(), plan.points, part, visits, budget_s=budget_s, seed=plan.seed, tell=tell)
    counts = Counter(visit.point for visit in visits)
    short = sum(counts[point] < MIN_VISITS for point in plan.points)
    if short:
        raise CalibrationError(
            f"--budget-s: {budget_s:g} s were spent and {short} of {len(plan.points)} points have fewer than "
            f"{MIN_VISITS} visits; go on with --resume (the measurements are kept in {part.path})"
        )
    csv = samples_csv(visits)
    csv_path = _beside(out, ".samples.csv.gz")
    samples = Samples(file=csv_path.name, sha256=hashlib.sha256(csv).hexdigest())
    calibration = fit_calibration(plan, visits, stopped, samples)
    if held_out_error(calibration) > REFUSE_ABOVE:
        return Outcome(calibration, None, part.path)
    write_atomically(csv_path, csv)
    save_calibration(calibration, out)
    part.path.unlink()
    return Outcome(calibration, out, csv_path)


def fit_calibration(plan: Plan, visits: list[Visit], stopped: Stopped, samples: Samples) -> Calibration:
    """Fit both laws to these visits and put the profile together."""
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
    )
    return Calibration(
        schema="infertuner.calibration/1",
        provenance="measured",
        source="python -m infertuner.calibrate on the hardware named here",
        hardware=plan.hardware,
        software=plan.software,
        model=plan.model,
        protocol=protocol,
        samples=samples,
        prefill=sections.prefill_law(visits, polished, seed=plan.seed),
        decode=sections.decode_law(visits, polished, seed=plan.seed),
    )


def held_out_error(calibration: Calibration) -> float:
    """The worse of the two laws' mean absolute relative errors on points they never saw."""
    return max(calibration.prefill.holdout.mean_ratio, calibration.decode.holdout.mean_ratio)


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.name.removesuffix(".json") + ending)


def hardware_slug(hardware: Hardware) -> str:
    """A short name for a file: `AMD EPYC` on 1 thread is `epyc-1t`, `NVIDIA H200` is `h200`."""
    noise = r"\((r|tm)\)|\b(amd|intel|nvidia|cpu|processor|\d+-core)\b|@.*$"
    words = re.sub(noise, " ", hardware.name.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "unknown"
    return slug if hardware.device == "cuda" else f"{slug}-{hardware.threads}t"
