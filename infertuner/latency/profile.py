"""The profile file: what a calibration found out, where it came from and where it stops being true.

JSON, schema `infertuner.calibration/1`. Units are in the names (`_s`, `_tokens`, `_bytes`); ratios are of 1.
Every fitted number carries its 95 % interval.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from infertuner.errors import ProfileError
from infertuner.latency.machine import Hardware, Model, NonNegative, Protocol, Range, Samples, Section, Software

SCHEMA = "infertuner.calibration/1"
NEXT_STEP = "measure it again with python -m infertuner.calibrate"


class Estimate(Section):
    """A fitted number and its 95 % interval, from resampling visits."""

    value: NonNegative
    low: NonNegative
    high: NonNegative


class Knot(Section):
    """A corner of the piecewise-linear cost of computing tokens: how long so many take, and nothing else."""

    tokens: int
    step_s: Estimate


class Errors(Section):
    """Absolute relative error over the points that were measured and never fitted."""

    points: int
    mean_ratio: NonNegative
    p95_ratio: NonNegative
    worst_ratio: NonNegative


class Noise(Section):
    """How much equal work differs."""

    between_visits_ratio: NonNegative
    """Standard deviation of visits around their point, drift removed: the median over points."""
    call_quantiles: dict[str, float]
    """Quantiles of a call's seconds relative to its point's median, drift not removed."""


class DecodeBox(Section):
    """Where the decode law was measured; outside it is extrapolation."""

    batch_size: Range
    context_tokens: Range


class PrefillBox(DecodeBox):
    """Where the prefill law was measured."""

    batch_tokens: Range
    """New tokens of all sequences together."""


class DecodeLaw(Section):
    """Seconds of a step: knots interpolated at the step's tokens + `kv_entry_s` x batch size x context."""

    form: str
    """Which of the candidates cross-validation chose."""
    knots: Annotated[list[Knot], Field(min_length=2)]
    kv_entry_s: Estimate
    """Seconds for each KV entry that is read."""
    box: DecodeBox
    cross_validation: dict[str, NonNegative]
    """Mean absolute relative error of every candidate form on points left out of its fit."""
    holdout: Errors
    noise: Noise

    @model_validator(mode="after")
    def _knots_rise(self) -> Self:
        tokens = [knot.tokens for knot in self.knots]
        if tokens != sorted(set(tokens)):
            raise ValueError(f"knots must have rising tokens, not {tokens}")
        return self


class PrefillLaw(DecodeLaw):
    """As decode, + `sequence_s` x batch size + `attended_pair_s` x pairs of a new token and an entry it attends to.

    It holds from 2 new tokens a sequence; a prefill of one token is a decode step.
    """

    sequence_s: Estimate
    attended_pair_s: Estimate
    box: PrefillBox


class Calibration(Section):
    """One profile file."""

    schema_: Literal["infertuner.calibration/1"] = Field(alias="schema")
    provenance: Literal["measured", "public", "extrapolated"]
    source: str
    """Who measured it, or where the numbers were published."""
    hardware: Hardware
    software: Software
    model: Model
    protocol: Protocol
    samples: Samples
    prefill: PrefillLaw
    decode: DecodeLaw


def load_calibration(path: Path) -> Calibration:
    """The profile in `path`, checked."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(f"{path}: no such profile; {NEXT_STEP}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: cannot be read ({error}); {NEXT_STEP}") from None
    except ValueError as error:
        raise ProfileError(f"{path}: not JSON ({error}); {NEXT_STEP}") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ProfileError(f"{path}: schema is {schema!r} and this version reads {SCHEMA!r}; {NEXT_STEP}")
    try:
        return Calibration.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        raise ProfileError(f"{path}: {key}: {first['msg'].lower()}; {NEXT_STEP}") from None


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write the profile to `path` at once or not at all."""
    text = calibration.model_dump_json(by_alias=True, indent=1)
    write_atomically(path, (text + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name and rename, so that no reader ever sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise ProfileError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
