"""What a calibration measures: points of the latency law, chosen before anything is measured.

Sizes are spread evenly in the logarithm and then jittered off the grid. Powers of two sit just below the edges of
kernel tiles, so a power-of-two grid sees only the fast side of every edge and predicts too little in between.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["prefill", "decode", "mixed"]
Role = Literal["fit", "holdout"]


@dataclass(frozen=True)
class Point:
    """One batch of equal sequences: `new_tokens` each, behind `cached_tokens` each that are already in the KV cache.

    A decode step is the same thing with one new token. A mixed iteration is one chunk (`batch_size` 1) together with
    `decodes` sequences that decode one token each at a context of `decode_context_tokens`.
    """

    kind: Kind
    batch_size: int
    new_tokens: int
    cached_tokens: int
    role: Role
    decodes: int = 0
    decode_context_tokens: int = 0

    @property
    def batch_tokens(self) -> int:
        """Tokens the step computes, all sequences together."""
        return self.batch_size * self.new_tokens + self.decodes

    @property
    def context_tokens(self) -> int:
        """KV entries of each sequence when the step ends."""
        return self.cached_tokens + self.new_tokens

    @property
    def kv_entries(self) -> int:
        """KV entries the step reads, all sequences together but those that decode beside a chunk."""
        return self.batch_size * self.context_tokens

    @property
    def decode_entries(self) -> int:
        """KV entries read by the sequences that decode beside a chunk."""
        return self.decodes * self.decode_context_tokens

    @property
    def attended_pairs(self) -> float:
        """Pairs of a new token and an entry it attends to: new token i of a sequence sees `cached_tokens` + i."""
        return self.batch_size * self.new_tokens * (self.cached_tokens + 0.5 * (self.new_tokens + 1))


LEAST_CONTEXT = 512
"""Tokens a sequence needs room for, or its batch size is not worth measuring."""


@dataclass(frozen=True)
class Limits:
    """How far the design reaches: the corners of the box in which the profile will be valid."""

    batch_sizes: tuple[int, ...]
    max_context_tokens: int
    max_batch_tokens: int
    mixed: int
    """Mixed iterations to fit; none where only one sequence fits."""
    kv_tokens: int | None = None
    """KV entries for which there is memory; None: enough for the largest batch at the longest context."""

    def within_kv(self, kv_tokens: int) -> Limits:
        """The same design for a memory of so many KV entries.

        Large batches stop at the contexts that fit, as they do in an engine with this memory; batches of which not even
        `LEAST_CONTEXT` tokens a sequence fit are left out.
        """
        least = min(LEAST_CONTEXT, self.max_context_tokens)
        return replace(
            self,
            batch_sizes=tuple(size for size in self.batch_sizes if size * least <= kv_tokens),
            max_context_tokens=min(self.max_context_tokens, kv_tokens),
            max_batch_tokens=min(self.max_batch_tokens, kv_tokens),
            kv_tokens=kv_tokens,
        )


LIMITS = {
    # Kernels for few rows differ from size to size on a CPU: decode is not smooth in the batch, so measure every one.
    "cpu": Limits(tuple(range(1, 17)), max_context_tokens=2048, max_batch_tokens=4096, mixed=20),
    "cuda": Limits(
        (1, 2, 3, 5, 8, 12, 17, 24, 40, 56, 72, 100, 136, 200, 264),
        max_context_tokens=8192,
        max_batch_tokens=8192,
        mixed=32,
    ),
}


def design(limits: Limits, seed: int) -> list[Point]:
    """Every point to fit and every point held out, without repeats; equal seeds give equal designs."""
    rng = random.Random(seed)
    points = [*_decode_points(limits, rng), *_prefill_points(limits, rng), *_holdout_points(limits, rng)]
    if max(limits.batch_sizes) > 1:
        points += _mixed_points(limits, rng)
    unique: dict[Point, Point] = {}
    for point in points if limits.kv_tokens is None else [_within(point, limits.kv_tokens) for point in points]:
        unique.setdefault(replace(point, role="fit"), point)  # of equal shapes the one that is fitted stays
    return list(unique.values())


def jittered(low: int, high: int, count: int, rng: random.Random) -> list[int]:
    """`count` whole numbers from `low` to `high`, both included, log-spaced, the inner ones jittered off the grid."""
    step = math.log(high / low) / (count - 1)
    inner = (low * math.exp(step * (i + rng.uniform(-0.4, 0.4))) for i in range(1, count - 1))
    return [low, *(round(value) for value in inner), high]


def _decode_points(limits: Limits, rng: random.Random) -> list[Point]:
    """Every batch size at four contexts of its own: three log-spaced and one in the long middle they leave empty."""
    longest = limits.max_context_tokens
    return [
        Point("decode", batch_size, 1, context - 1, "fit")
        for batch_size in limits.batch_sizes
        for context in [*jittered(1, longest, 3, rng), round(longest * rng.uniform(0.3, 0.8))]
    ]


def _prefill_points(limits: Limits, rng: random.Random) -> list[Point]:
    """Single prompts, batches of prompts (more of the large ones), chunks behind a cached prefix, and the corners.

    From 2 new tokens a sequence up: a prefill of one token is a decode step.
    """
    longest, largest = limits.max_context_tokens, max(limits.batch_sizes)
    single = [(1, new, 0) for new in jittered(2, min(longest, limits.max_batch_tokens), 16, rng)]
    batched = []
    totals = jittered(2 * largest, limits.max_batch_tokens, 9, rng)
    totals += [round(limits.max_batch_tokens * rng.uniform(0.5, 0.8))]
    for tokens in totals:
        batch_size = rng.choice([size for size in limits.batch_sizes if tokens / longest <= size <= tokens / 2])
        batched.append((batch_size, tokens // batch_size, 0))
    behind = []
    for new in jittered(2, longest // 2, 9, rng):
        most = max(limits.max_batch_tokens // 2, new)  # large ones take long, and the corners have some
        batch_size = rng.choice([size for size in limits.batch_sizes if size * new <= most])
        behind.append((batch_size, new, _log_uniform(longest // 64, longest - new, rng)))
    widest = min(limits.max_batch_tokens // largest, longest)
    corners = [(1, 2, longest - 2), (largest, 2, 0), (largest, 2, longest - 2)]
    corners += [(largest, widest, 0), (largest, widest, longest - widest)]
    return [Point("prefill", *shape, "fit") for shape in [*single, *batched, *behind, *corners]]


def _mixed_points(limits: Limits, rng: random.Random) -> list[Point]:
    """Chunks beside decodes, to fit and held out: corners of the box, then each next one far from all before it.

    Distance is counted in the logarithms. Four axes are too many for a grid of a few dozen points.
    """
    longest, decodes = limits.max_context_tokens, max(limits.batch_sizes) - 1
    chunk = min(longest, limits.max_batch_tokens - decodes)
    shapes = [(2, 0, 1, 2), (2, longest - 2, decodes, 2), (2, 0, decodes, longest)]
    shapes += [
        (chunk, 0, 1, longest),
        (chunk, longest - chunk, decodes, 2),
        (chunk // 2, longest // 2, decodes, longest),
    ]
    candidates = [_mixed_shape(chunk, decodes, longest, rng) for _ in range(300)]
    apart = [min(_log_distance(one, shape) for shape in shapes) for one in candidates]
    while len(shapes) < limits.mixed:
        farthest = candidates[apart.index(max(apart))]
        shapes.append(farthest)
        apart = [min(was, _log_distance(one, farthest)) for was, one in zip(apart, candidates, strict=True)]
    held = [_mixed_shape(chunk, decodes, longest, rng) for _ in range(8)]
    return [_mixed_point(shape, "fit") for shape in shapes] + [_mixed_point(shape, "holdout") for shape in held]


def _mixed_point(shape: tuple[int, int, int, int], role: Role) -> Point:
    new, cached, decodes, context = shape
    return Point("mixed", 1, new, cached, role, decodes, context)


def _mixed_shape(chunk: int, decodes: int, longest: int, rng: random.Random) -> tuple[int, int, int, int]:
    """A random chunk, what is cached before it (often nothing), decodes beside it and their context."""
    new = _log_uniform(2, chunk, rng)
    behind = 0 if rng.random() < 0.4 or longest - new < 2 else _log_uniform(1, longest - new, rng)
    return new, behind, _log_uniform(1, decodes, rng), _log_uniform(2, longest, rng)


def _log_distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Between two shapes, in logarithms; below 16 tokens a difference hardly matters."""
    return math.dist([math.log(size + 16) for size in one], [math.log(size + 16) for size in other])


