"""The fitted laws of a profile file, each with its box, its errors, its noise and how sure its numbers are.

Units are in the names (`_s`, `_tokens`); ratios are of 1. Every coefficient carries its 95 % interval.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from infertuner.latency.forms import ROOFLINE, SURCHARGE, TERMS, Axes, Law, LawKind, Ratio, Shape, Surcharge
from infertuner.latency.machine import NonNegative, Range, Section

Nodes = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)]


class Estimate(Section):
    """A fitted number and its 95 % interval, from resampling."""

    value: NonNegative
    low: NonNegative
    high: NonNegative


class Knot(Section):
    """A corner of the piecewise-linear cost of computing tokens: how long so many take, and nothing else."""

    tokens: int
    step_s: Estimate


class RooflineCurve(Section):
    """Cost of computing T tokens: fixed_s + (weights_s ** p + (token_s x T) ** p) ** (1 / p), with p the sharpness."""

    fixed_s: Estimate
    weights_s: Estimate
    token_s: Estimate
    sharpness: Estimate


class RatioSurface(Section):
    """What the rest of the law is multiplied with: exp of a surface, bilinear in the logarithms of both axes.

    Beyond its nodes it stays what it is at the nearest.
    """

    tokens: Nodes
    """Nodes along the tokens of the step; in a mixed law along the sequences that decode."""
    context_tokens: Nodes
    """Nodes along the mean KV entries a token attends to; in a mixed law those of a sequence that decodes."""
    log_ratio: list[list[float]]
    """A row for each node of `tokens`."""

    @model_validator(mode="after")
    def _fits_its_nodes(self) -> Self:
        for axis in (self.tokens, self.context_tokens):
            if axis != sorted(set(axis)):
                raise ValueError("nodes of a ratio must rise")
        if [len(row) for row in self.log_ratio] != [len(self.context_tokens)] * len(self.tokens):
            raise ValueError("log_ratio must have a row for each node of tokens, as long as there are contexts")
        return self

    @property
    def axes(self) -> Axes:
        """The nodes of both axes."""
        return tuple(self.tokens), tuple(self.context_tokens)

    @property
    def nodes(self) -> list[float]:
        """All values, row after row."""
        return [value for row in self.log_ratio for value in row]


class Errors(Section):
    """Absolute relative error over the points that were measured and never fitted."""

    points: int
    mean_ratio: NonNegative
    p95_ratio: NonNegative
    worst_ratio: NonNegative


class StepNoise(Section):
    """How a step of a simulation may differ from the law. Log step times, relative to it, are Student-t."""

    scale_ratio: NonNegative
    degrees_of_freedom: Annotated[float, Field(gt=2)]
    lag1: Annotated[float, Field(ge=0, lt=1)]
    """Correlation of one step with the next."""
    run_sd_ratio: NonNegative
    """Standard deviation of the log of the level that a whole run shares: that of the drift that was removed, by its
    median absolute deviation, so that a disturbance of part of the run is not in it."""
    spike_rate: Annotated[float, Field(ge=0, lt=1)]
    """Share of steps that lie far above all others."""
    spike_quantiles: list[Annotated[float, Field(gt=0)]]
    """Their size relative to the law, from the least to the most in equal steps of probability."""


class Noise(Section):
    """How much equal work differs."""

    between_visits_ratio: NonNegative
    """Standard deviation of visits around their point, drift removed: the median over points."""
    call_quantiles: dict[str, float]
    """Quantiles of a call's seconds relative to its point's median, drift not removed."""
    steps: StepNoise | None = None
    """None where too few calls were timed."""


class DecodeBox(Section):
    """Where the decode law was measured; outside it is extrapolation."""

    batch_size: Range
    context_tokens: Range


class PrefillBox(DecodeBox):
    """Where the prefill law was measured."""

    batch_tokens: Range
    """New tokens of all sequences together."""


class MixedBox(Section):
    """Where mixed iterations were measured. Below its lower ends the laws of pure steps anchor the sum."""

    new_tokens: Range
    """New tokens of the chunk."""
    context_tokens: Range
    """KV entries of the chunk when the iteration ends."""
    decodes: Range
    decode_context_tokens: Range


class Fitted(Section):
    """What every law has."""

    form: str
    """Which of the candidates cross-validation chose."""
    ratio: RatioSurface | None = None
    cross_validation: dict[str, NonNegative]
    """Mean absolute relative error of every candidate form on points left out of its fit."""
    holdout: Errors
    noise: Noise | None = None
    """None where nothing was measured twice."""
    draws: tuple[list[float], ...] = ()
    """The coefficients refitted to resampled measurements, a row a draw: the curve (knots, or roofline in the order of
    its keys), the other coefficients in the order of the form, and the ratio's nodes row after row."""

    @property
    @abstractmethod
    def coefficients(self) -> list[float]:
        """Every number of the law, in the order of a draw."""

    @property
    def ratio_nodes(self) -> list[float]:
        """The ratio as coefficients; none where there is none."""
        return [] if self.ratio is None else self.ratio.nodes

    @property
    def axes(self) -> Axes | None:
        """The nodes of the ratio, if there is one."""
        return None if self.ratio is None else self.ratio.axes


