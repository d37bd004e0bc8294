"""Measured against fitted, point by point: what a reader of a profile needs to judge it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infertuner.errors import ProfileError
from infertuner.latency.fitted import ProfileLatency
from infertuner.latency.measuring.polish import polish
from infertuner.latency.measuring.sample_table import read_samples_csv
from infertuner.latency.measuring.samples import Measurements
from infertuner.latency.model import Chunk
from infertuner.latency.points import Point
from infertuner.latency.profile import NEXT_STEP, Calibration, load_calibration


@dataclass(frozen=True)
class Comparison:
    """One point, measured and predicted."""

    point: Point
    measured_s: float
    """Median of its visits, drift removed."""
    half_width_ratio: float
    """Of the 95 % interval of `measured_s`."""
    fitted_s: float

    @property
    def error_ratio(self) -> float:
        """Fitted over measured, minus 1."""
        return self.fitted_s / self.measured_s - 1


@dataclass(frozen=True)
class Evidence:
    """A profile and what was measured for it."""

    calibration: Calibration
    measured: Measurements
    comparisons: list[Comparison]
    drift: list[tuple[float, float]]
    """Minutes since the first visit, and the common change of step time then (1 is the run's median)."""


def gather(calibration: Calibration, measured: Measurements) -> Evidence:
    """Hold the measurements against the profile's laws; visits time the device, so the host's gap stays out."""
    law = ProfileLatency(calibration.model_copy(update={"host_gap": None}), name="this profile", refuse=False)
    polished = polish(measured.visits)
    compared = zip(polished.points, polished.medians_s(), polished.half_widths(), strict=True)
    began_s = min(visit.at_s for visit in measured.visits)
    minutes = sorted((visit.at_s - began_s) / 60 for visit in measured.visits)
    return Evidence(
        calibration,
        measured,
        [Comparison(point, float(s), float(width), fitted_s(law, point)) for point, s, width in compared],
        list(zip(minutes, np.exp(polished.drift).tolist(), strict=True)),
    )


def load_evidence(profile: Path) -> Evidence:
    """A profile file with the samples beside it; raises ProfileError where they are missing or are not its own."""
    calibration = load_calibration(profile)
    return gather(calibration, load_samples(profile, calibration))


def load_samples(profile: Path, calibration: Calibration) -> Measurements:
    """The samples that belong to a profile file."""
    samples = calibration.run_here().samples
    path = profile.with_name(samples.file)
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise ProfileError(f"{path}: the profile's samples cannot be read ({error.strerror}); {NEXT_STEP}") from None
    if hashlib.sha256(packed).hexdigest() != samples.sha256:
        raise ProfileError(f"{path}: is not the file {profile} was fitted to (other SHA-256); {NEXT_STEP}")
    try:
        return read_samples_csv(packed)
    except ValueError as error:
        raise ProfileError(f"{path}: is not a table of samples ({error}); {NEXT_STEP}") from None


def fitted_s(law: ProfileLatency, point: Point) -> float:
    """What the laws say about a point."""
    if point.kind == "decode":
        return law.decode_s(batch_size=point.batch_size, context_tokens=point.context_tokens, steps=1)
    if point.kind == "prefill":
        return law.prefill_s(
            batch_size=point.batch_size, new_tokens=point.new_tokens, cached_tokens=point.cached_tokens
        )
    chunk = Chunk(point.cached_tokens, point.new_tokens)
    return law.iteration_s(chunks=[chunk], decodes=point.decodes, kv_entries=point.decode_entries)
