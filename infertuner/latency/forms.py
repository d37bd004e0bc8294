"""The forms a latency law can take, as plain arithmetic: what fitting fits is what the simulator evaluates.

A step costs what its tokens cost (a curve), what reading the KV cache costs, and in prefill so much a sequence and so
much a pair of tokens that attend to each other; a ratio over the size of the step may correct the sum.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

from infertuner.latency.points import Point

LawKind = Literal["prefill", "decode"]
TERMS: dict[LawKind, tuple[str, ...]] = {
    "decode": ("kv_entry_s",),
    "prefill": ("kv_entry_s", "sequence_s", "attended_pair_s"),
}
"""Coefficients that multiply an amount of the work: KV entries read, sequences, attended pairs."""
ROOFLINE = ("fixed_s", "weights_s", "token_s", "sharpness")
"""Coefficients of a roofline curve."""


class Work(NamedTuple):
    """What one step does, all sequences together."""

    tokens: float
    """Tokens computed."""
    entries: float
    """KV entries read."""
    sequences: float
    pairs: float
    """Pairs of a new token and an entry it attends to."""


def work_of(point: Point) -> Work:
    """The work of a measured point that is not mixed."""
    return Work(point.batch_tokens, point.kv_entries, point.batch_size, point.attended_pairs)


class Knots:
    """Straight lines through knots, going on in a straight line beyond them, never below 0.

    Beyond the last knot at the steeper of the last and the mean slope: a dip in the last segment is local.
    """

    def __init__(self, tokens: Sequence[int], seconds: Sequence[float]) -> None:
        self._tokens, self._seconds = list(tokens), list(seconds)
        corners = list(zip(self._tokens, self._seconds, strict=True))
        self._slopes = [_slope(start, end) for start, end in pairwise(corners)]
        self._slopes.append(max(self._slopes[-1], _slope(corners[0], corners[-1])))

    def __call__(self, tokens: float) -> float:
        """Seconds to compute `tokens` tokens in one step."""
        i = bisect_right(self._tokens, tokens, 1) - 1
        return max(0.0, self._seconds[i] + self._slopes[i] * (tokens - self._tokens[i]))


def _slope(start: tuple[float, float], end: tuple[float, float]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


@dataclass(frozen=True)
class Roofline:
    """`fixed_s` + the larger of reading the weights and computing the tokens, the corner between them rounded.

    S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009; the rounding is a p-norm with p = `sharpness`.
    """

    fixed_s: float
    weights_s: float
    token_s: float
    sharpness: float

    def __call__(self, tokens: float) -> float:
        """Seconds to compute `tokens` tokens in one step; numpy arrays work as well."""
        p = self.sharpness
        larger_s: float = (self.weights_s**p + (self.token_s * tokens) ** p) ** (1 / p)
        return self.fixed_s + larger_s


@dataclass(frozen=True)
class Ratio:
    """exp of a surface over the logarithms of tokens and mean context: bilinear between nodes, constant beyond them.

    In a surcharge the first axis is the sequences that decode.
    """

    tokens: Sequence[float]
    context_tokens: Sequence[float]
    log_ratio: Sequence[float]
    """One value a node, the contexts of the first number of tokens first."""

    def __call__(self, tokens: float, context_tokens: float) -> float:
        """What the rest of the law is multiplied with."""
        i, across = _place(self.tokens, tokens)
        j, along = _place(self.context_tokens, context_tokens)
        width, surface = len(self.context_tokens), self.log_ratio
        near, far = surface[i * width + j : i * width + j + 2], surface[(i + 1) * width + j : (i + 1) * width + j + 2]
        return math.exp(
            (1 - across) * ((1 - along) * near[0] + along * near[1]) + across * ((1 - along) * far[0] + along * far[1])
        )


def _place(nodes: Sequence[float], value: float) -> tuple[int, float]:
    """The cell of an axis that holds `value` and how far along it lies in the logarithm, from 0 to 1."""
    clipped = min(max(value, nodes[0]), nodes[-1])
    i = min(bisect_right(nodes, clipped) - 1, len(nodes) - 2)
    return i, math.log(clipped / nodes[i]) / math.log(nodes[i + 1] / nodes[i])


class Law:
    """Seconds of a step, with every coefficient in place."""

    def __init__(self, curve: Knots | Roofline, terms: Sequence[float], ratio: Ratio | None) -> None:
        self.curve, self.ratio = curve, ratio
        self.entry_s, self.sequence_s, self.pair_s = (*terms, 0.0, 0.0)[:3]

    def __call__(self, work: Work) -> float:
        """Seconds of this work."""
        seconds = (
            self.curve(work.tokens)
            + self.entry_s * work.entries
            + self.sequence_s * work.sequences
            + self.pair_s * work.pairs
        )
        if self.ratio is None:
            return seconds
        return seconds * self.ratio(work.tokens, max(1.0, work.pairs / work.tokens))


def parts_s(prefill: Law, decode: Law, work: Work, kv_entries: float) -> float:
    """Seconds of an iteration as the sum of its parts: all tokens at once, and the attention of chunks and decodes.

    work: all tokens of the iteration, but the entries, sequences and pairs of its chunks only.
    """
    return prefill(work) + decode.entry_s * kv_entries


SURCHARGE = ("fixed_s", "decode_s", "kv_entry_s", "chunk_token_s", "crowded_entry_s")
"""Coefficients of a surcharge."""


class Surcharge:
    """What a mixed iteration costs beyond its parts: attention kernels for mixed batches split their work worse.

    Linear in the decodes, their KV entries and the tokens of the chunks; entries cost more again for every decode
    above `crowd`; a ratio over the decodes and their mean context may correct the sum of parts and surcharge.
    """

    def __init__(self, coefficients: Sequence[float], crowd: int, ratio: Ratio | None) -> None:
        self.fixed_s, self.decode_s, self.entry_s, self.chunk_token_s, self.crowded_entry_s = coefficients
        self.crowd, self.ratio = crowd, ratio

    def __call__(self, parts_s: float, chunk_tokens: float, decodes: float, kv_entries: float) -> float:
        """Seconds of the whole iteration."""
        seconds = (
            parts_s
            + self.fixed_s
            + self.decode_s * decodes
            + (self.entry_s + self.crowded_entry_s * max(0.0, decodes - self.crowd)) * kv_entries
            + self.chunk_token_s * chunk_tokens
        )
        return seconds if self.ratio is None else seconds * self.ratio(decodes, kv_entries / decodes)


Axes: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Shape:
    """A law but for its numbers: `law` puts them in, in the order of `names`."""

    kind: LawKind
    knots: tuple[int, ...] | None
    """Tokens of the knots; None for a roofline."""
    axes: Axes | None = None
    """Nodes of the ratio: tokens, context tokens."""

    @property
    def names(self) -> list[str]:
        """What each coefficient is called."""
        curve = ROOFLINE if self.knots is None else tuple(f"step_s at {tokens} tokens" for tokens in self.knots)
        nodes = [] if self.axes is None else [f"log_ratio at {t:g}, {c:g}" for t in self.axes[0] for c in self.axes[1]]
        return [*curve, *TERMS[self.kind], *nodes]

    @property
    def curve_size(self) -> int:
        """How many coefficients the curve has."""
        return len(ROOFLINE) if self.knots is None else len(self.knots)

    def law(self, coefficients: Sequence[float]) -> Law:
        """The law with these coefficients."""
        end = self.curve_size
        terms = end + len(TERMS[self.kind])
        numbers = [float(number) for number in coefficients]
        curve = Roofline(*numbers[:end]) if self.knots is None else Knots(self.knots, numbers[:end])
        ratio = None if self.axes is None else Ratio(*self.axes, numbers[terms:])
        return Law(curve, numbers[end:terms], ratio)
