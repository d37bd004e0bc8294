"""The device in place of the latency model: every step is run, and lasts what it was measured to last.

All simulated GPUs share the one device: the simulated clock stands still while a step runs, so each of them has it to
itself. Static batches only; an engine that mixes prefill and decode in one iteration is validated in real time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from infertuner.errors import ValidationError
from infertuner.latency.model import LatencyModel
from infertuner.latency.points import Point
from infertuner.latency.static_only import StaticOnly
from infertuner.sources.requests import Floats

WARM_CALLS = 3
"""Untimed calls before the first step of each kind and batch size."""


class Steps(Protocol):
    """Something that can run a step."""

    def once_s(self, point: Point) -> float:
        """Run one step of `point`; the seconds it took."""
        ...


class _InTheLoop(StaticOnly):
    def _refusal(self) -> ValidationError:
        return ValidationError(
            "cluster.batcher: hardware in the loop runs static batches (none, fixed, timeout); "
            "use python -m infertuner.validate engine for kind continuous"
        )


class DeviceLatency(_InTheLoop):
    """Answers by running the batch. It keeps what it measured in `gaps_s`."""

    outside_calls = 0
    noise = None

    def __init__(self, steps: Steps, tell: Callable[[float], None] = lambda _: None) -> None:
        """Tell is told the seconds of every prefill, and of every decode step, once it is measured."""
        self._steps, self._tell = steps, tell
        self._warm: set[tuple[str, int]] = set()
        self.gaps_s: list[Floats] = []
        """Seconds of the steps of every stretch of decoding, once for each sequence of the batch."""

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds of a prefill that was just run; 0 new tokens run nothing."""
        return self._measured_s(batch_size, new_tokens, cached_tokens) if new_tokens else 0.0

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds of `steps` decode steps that were just run, each at its own context."""
        seconds = [self._measured_s(batch_size, 1, context_tokens - 1 + step) for step in range(steps)]
        if seconds:
            self.gaps_s.append(np.repeat(seconds, batch_size))
        return sum(seconds)

    def _measured_s(self, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        point = step_point(batch_size, new_tokens, cached_tokens)
        if (point.kind, batch_size) not in self._warm:
            self._warm.add((point.kind, batch_size))
            for _ in range(WARM_CALLS):
                self._steps.once_s(point)
        seconds = self._steps.once_s(point)
        self._tell(seconds)
        return seconds


class SteppedLatency(_InTheLoop):
    """A latency model at another speed, which keeps the seconds of every single decode step in `gaps_s`."""

    def __init__(self, model: LatencyModel, prefill_ratio: float = 1.0, decode_ratio: float = 1.0) -> None:
        """The ratios multiply seconds: how much slower than its profile the machine was at either kind of step."""
        self._model, self._prefill_ratio, self._decode_ratio = model, prefill_ratio, decode_ratio
        self.noise = model.noise
        self.outside_calls = 0
        self.steps = 0
        """Prefills and decode steps so far."""
        self.gaps_s: list[Floats] = []

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds to prefill; one new token a sequence is a decode step."""
        ratio = self._prefill_ratio if new_tokens > 1 else self._decode_ratio
        seconds = self._model.prefill_s(batch_size=batch_size, new_tokens=new_tokens, cached_tokens=cached_tokens)
        self.outside_calls = self._model.outside_calls
        self.steps += new_tokens > 0
        return ratio * seconds

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds for all steps, asked for one by one."""
        seconds = [
            self._decode_ratio
            * self._model.decode_s(batch_size=batch_size, context_tokens=context_tokens + step, steps=1)
            for step in range(steps)
        ]
        self.outside_calls = self._model.outside_calls
        self.steps += steps
        if seconds:
            self.gaps_s.append(np.repeat(seconds, batch_size))
        return sum(seconds)


def step_point(batch_size: int, new_tokens: int, cached_tokens: int) -> Point:
    """The step of a static batch; one new token a sequence is a decode step."""
    kind = "decode" if new_tokens == 1 else "prefill"
    return Point(kind, batch_size, new_tokens, cached_tokens, "fit")  # type: ignore[arg-type]
