"""Which iterations to ask a published table for: corners and a Latin hypercube in logarithms, off powers of two.

A place in the unit cube becomes an iteration that is inside the table and inside the GPU's memory, so no place is lost.
Sizes whose matrix products were timed are used as they were timed. The points to fit and those held out come from
streams of their own, so more of one never moves the other.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TypeAlias

from infertuner.latency.importers.observations import Reach
from infertuner.latency.points import Kind, Point, Role

Place: TypeAlias = tuple[float, ...]
CUBES = 20
"""Latin hypercubes drawn, of which the one whose places are farthest apart is used."""
SHORTEST_PREFIX = 16
"""Tokens of the shortest cached prefix: one KV block."""


@dataclass(frozen=True)
class Counts:
    """How many iterations of each kind."""

    decode: int
    prefill: int
    mixed: int


FEW = Counts(decode=16, prefill=16, mixed=32)
BUNDLED = Counts(decode=120, prefill=80, mixed=200)
HELD_OUT = Counts(decode=60, prefill=60, mixed=100)


def choose(reach: Reach, counts: Counts, held_out: Counts, seed: int) -> list[Point]:
    """Iterations inside `reach`: `counts` to fit, which begin with the corners, and `held_out` others; no shape twice.

    A small table may not have so many different ones.
    """
    points: dict[Point, Point] = {}
    wanted: list[tuple[Role, Counts]] = [("fit", counts), ("holdout", held_out)]
    for role, count in wanted:
        rng = random.Random(f"{role}/{seed}")
        for kind, place_of, axes in KINDS:
            axes -= kind != "decode" and not reach.cached  # the last axis is the cached prefix
            missing = getattr(count, kind)
            for place in _places(axes, missing, rng, corners=role == "fit"):
                point = place_of(place, reach)
                if missing and point not in points:
                    points[point] = replace(point, role=role)
                    missing -= 1
    return list(points.values())


def _places(axes: int, count: int, rng: random.Random, *, corners: bool) -> Iterator[Place]:
    """Places in the unit cube: up to a third of them corners, the others one to a slice of every axis, then spares."""
    if not corners:
        yield from _hypercube(axes, count, rng)
    else:
        between = list(product((0.0, 1.0), repeat=axes))[1:-1]
        rng.shuffle(between)
        first: list[Place] = [(0.0,) * axes, (1.0,) * axes, *between][: count // 3]
        yield from first
        cubes = [_hypercube(axes, count - len(first), rng) for _ in range(CUBES)]
        yield from max(cubes, key=lambda cube: min(math.dist(*pair) for pair in combinations([*first, *cube], 2)))
    yield from (tuple(rng.random() for _ in range(axes)) for _ in range(10 * count))


def _hypercube(axes: int, count: int, rng: random.Random) -> list[Place]:
    """One place in each slice of every axis."""
    slices = [rng.sample(range(count), count) for _ in range(axes)]
    return [tuple((i + rng.random()) / count for i in place) for place in zip(*slices, strict=True)]


def _decode(place: Place, reach: Reach) -> Point:
    batch = _timed(_between(*reach.decode_batch, place[0]), reach)
    low, high = reach.context_tokens
    return Point("decode", batch, 1, _between(low, min(high, reach.kv_entries // batch), place[1]) - 1, "fit")


def _prefill(place: Place, reach: Reach) -> Point:
    """Spread over the tokens of the iteration first: they decide most of what it costs."""
    shortest, longest = reach.new_tokens
    tokens = _timed(_between(shortest, reach.batch_tokens, place[0]), reach)
    batch = _between(1, min(reach.prefill_batch[1], tokens // shortest), place[1])
    new = min(tokens // batch, longest)
    return Point("prefill", batch, new, _prefix(place[-1], new, 0, reach) if batch == 1 else 0, "fit")


def _mixed(place: Place, reach: Reach) -> Point:
    shortest, longest = reach.new_tokens
    tokens = _timed(_between(shortest + 1, reach.batch_tokens, place[0]), reach)
    decodes = _between(1, min(reach.decode_batch[1], tokens - shortest), place[1])
    new = min(tokens - decodes, longest)
    low, high = reach.context_tokens
    context = _between(low, max(low, min(high, (reach.kv_entries - new) // decodes)), place[2])
    return Point("mixed", 1, new, _prefix(place[-1], new, decodes * context, reach), "fit", decodes, context)


KINDS: tuple[tuple[Kind, Callable[[Place, Reach], Point], int], ...] = (
    ("decode", _decode, 2),
    ("prefill", _prefill, 3),
    ("mixed", _mixed, 4),
)
"""Each kind's iteration of a place in the unit cube, and the axes of that cube."""


def _prefix(place: float, new: int, entries: int, reach: Reach) -> int:
    """Tokens cached before a chunk: none in the lower half of the axis, up to all that fit in the upper."""
    room = min(reach.context_tokens[1], reach.kv_entries - entries) - new
    if not reach.cached or place < 0.5 or room < SHORTEST_PREFIX:
        return 0
    return _between(SHORTEST_PREFIX, room, 2 * place - 1)


def _between(low: int, high: int, place: float) -> int:
    """A whole number from `low` to `high`, evenly in the logarithm."""
    return round(low * math.exp(math.log(max(low, high) / low) * place))


def _timed(size: int, reach: Reach) -> int:
    """The nearest size whose matrix products were timed, so that their edges count as they are."""
    timed = reach.timed_tokens
    place = bisect_left(timed, size)
    return min(timed[max(0, place - 1) : place + 1], key=lambda near: abs(near - size))
