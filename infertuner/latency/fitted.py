"""Latency from a profile: the laws a calibration fitted, inside the box in which it measured."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Literal

from infertuner.errors import OutOfRangeError
from infertuner.latency.profile import Calibration, DecodeBox, Knot, load_calibration
from infertuner.parts import FilePath, part


@part
class Profile:
    """Latency measured by `python -m infertuner.calibrate` on real hardware."""

    kind: Literal["profile"]
    path: FilePath
    """The profile file; a relative path starts at the scenario's folder."""
    out_of_range: Literal["refuse", "extrapolate"] = "refuse"
    """Outside the measured box: stop with an error, or go on in a straight line and count it."""

    def model(self) -> ProfileLatency:
        """Read the profile and answer from it."""
        calibration = load_calibration(self.path)
        return ProfileLatency(calibration, name=str(self.path), refuse=self.out_of_range == "refuse")

    def source(self) -> str:
        """Where its seconds come from, and how far they were off on what was not fitted."""
        found = load_calibration(self.path)
        model, hardware = found.model, found.hardware
        return (
            f"{found.provenance}: {model.name} {model.dtype} on {hardware.name} ({hardware.device}), "
            f"held-out error {found.prefill.holdout.mean_ratio:.1%} of prefill and "
            f"{found.decode.holdout.mean_ratio:.1%} of decode times"
        )


class Curve:
    """Piecewise-linear interpolation through knots, going on in a straight line beyond them, never below 0.

    Beyond the last knot at the steeper of the last and the mean slope: a dip in the last segment is local.
    """

    def __init__(self, knots: list[Knot]) -> None:
        self._tokens = [float(knot.tokens) for knot in knots]
        self._seconds = [knot.step_s.value for knot in knots]
        corners = list(zip(self._tokens, self._seconds, strict=True))
        self._slopes = [_slope(start, end) for start, end in pairwise(corners)]
        self._slopes.append(max(self._slopes[-1], _slope(corners[0], corners[-1])))

    def __call__(self, tokens: int) -> float:
        """Seconds to compute `tokens` tokens in one step."""
        i = bisect_right(self._tokens, tokens, 1) - 1
        return max(0.0, self._seconds[i] + self._slopes[i] * (tokens - self._tokens[i]))


def _slope(start: tuple[float, float], end: tuple[float, float]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


class ProfileLatency:
    """Answers from the fitted laws; `outside_calls` counts answers given outside the measured box.

    A step costs what its tokens cost, plus reading the KV cache, plus in prefill so much a sequence and so much a pair
    of tokens that attend to each other.
    Reading is linear in the context, so k decode steps cost k times the step at their mean context, exactly.
    """

    def __init__(self, calibration: Calibration, *, name: str, refuse: bool) -> None:
        self.outside_calls = 0
        self._name = name
        self._refuse = refuse
        prefill, decode = calibration.prefill, calibration.decode
        self._prefill_curve, self._decode_curve = Curve(prefill.knots), Curve(decode.knots)
        self._prefill_entry_s, self._decode_entry_s = prefill.kv_entry_s.value, decode.kv_entry_s.value
        self._sequence_s, self._pair_s = prefill.sequence_s.value, prefill.attended_pair_s.value
        self._prefill_box, self._decode_box = prefill.box, decode.box
        self._prefill_bounds = (*prefill.box.batch_size, *prefill.box.batch_tokens, *prefill.box.context_tokens)
        self._decode_bounds = (*decode.box.batch_size, *decode.box.context_tokens)

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds to prefill a batch of equal sequences; token i of a sequence attends to `cached_tokens` + i.

        One new token a sequence is a decode step and costs what a decode step costs.
        """
        if new_tokens < 2:
            return self.decode_s(batch_size=batch_size, context_tokens=cached_tokens + 1, steps=new_tokens)
        tokens = batch_size * new_tokens
        context = cached_tokens + new_tokens
        b0, b1, t0, t1, c0, c1 = self._prefill_bounds
        if not (b0 <= batch_size <= b1 and t0 <= tokens <= t1 and c0 <= context <= c1):
            self._outside(
                self._prefill_box, "prefill", batch_size=batch_size, batch_tokens=tokens, context_tokens=context
            )
        return (
            self._prefill_curve(tokens)
            + batch_size * (self._sequence_s + self._prefill_entry_s * context)
            + self._pair_s * tokens * (cached_tokens + 0.5 * (new_tokens + 1))
        )

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds for `steps` decode steps, the first at `context_tokens`."""
        if not steps:
            return 0.0
        last = context_tokens + steps - 1
        b0, b1, c0, c1 = self._decode_bounds
        if not (b0 <= batch_size <= b1 and c0 <= context_tokens and last <= c1):
            context = last if last > c1 else context_tokens
            self._outside(self._decode_box, "decode", batch_size=batch_size, context_tokens=context)
        mean_context = 0.5 * (context_tokens + last)
        return steps * (self._decode_curve(batch_size) + self._decode_entry_s * batch_size * mean_context)

    def _outside(self, box: DecodeBox, work: str, **asked: int) -> None:
        """Count a batch outside the box, or refuse it and name the axis."""
        self.outside_calls += 1
        if not self._refuse:
            return
        for axis, value in asked.items():
            low, high = getattr(box, axis)
            if not low <= value <= high:
                raise OutOfRangeError(
                    f"{work} with {axis} {value} is outside what {self._name} measured ({low} to {high}); "
                    f"keep the workload inside, calibrate a larger box, or set latency.out_of_range: extrapolate"
                )
