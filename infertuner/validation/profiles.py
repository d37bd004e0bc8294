"""The profile that a scenario runs on, as far as something can be run with it."""

from __future__ import annotations

from infertuner.errors import ValidationError
from infertuner.latency.fitted import Profile
from infertuner.latency.kinds import Latency
from infertuner.latency.profile import Calibration, load_calibration


def measured_profile(latency: Latency) -> Calibration:
    """The scenario's profile; refused where there is none, or where nobody can build the model it was measured on."""
    if not isinstance(latency, Profile):
        raise ValidationError(
            f"latency: kind {latency.kind!r} names no model to run; set latency to a profile that was measured here "
            "(hardware also takes one with --profile FILE)"
        )
    found = load_calibration(latency.path)
    if found.provenance != "measured":
        raise ValidationError(
            f"{latency.path}: is of provenance {found.provenance!r}, so it was not measured on a machine that could be "
            "run again; measure one with python -m infertuner.calibrate"
        )
    return found
