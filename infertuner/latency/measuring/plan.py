"""What a calibration is going to measure, where and with what: everything that two halves of one must share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infertuner.errors import CalibrationError
from infertuner.latency.machine import Hardware, Model, Software
from infertuner.latency.measuring.extras import BLOCK_TOKENS, Extra, extras
from infertuner.latency.measuring.samples import SCHEMA
from infertuner.latency.models import DTYPE_BYTES, ModelConfig, folder_config, model_config, shape_config, shard
from infertuner.latency.points import Limits, Point, design


@dataclass(frozen=True)
class Choice:
    """The decoder a user asked for."""

    name: str
    config: ModelConfig
    tensor_parallel: int = 1
    weights: Path | None = None
    """A folder with safetensors; None for random weights."""


@dataclass(frozen=True)
class Plan:
    """What is measured, where and with what."""

    hardware: Hardware
    software: Software
    model: Model
    seed: int
    points: list[Point]
    extras: Sequence[Extra] = ()

    def header(self) -> dict[str, Any]:
        """The first line of the sample file."""
        return {
            "schema": SCHEMA,
            "hardware": self.hardware.model_dump(mode="json"),
            "software": self.software.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "seed": self.seed,
            "points": [asdict(point) for point in self.points],
            "extras": [asdict(extra) for extra in self.extras],
        }

    @property
    def kv_tokens(self) -> int:
        """KV entries the largest point needs."""
        return max(point.kv_entries + point.decode_entries for point in self.points)

    @property
    def name(self) -> str:
        """Hardware and model, as a file name."""
        return f"{hardware_slug(self.hardware)}-{self.model.name}"


def choose(model: str | None, shape: str | None, tp: int, default: str) -> Choice:
    """The decoder of `--model`, a name or a folder, or of `--shape`; one shard of it with `--tp`.

    Weights in the folder are used unless only a shard is wanted, whose matrices nobody has cut yet.
    """
    if tp < 1:
        raise CalibrationError(f"--tp: is {tp}; write the number of shards, from 1 up")
    if shape is not None and model is not None:
        raise CalibrationError("--shape: cannot be combined with --model; leave one of them out")
    name, config, weights = model or default, None, None
    if shape is not None:
        config = shape_config(shape)
        name = f"custom-{hashlib.sha256(repr(config).encode()).hexdigest()[:6]}"
    elif model is not None and Path(model).is_dir():
        config = folder_config(Path(model))
        name = re.sub(r"[^a-z0-9.]+", "-", Path(model).resolve().name.lower()).strip("-")
        weights = Path(model) if tp == 1 and any(Path(model).glob("*.safetensors")) else None
    whole = config or model_config(name)
    return Choice(name, shard(whole, tp), tp, weights)


def make_plan(choice: Choice, hardware: Hardware, software: Software, *, dtype: str, limits: Limits, seed: int) -> Plan:
    """The plan for this decoder on this hardware, reaching as far as its memory allows."""
    config = choice.config
    weights_bytes = config.num_params * DTYPE_BYTES[dtype]
    weights = f"random normal, seed {seed}" if choice.weights is None else _fingerprint(choice.weights)
    model = Model.of(choice.name, config, dtype=dtype, weights=weights, tensor_parallel=choice.tensor_parallel)
    spare_bytes = 0.8 * hardware.memory_bytes - weights_bytes  # a fifth is left for activations and everybody else
    within = limits.within_kv(int(spare_bytes / model.kv_bytes_per_token))
    if not within.batch_sizes:
        raise CalibrationError(
            f"--model: {model.name} in {dtype} needs {weights_bytes / 2**30:.1f} GiB for weights and more for KV "
            f"cache, and {hardware.name} has {hardware.memory_bytes / 2**30:.1f} GiB; choose a smaller model"
        )
    points = design(within, seed)
    beside = extras(hardware.device, within, points, BLOCK_TOKENS * model.kv_bytes_per_token, seed)
    return Plan(hardware, software, model, seed, points, beside)


def named(work: Point | Extra) -> str:
    """A point or an extra in words, for lists of what went wrong."""
    sizes = [f"{key} {size}" for key, size in asdict(work).items() if size and key not in ("kind", "role")]
    return ", ".join([work.kind, *sizes]).replace("_", " ")


def hardware_slug(hardware: Hardware) -> str:
    """A short name for a file: `AMD EPYC` on 1 thread is `epyc-1t`, `NVIDIA H200` is `h200`."""
    noise = r"\((r|tm)\)|\b(amd|intel|nvidia|cpu|processor|\d+-core)\b|@.*$"
    words = re.sub(noise, " ", hardware.name.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", words).strip("-") or "unknown"
    return slug if hardware.device == "cuda" else f"{slug}-{hardware.threads}t"


def _fingerprint(folder: Path) -> str:
    """Which weights these are, without the place where they lie: a hash of their names, sizes and first bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}".encode() + file.read(2**20))
    return f"safetensors, sha256 of names, sizes and first MiB {digest.hexdigest()[:16]}"
