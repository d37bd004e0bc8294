"""What a validation runs on: the scenario's profile, this machine, and the profile's decoder built on it."""

from __future__ import annotations

from infertuner.errors import ValidationError
from infertuner.latency import hardware
from infertuner.latency.fitted import Profile
from infertuner.latency.hardware.steps import DecoderSteps
from infertuner.latency.kinds import Latency
from infertuner.latency.machine import Hardware, Software
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


def machine_of(calibration: Calibration) -> tuple[Hardware, Software]:
    """This machine as it will be used: the profile's kind of device and number of threads."""
    asked = calibration.hardware
    return hardware.describe(hardware.choose_device(asked.device), asked.threads)


def build_steps(asked: Calibration, kv_tokens: int) -> DecoderSteps:
    """The profile's decoder with random weights and a KV cache of so many entries."""
    decoder = hardware.build_decoder(
        asked.model.config,
        dtype=asked.model.dtype,
        device=asked.hardware.device,
        threads=asked.hardware.threads,
        kv_tokens=kv_tokens,
        seed=0,
    )
    return DecoderSteps(decoder)


def differences(there: Calibration, machine: Hardware, software: Software) -> list[str]:
    """How this machine is not the one the profile was measured on; a drift then is no drift."""
    programs = there.run_here().software
    pairs = {
        "hardware": (there.hardware.name, machine.name),
        "torch": (programs.torch, software.torch),
        "transformers": (programs.transformers, software.transformers),
    }
    return [
        f"the profile was measured with {what} {measured} and this is {here}"
        for what, (measured, here) in pairs.items()
        if measured != here
    ]
