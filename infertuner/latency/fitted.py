"""Latency from a profile: the laws a calibration fitted, inside the box in which it measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from infertuner.errors import OutOfRangeError, ProfileError
from infertuner.latency.bounds import Bounds
from infertuner.latency.forms import Work, parts_s
from infertuner.latency.lines import PS_PER_S, DecodeLine
from infertuner.latency.model import Chunk
from infertuner.latency.noise import NoiseRing
from infertuner.latency.profile import Calibration, load_calibration
from infertuner.latency.uncertainty import Draw, noise_ring
from infertuner.parts import FilePath, Positive, part
from infertuner.streams import Streams

CORNERS = 17
"""Contexts at which a law that is not straight is evaluated; its decode line is straight between them."""
Axis: TypeAlias = tuple[str, float, float, float]
"""Its name, the value that was asked for, the least and the most that was measured."""
FARTHER = 4
"""The last corner lies so many times beyond the box, so that extrapolation follows the law and not the last chord."""


@part
class Profile:
    """Latency measured by `python -m infertuner.calibrate` on real hardware, or composed from published tables."""

    kind: Literal["profile"]
    path: FilePath
    """The profile file; a relative path starts at the scenario's folder."""
    out_of_range: Literal["refuse", "extrapolate"] = "refuse"
    """Outside the measured box: stop with an error, or go on along the law and count it."""
    uncertainty: Literal["none", "drawn"] = "none"
    """`drawn`: every replication draws one of the refitted sets of coefficients and one level for the whole run, so
    that the intervals of a table carry the calibration's own doubt."""
    factor: Positive = 1.0
    """Multiply what the laws say by this, to ask what an error of theirs would mean; the host gap stays."""
    noise: Literal["none", "measured"] = "none"
    """`measured`: iterations of a continuous batcher vary around the law as measured steps did; means stay."""

    def model(self, streams: Streams) -> ProfileLatency:
        """Read the profile and answer from it, after drawing what is to be drawn."""
        calibration = load_calibration(self.path)
        measured = calibration.decode.noise
        steps = None if measured is None else measured.steps
        draw, ring = None, None
        if self.uncertainty == "drawn":
            draw = Draw(streams.get("calibration"), 0.0 if steps is None else steps.run_sd_ratio)
            if not (calibration.prefill.draws and calibration.decode.draws):
                raise ProfileError(f"{self.path}: holds no draws; set latency.uncertainty: none, or fit it again")
        if self.noise == "measured":
            if steps is None:
                raise ProfileError(f"{self.path}: no noise was measured; set latency.noise: none, or measure it")
            ring = noise_ring(steps, streams.get("noise"))
        refuse = self.out_of_range == "refuse"
        return ProfileLatency(
            calibration, name=str(self.path), refuse=refuse, draw=draw, noise=ring, factor=self.factor
        )

    def source(self) -> str:
        """Where its seconds come from, and how far they were off on what was not fitted."""
        found = load_calibration(self.path)
        laws = {"prefill": found.prefill, "decode": found.decode, "mixed": found.mixed}
        errors = [f"{law.holdout.mean_ratio:.1%} of {kind}" for kind, law in laws.items() if law is not None]
        said = " and ".join([", ".join(errors[:-1]), errors[-1]])
        unmeasured = ", cached prefixes not measured" if found.prefill.assumed else ""
        return (
            f"{found.provenance}: {found.model.name} {found.model.dtype} on {found.hardware.name} "
            f"({found.hardware.device}), held-out error {said} times{unmeasured}"
        )