class DecodeLaw(Fitted):
    """Seconds of a step: a curve over the step's tokens + `kv_entry_s` x batch size x context, x the ratio."""

    kind: ClassVar[LawKind] = "decode"

    knots: tuple[Knot, ...] = ()
    """Of a piecewise-linear curve; empty where it is a roofline."""
    roofline: RooflineCurve | None = None
    kv_entry_s: Estimate
    """Seconds for each KV entry that is read."""
    box: DecodeBox

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        tokens = [knot.tokens for knot in self.knots]
        if tokens != sorted(set(tokens)):
            raise ValueError(f"knots must have rising tokens, not {tokens}")
        if (len(tokens) < 2) == (self.roofline is None):
            raise ValueError("a law has either 2 knots or more, or a roofline")
        size = len(self.coefficients)
        if any(len(draw) != size for draw in self.draws):
            raise ValueError(f"a draw has as many numbers as the law has coefficients, {size}")
        return self

    @property
    def coefficients(self) -> list[float]:
        """Every number of the law, in the order of a draw."""
        curve = [getattr(self.roofline, name) for name in ROOFLINE] if self.roofline else [k.step_s for k in self.knots]
        terms = [getattr(self, name) for name in TERMS[self.kind]]
        return [*(estimate.value for estimate in (*curve, *terms)), *self.ratio_nodes]

    def law(self, coefficients: Sequence[float]) -> Law:
        """The law with these numbers."""
        knots = None if self.roofline else tuple(knot.tokens for knot in self.knots)
        return Shape(self.kind, knots, self.axes).law(coefficients)


class PrefillLaw(DecodeLaw):
    """As decode, + `sequence_s` x batch size + `attended_pair_s` x pairs of a new token and an entry it attends to.

    It holds from 2 new tokens a sequence; a prefill of one token is a decode step.
    """

    kind: ClassVar[LawKind] = "prefill"

    sequence_s: Estimate
    attended_pair_s: Estimate
    assumed: tuple[Literal["kv_entry_s"], ...] = ()
    """What no point could tell and is the decode law's: no prefill behind a cached prefix was measured."""
    box: PrefillBox


class MixedLaw(Fitted):
    """What an iteration with a chunk and decodes costs beyond prefill of all its tokens and reading the decodes' KV.

    fixed_s + decode_s x decodes + chunk_token_s x chunk tokens
    + (kv_entry_s + crowded_entry_s x decodes above `crowd`) x KV entries of the decodes; the sum of parts and
    surcharge x the ratio.
    """

    fixed_s: Estimate
    decode_s: Estimate
    kv_entry_s: Estimate
    chunk_token_s: Estimate
    crowded_entry_s: Estimate
    crowd: int
    box: MixedBox

    @property
    def coefficients(self) -> list[float]:
        """Every number of the surcharge, in the order of a draw."""
        return [*(getattr(self, name).value for name in SURCHARGE), *self.ratio_nodes]

    def law(self, coefficients: Sequence[float]) -> Surcharge:
        """The surcharge with these numbers."""
        ratio = None if self.axes is None else Ratio(*self.axes, list(coefficients[len(SURCHARGE) :]))
        return Surcharge(coefficients[: len(SURCHARGE)], self.crowd, ratio)
