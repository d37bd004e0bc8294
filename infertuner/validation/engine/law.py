"""How long an engine's iterations take, from iterations that it really ran, as a latency model for the simulator.

An iteration of T tokens in all that reads E KV entries takes f(T) + T E x a + E x b + (c where a prompt is prefilled)
seconds: f is piecewise linear, since a CPU's kernels take some few rows faster than fewer; T E is what attention over
all sequences of a batch at once computes. Host time between forward passes is inside, as the engine's loop was timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infertuner.latency.fitting.forms import solve
from infertuner.latency.lines import DecodeLine
from infertuner.latency.model import Chunk
from infertuner.latency.noise import NoiseRing
from infertuner.sources.requests import Floats
from infertuner.validation.engine.iterations import Iteration

SEEN_OFTEN = 10
"""Iterations with the same number of tokens from which that number is a corner of f."""
ROUNDS = 4
"""Fits, each weighted by the seconds the one before predicted: relative errors whose mean is 0, so that sums hold."""


@dataclass(frozen=True)
class EngineLaw:
    """The fitted coefficients, in seconds."""

    tokens: list[int]
    """Corners of f."""
    tokens_s: list[float]
    """f at the corners."""
    token_entry_s: float
    entry_s: float
    prefill_s: float
    largest_entries: int
    """The most KV entries that an iteration of the calibration read."""

    def seconds(self, tokens: int, entries: int, *, prefills: bool) -> float:
        """Seconds of one iteration; beyond the last corner f goes on in line."""
        corner_s = float(np.interp(tokens, self.tokens, self.tokens_s))
        if tokens > self.tokens[-1] and len(self.tokens) > 1:
            slope_s = (self.tokens_s[-1] - self.tokens_s[-2]) / (self.tokens[-1] - self.tokens[-2])
            corner_s += max(0.0, slope_s) * (tokens - self.tokens[-1])
        return corner_s + entries * (self.entry_s + tokens * self.token_entry_s) + prefills * self.prefill_s


def fit_law(iterations: Sequence[Iteration]) -> tuple[EngineLaw, list[float]]:
    """The law of these iterations, and how many times its seconds each of them took, in their order."""
    tokens = [_tokens(one) for one in iterations]
    often = [size for size, times in Counter(tokens).items() if times >= SEEN_OFTEN]
    corners = sorted({min(tokens), max(tokens), *often})
    entries = np.array([_entries(one) for one in iterations], dtype=np.float64)
    hats = [np.interp(tokens, corners, hat) for hat in np.eye(len(corners))]
    prefills = [bool(one.chunks) for one in iterations]
    columns = np.column_stack([*hats, entries * np.array(tokens), entries, np.array(prefills, dtype=np.float64)])
    seconds = np.array([one.seconds for one in iterations])
    predicted = seconds
    for _ in range(ROUNDS):
        coefficients = solve(columns, seconds, seconds / predicted)
        predicted = columns @ coefficients
    *tokens_s, token_entry_s, entry_s, prefill_s = coefficients.tolist()
    law = EngineLaw(corners, tokens_s, token_entry_s, entry_s, prefill_s, int(entries.max()))
    return law, (seconds / predicted).tolist()


def predict_s(law: EngineLaw, iterations: Sequence[Iteration]) -> Floats:
    """Seconds the law gives these very iterations."""
    return np.array([law.seconds(_tokens(one), _entries(one), prefills=bool(one.chunks)) for one in iterations])


class EngineLatency:
    """Answers from the law, at another speed if need be; noise is how far the calibration's iterations were off."""

    def __init__(self, law: EngineLaw, ratios: Sequence[float], drift_ratio: float = 1.0) -> None:
        self._law, self._drift_ratio = law, drift_ratio
        self._lines: dict[int, DecodeLine] = {}
        self.noise: NoiseRing | None = NoiseRing([max(1, round(1000 * ratio)) for ratio in ratios])
        self.outside_calls = 0

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds of an iteration that prefills equal sequences."""
        chunks = [Chunk(cached_tokens, new_tokens)] * batch_size
        return self.iteration_s(chunks=chunks, decodes=0, kv_entries=0) if new_tokens else 0.0

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds of decode iterations."""
        line = self.decode_line(batch_size)
        return line.span_ps(batch_size * context_tokens, steps) * 1e-12

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Seconds of an iteration that carries prefill."""
        tokens = decodes + sum(chunk.new_tokens for chunk in chunks)
        entries = kv_entries + sum(chunk.cached_tokens + chunk.new_tokens for chunk in chunks)
        if tokens > self._law.tokens[-1] or entries > self._law.largest_entries:
            self.outside_calls += 1
        return self._drift_ratio * self._law.seconds(tokens, entries, prefills=True)

    def decode_line(self, batch_size: int) -> DecodeLine:
        """Seconds of a decode iteration over the entries it reads: a straight line."""
        if batch_size not in self._lines:
            high = self._law.largest_entries
            corners = [
                (entries, self._drift_ratio * self._law.seconds(batch_size, entries, prefills=False))
                for entries in (0, max(high, 10**6))
            ]
            inside = batch_size <= self._law.tokens[-1]
            self._lines[batch_size] = DecodeLine(batch_size, corners, 1, high if inside else 0)
        return self._lines[batch_size]

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """Count them."""
        self.outside_calls += steps


def _tokens(one: Iteration) -> int:
    return one.decodes + sum(chunk.new_tokens for chunk in one.chunks)


def _entries(one: Iteration) -> int:
    return one.kv_entries + sum(chunk.cached_tokens + chunk.new_tokens for chunk in one.chunks)
