"""What a part of a scenario is made of: one decorator and the field types that carry units and bounds.

A part (an arrival process, a router, a sizing policy ...) is one small dataclass that is its own configuration:
its fields are the YAML keys, the docstring under each field is that key's only documentation, and run state is set in
`__post_init__`, so that `fresh(part)` starts over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo

from infertuner import units

T = TypeVar("T")


@dataclass_transform(kw_only_default=True)
def part(cls: type[T]) -> type[T]:
    """Make `cls` a scenario part: a keyword-only dataclass that refuses unknown keys and documents each of its own."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", use_attribute_docstrings=True)  # type: ignore[attr-defined]
    return dataclass(kw_only=True)(cls)


def fresh(configured: T) -> T:
    """A copy of a part with its run state at the beginning; every simulated GPU gets its own."""
    return replace(configured)  # type: ignore[type-var]


def _text_or(schema: dict[str, Any]) -> Any:
    """JSON Schema of a quantity: a number within its bounds, or text with a unit."""
    schema["anyOf"] = [
        {key: schema.pop(key) for key in ("type", "minimum", "exclusiveMinimum", "maximum") if key in schema},
        {"type": "string"},
    ]


def _quantity(parse: Any, **bounds: Any) -> Any:
    return (BeforeValidator(parse), Field(json_schema_extra=_text_or, **bounds))


Seconds = Annotated[float, *_quantity(units.parse_seconds, ge=0)]
"""A duration, 0 or more: a number of seconds or text such as "50ms"."""
PositiveSeconds = Annotated[float, *_quantity(units.parse_seconds, gt=0)]
"""A duration above 0."""
PerSecond = Annotated[float, *_quantity(units.parse_per_s, gt=0)]
"""A rate above 0: a number per second or text such as "90/min"."""
PerSecondOrZero = Annotated[float, *_quantity(units.parse_per_s, ge=0)]
"""A rate, 0 or more."""
Bytes = Annotated[float, *_quantity(units.parse_bytes, ge=0)]
"""A size: a number of bytes or text such as "16GiB"."""
BytesPerSecond = Annotated[float, *_quantity(units.parse_bytes_per_s, gt=0)]
"""A bandwidth: bytes per second or text such as "25GB/s"."""
MOST = 10**9
"""The largest count or number of tokens that makes sense; beyond it there is a slip of the pen, or no memory."""

Count = Annotated[int, *_quantity(units.parse_count, ge=1, le=MOST)]
"""A whole number, 1 or more; text such as "100k" is read too."""
CountOrZero = Annotated[int, *_quantity(units.parse_count, ge=0, le=MOST)]
"""A whole number, 0 or more."""
Ratio = Annotated[float, *_quantity(units.parse_number, ge=0, le=1)]
"""A share between 0 and 1, never a percentage."""
NonNegative = Annotated[float, *_quantity(units.parse_number, ge=0)]
"""A plain number, 0 or more."""
Number = Annotated[float, *_quantity(units.parse_number)]
"""A plain finite number."""
Positive = Annotated[float, *_quantity(units.parse_number, gt=0)]
"""A plain number above 0."""


def _existing_file(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("must be the path of a file")
    path = Path((info.context or {}).get("folder", "."), value)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; paths start at the scenario's folder")
    return path


FilePath = Annotated[Path, BeforeValidator(_existing_file)]
"""A file that exists; a relative path starts at the folder of the scenario (the validation context's `folder`)."""
