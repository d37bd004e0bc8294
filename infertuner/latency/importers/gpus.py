"""What data sheets say about the GPUs of published measurements: enough to refuse a number that cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from infertuner.errors import CalibrationError
from infertuner.latency.machine import Ceilings, Hardware


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, its memory and its peaks, dense bf16 products and reads of its memory."""

    name: str
    memory_bytes: int
    read_bytes_per_s: float
    flops_per_s: float

    @property
    def ceilings(self) -> Ceilings:
        """The peaks, with a tenth on top: boards clock higher than their data sheet promises."""
        return Ceilings(read_bytes_per_s=1.1 * self.read_bytes_per_s, flops_per_s=1.1 * self.flops_per_s)

    def hardware(self) -> Hardware:
        """The section of a profile about it."""
        return Hardware(
            name=self.name, device="cuda", threads=1, memory_bytes=self.memory_bytes, ceilings=self.ceilings
        )


GPUS = {
    "rtx4090": Gpu("NVIDIA GeForce RTX 4090", 24 * 2**30, 1.008e12, 165.2e12),
    "rtxpro6000": Gpu("NVIDIA RTX PRO 6000", 96 * 2**30, 1.792e12, 503.8e12),
    "h200": Gpu("NVIDIA H200", 141 * 10**9, 4.8e12, 989.5e12),
    "h100-80gb": Gpu("NVIDIA H100 80GB", 80 * 2**30, 3.35e12, 989.5e12),
    "a100-80gb": Gpu("NVIDIA A100 80GB", 80 * 2**30, 2.039e12, 312e12),
}


def gpu_called(name: str | None, hint: str) -> tuple[str, Gpu]:
    """The GPU of this name and its key, or the one that `hint`, a path, mentions."""
    if name is not None and name in GPUS:
        return name, GPUS[name]
    plain = hint.lower().replace("_", "").replace(" ", "")
    mentioned = [key for key in GPUS if key in plain]
    if name is None and len(mentioned) == 1:
        return mentioned[0], GPUS[mentioned[0]]
    problem = f"{name!r} is not known" if name is not None else "the path names none, or several"
    raise CalibrationError(f"--gpu: {problem}; choose one of {', '.join(GPUS)}")
