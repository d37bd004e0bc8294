"""The device a hardware validation runs on: the decoder of the profile, built on this machine."""

from __future__ import annotations

from infertuner.latency import hardware
from infertuner.latency.hardware_steps import DecoderSteps
from infertuner.latency.machine import Hardware, Software
from infertuner.latency.profile import Calibration
from infertuner.validation.hardware import Plan


def machine_of(calibration: Calibration) -> tuple[Hardware, Software]:
    """This machine as it will be used: the profile's kind of device and number of threads."""
    asked = calibration.hardware
    return hardware.describe(hardware.choose_device(asked.device), asked.threads)


def build_steps(plan: Plan) -> DecoderSteps:
    """The profile's decoder with random weights and a KV cache for the scenario's largest batch."""
    asked = plan.calibration
    decoder = hardware.build_decoder(
        asked.model.config,
        dtype=asked.model.dtype,
        device=asked.hardware.device,
        threads=asked.hardware.threads,
        kv_tokens=plan.kv_tokens(),
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
