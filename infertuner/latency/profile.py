"""The profile file: what a calibration found out, where it came from and where it stops being true.

JSON, schema `infertuner.calibration/1`. Units are in the names (`_s`, `_tokens`, `_bytes`); ratios are of 1.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from infertuner.errors import ProfileError
from infertuner.latency.law_sections import DecodeLaw, MixedLaw, PrefillLaw
from infertuner.latency.machine import (
    CopyLaw,
    Direction,
    EndToEnd,
    Hardware,
    HostGap,
    Model,
    Protocol,
    Samples,
    Section,
    Software,
)

SCHEMA = "infertuner.calibration/1"
NEXT_STEP = "measure it again with python -m infertuner.calibrate"


class Origin(Section):
    """Where published numbers come from."""

    url: str
    commit: str
    """The version of the source that was read."""
    licence: str
    note: str
    """What was done to the numbers on the way."""


class Run(NamedTuple):
    """What only a profile says that was measured with these programs."""

    software: Software
    protocol: Protocol
    samples: Samples


class Calibration(Section):
    """One profile file."""

    schema_: Literal["infertuner.calibration/1"] = Field(alias="schema")
    provenance: Literal["measured", "public", "extrapolated"]
    source: str
    """Who measured it, or where the numbers were published."""
    hardware: Hardware
    origin: Origin | None = None
    """Of numbers that somebody else measured."""
    software: Software | None = None
    """None, as `protocol` and `samples`, where a publication does not say."""
    model: Model
    protocol: Protocol | None = None
    samples: Samples | None = None
    prefill: PrefillLaw
    decode: DecodeLaw
    mixed: MixedLaw | None = None
    """None: a mixed iteration is the sum of its parts."""
    copies: dict[Direction, CopyLaw] = Field(default_factory=dict)
    """How long it takes to move so many bytes, by direction."""
    host_gap: HostGap | None = None
    """What the host adds to an iteration; None where nobody measured it."""
    end_to_end: list[EndToEnd] = Field(default_factory=list)
    """Whole calls of generate() against these laws."""

    def run_here(self) -> Run:
        """How and with what it was measured; raises ProfileError for published numbers."""
        if self.software is None or self.protocol is None or self.samples is None:
            raise ProfileError(f"a profile of provenance {self.provenance} has no samples of its own; {NEXT_STEP}")
        return Run(self.software, self.protocol, self.samples)


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
