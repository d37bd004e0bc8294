"""What a calibration measures beside the points of the law: copies, the hardware's ceilings, and generate() as a whole.

They are visited in the same rounds as the points, so they see the same luck, and are never part of the fit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from infertuner.latency.machine import Direction
from infertuner.latency.points import Limits, Point

ExtraKind = Literal[Direction, "read", "matmul", "generate", "decode_eager"]
LARGEST_COPY_BYTES = 256 * 2**20
COPY_SIZES = 9
BLOCK_TOKENS = 16
"""Tokens of a KV block, the smallest thing an engine moves."""
EXTRA_VISITS = 3
"""Visits to each extra: enough for a median, and no more time than that."""


@dataclass(frozen=True)
class Extra:
    """One thing measured beside the points; what does not apply to its kind is None."""

    kind: ExtraKind
    size: int | None = None
    """Bytes of a copy or a read; rows and columns of the square matrices of a product."""
    batch_size: int | None = None
    new_tokens: int | None = None
    """Prompt tokens of generate(); 1 for a decode step."""
    cached_tokens: int | None = None
    output_tokens: int | None = None


def extras(
    device: Literal["cpu", "cuda"], limits: Limits, points: Sequence[Point], block_bytes: int, seed: int
) -> list[Extra]:
    """Everything to measure beside `points`; equal seeds give equal extras.

    block_bytes: the smallest copy, one KV block.
    """
    rng = random.Random(f"extras/{seed}")
    directions: tuple[Direction, ...] = ("host",)
    if device == "cuda":
        directions = ("host_to_device", "device_to_host", "device_to_device")
    copies = [Extra(direction, size=size) for direction in directions for size in _copy_sizes(block_bytes, rng)]
    return [*copies, *_peaks(device), *_generations(limits, rng), *_eager_steps(device, points)]


def _copy_sizes(block_bytes: int, rng: random.Random) -> list[int]:
    """Whole blocks from one up to the largest copy, log-spaced and jittered."""
    blocks = max(2, LARGEST_COPY_BYTES // block_bytes)
    step = math.log(blocks) / (COPY_SIZES - 1)
    inner = [round(math.exp(step * (i + rng.uniform(-0.3, 0.3)))) for i in range(1, COPY_SIZES - 1)]
    return sorted({count * block_bytes for count in (1, *inner, blocks)})


def _peaks(device: Literal["cpu", "cuda"]) -> list[Extra]:
    """Reads of matrices inside and outside the caches, and products large enough to be limited by arithmetic."""
    sides = (512, 1024, 2048) if device == "cpu" else (4096, 8192)
    reads = (2**20, 2**23, 2**26) if device == "cpu" else (2**26, 2**28, 2**30)
    return [*(Extra("matmul", size=side) for side in sides), *(Extra("read", size=size) for size in reads)]


def _generations(limits: Limits, rng: random.Random) -> list[Extra]:
    """Five random calls of generate() inside the box, none so large that it takes a calibration's time."""
    longest, tokens = limits.max_context_tokens, min(limits.max_batch_tokens, 2048)
    calls = []
    for _ in range(5):
        batch_size = rng.choice([size for size in limits.batch_sizes if size <= 32])
        output = rng.randint(min(12, longest // 2), min(32, longest // 2))
        most = max(2, min(longest - output, tokens // batch_size))
        prompt = round(math.exp(rng.uniform(math.log(min(24, most)), math.log(most))))
        calls.append(Extra("generate", batch_size=batch_size, new_tokens=prompt, output_tokens=output))
    return list(dict.fromkeys(calls))


def _eager_steps(device: Literal["cpu", "cuda"], points: Sequence[Point]) -> list[Extra]:
    """On CUDA six of the decode points again, launched kernel by kernel; what graphs save is the host's time."""
    decodes = [point for point in points if point.kind == "decode" and point.role == "fit"] if device == "cuda" else []
    return [
        Extra("decode_eager", batch_size=point.batch_size, new_tokens=1, cached_tokens=point.cached_tokens)
        for point in decodes[:: max(1, math.ceil(len(decodes) / 6))]
    ]