def _holdout_points(limits: Limits, rng: random.Random) -> list[Point]:
    """Random points inside the box, off the grid of batch sizes too, measured like the others and never fitted."""
    longest, smallest, largest = limits.max_context_tokens, min(limits.batch_sizes), max(limits.batch_sizes)
    points = [
        Point("decode", _log_uniform(smallest, largest, rng), 1, _log_uniform(1, longest, rng) - 1, "holdout")
        for _ in range(10)
    ]
    for index in range(10):
        batch_size = _log_uniform(smallest, largest, rng)
        new = _log_uniform(2, min(longest // 2, limits.max_batch_tokens // batch_size), rng)
        cached = _log_uniform(longest // 64, longest - new, rng) if index % 2 else 0
        points.append(Point("prefill", batch_size, new, cached, "holdout"))
    return points


def _within(point: Point, kv_tokens: int) -> Point:
    """The point with as much of its context as there is memory for."""
    if point.kind == "mixed":
        new = min(point.new_tokens, kv_tokens - 2 * point.decodes)
        cached = min(point.cached_tokens, kv_tokens - 2 * point.decodes - new)
        room = (kv_tokens - new - cached) // point.decodes
        context = min(point.decode_context_tokens, room)
        return replace(point, new_tokens=new, cached_tokens=cached, decode_context_tokens=context)
    room = kv_tokens // point.batch_size - point.new_tokens
    return replace(point, cached_tokens=min(point.cached_tokens, room))


def _log_uniform(low: int, high: int, rng: random.Random) -> int:
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))