class ProfileLatency:
    """Answers from the fitted laws; `outside_calls` counts answers given outside the measured box.

    Static batches pay what the laws say; iterations of a continuous engine pay the profile's host gap on top.
    Nothing is answered below what the hardware could do at most.
    """

    def __init__(
        self,
        calibration: Calibration,
        *,
        name: str,
        refuse: bool,
        draw: Draw | None = None,
        noise: NoiseRing | None = None,
        factor: float = 1.0,
    ) -> None:
        self.outside_calls = 0
        self.noise = noise
        self.kv_bytes_per_token = calibration.model.kv_bytes_per_token
        self._name, self._refuse = name, refuse
        drawn = draw or Draw.none()
        self._level = drawn.level * factor
        prefill, decode, mixed = calibration.prefill, calibration.decode, calibration.mixed
        self._prefill, self._decode = prefill.law(drawn.row(prefill)), decode.law(drawn.row(decode))
        self._mixed = None if mixed is None else mixed.law(drawn.row(mixed))
        self._prefill_bounds = (*prefill.box.batch_size, *prefill.box.batch_tokens, *prefill.box.context_tokens)
        self._decode_bounds = (*decode.box.batch_size, *decode.box.context_tokens)
        self._beside_bounds = _beside_bounds(calibration)
        self._bounds = Bounds.of(calibration)
        self._gap = calibration.host_gap
        self._lines: dict[tuple[int, bool], DecodeLine] = {}

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Seconds to prefill a batch of equal sequences; token i of a sequence attends to `cached_tokens` + i.

        One new token a sequence is a decode step and costs what a decode step costs.
        """
        if new_tokens < 2:
            return self.decode_s(batch_size=batch_size, context_tokens=cached_tokens + 1, steps=new_tokens)
        tokens, context = batch_size * new_tokens, cached_tokens + new_tokens
        self._inside_prefill(batch_size, tokens, context)
        pairs = tokens * (cached_tokens + 0.5 * (new_tokens + 1))
        work = Work(tokens, batch_size * context, batch_size, pairs)
        return self._bounded(self._prefill(work), work)

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds for `steps` decode steps, the first at `context_tokens`."""
        if not steps:
            return 0.0
        line = self._line(batch_size, gap=False)
        if not line.low <= batch_size * context_tokens <= batch_size * (context_tokens + steps - 1) <= line.high:
            self._outside_decode(batch_size, context_tokens, steps, times=1)
        return line.span_ps(batch_size * context_tokens, steps) / PS_PER_S

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Seconds of an iteration: all its tokens at once, the attention of its chunks and that of its decodes.

        With decodes beside the chunks the mixed law, where there is one, adds what kernels for mixed batches cost. A
        chunk of one token is a decode.
        """
        sequences = tokens = entries = longest = 0
        pairs = 0.0
        for cached_tokens, new_tokens in chunks:
            context = cached_tokens + new_tokens
            if new_tokens < 2:
                decodes, kv_entries = decodes + 1, kv_entries + context
                continue
            sequences += 1
            tokens += new_tokens
            entries += context
            longest = max(longest, context)
            pairs += new_tokens * (cached_tokens + 0.5 * (new_tokens + 1))
        if not sequences:
            line = self.decode_line(decodes)
            if not line.low <= kv_entries <= line.high:
                self._outside_decode(decodes, kv_entries / decodes, 1, times=1)
            return line.step_ps(kv_entries) / PS_PER_S
        fewest, most = self._prefill_bounds[:2]  # chunks are told apart by their tokens and pairs, not by their number
        inside = self._inside_prefill(min(max(sequences, fewest), most), tokens + decodes, longest)
        seconds = parts_s(self._prefill, self._decode, Work(tokens + decodes, entries, sequences, pairs), kv_entries)
        if decodes:
            if inside:
                self._check_beside(tokens, longest, decodes, kv_entries / decodes)
            if self._mixed is not None:
                seconds = self._mixed(seconds, tokens, decodes, kv_entries)
        everything = Work(tokens + decodes, entries + kv_entries, sequences + decodes, pairs + kv_entries)
        return self._bounded(seconds, everything) + self._gap_s(sequences + decodes)

    def decode_line(self, batch_size: int) -> DecodeLine:
        """Seconds of one engine iteration in which this batch decodes, over the KV entries it reads."""
        return self._line(batch_size, gap=True)

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """Count iterations outside the box, or refuse them."""
        self._outside_decode(batch_size, kv_entries / batch_size, steps, times=steps)

    def _line(self, batch_size: int, *, gap: bool) -> DecodeLine:
        if (batch_size, gap) not in self._lines:
            b0, b1, c0, c1 = self._decode_bounds
            low, high = (batch_size * c0, batch_size * c1) if b0 <= batch_size <= b1 else (1, 0)
            if self._decode.ratio is None and self._bounds is None:
                contexts = [0, c1]
            else:
                contexts = sorted({0, *(round(c0 * (c1 / c0) ** (i / (CORNERS - 1))) for i in range(CORNERS))})
            extra_s = self._gap_s(batch_size) if gap else 0.0
            corners = [
                (batch_size * context, self._step_s(batch_size, context) + extra_s)
                for context in [*contexts, FARTHER * c1]
            ]
            self._lines[batch_size, gap] = DecodeLine(batch_size, corners, low, high)
        return self._lines[batch_size, gap]

    def _step_s(self, batch_size: int, context_tokens: int) -> float:
        entries = batch_size * context_tokens
        work = Work(batch_size, entries, batch_size, entries)
        return self._bounded(self._decode(work), work)

    def _bounded(self, seconds: float, work: Work) -> float:
        seconds *= self._level
        return seconds if self._bounds is None else max(seconds, self._bounds.least_s(work))

    def _gap_s(self, sequences: int) -> float:
        return 0.0 if self._gap is None else self._gap.per_iteration_s + self._gap.per_sequence_s * sequences

    def _inside_prefill(self, batch_size: int, tokens: int, longest: int) -> bool:
        """Whether a prefill is inside its box; counted or refused where not."""
        b0, b1, t0, t1, c0, c1 = self._prefill_bounds
        if b0 <= batch_size <= b1 and t0 <= tokens <= t1 and c0 <= longest <= c1:
            return True
        axes = [
            ("batch_size", batch_size, b0, b1),
            ("batch_tokens", tokens, t0, t1),
            ("context_tokens", longest, c0, c1),
        ]
        self._outside("prefill", axes, 1)
        return False

    def _check_beside(self, tokens: int, longest: int, decodes: int, mean_context: float) -> None:
        """Count or refuse decodes beside a chunk; the lower ends are anchored by the laws of pure steps."""
        d1, c1, t1, l1 = self._beside_bounds
        if not (decodes <= d1 and mean_context <= c1 and tokens <= t1 and longest <= l1):
            axes: list[Axis] = [("decodes", decodes, 0, d1), ("decode_context_tokens", mean_context, 0, c1)]
            axes += [("new_tokens", tokens, 0, t1), ("context_tokens", longest, 0, l1)]
            self._outside("an iteration that prefills and decodes,", axes, 1)

    def _outside_decode(self, batch_size: int, context_tokens: float, steps: int, *, times: int) -> None:
        b0, b1, c0, c1 = self._decode_bounds
        context = context_tokens if context_tokens < c0 else context_tokens + steps - 1
        self._outside("decode", [("batch_size", batch_size, b0, b1), ("context_tokens", context, c0, c1)], times)

    def _outside(self, work: str, axes: Sequence[Axis], times: int) -> None:
        """Count steps outside the box, or refuse them and name the axis."""
        self.outside_calls += times
        if not self._refuse:
            return
        for axis, value, low, high in axes:
            if not low <= value <= high:
                raise OutOfRangeError(
                    f"{work} with {axis} {value:g} is outside what {self._name} measured ({low} to {high}); "
                    f"keep the workload inside, calibrate a larger box, or set latency.out_of_range: extrapolate"
                )


def _beside_bounds(calibration: Calibration) -> tuple[int, int, float, float]:
    """Most decodes, their longest mean context, most chunk tokens and longest chunk context of a mixed iteration."""
    mixed, decode = calibration.mixed, calibration.decode.box
    if mixed is None:  # the sum of parts reaches as far as the parts, and the prefill box bounds the chunks
        return decode.batch_size[1], decode.context_tokens[1], math.inf, math.inf
    box = mixed.box
    return box.decodes[1], box.decode_context_tokens[1], box.new_tokens[1], box.context_tokens[1]
