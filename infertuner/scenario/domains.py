"""Sets of values for sweeps: what a key may be instead of one value."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from infertuner.parts import Count, Number, Positive, part


@part
class Range:
    """Equally spaced numbers."""

    min: Number
    """First value."""
    max: Number
    """Upper bound; included when a whole number of steps reaches it."""
    step: Positive
    """Distance between neighbours."""

    def __post_init__(self) -> None:
        if self.max < self.min:
            raise ValueError(f"max must be at least min (= {self.min}), got {self.max}")

    def values(self) -> list[Any]:
        """min, min + step, ... up to max."""
        count = int((self.max - self.min) / self.step * (1 + 1e-12)) + 1
        return [_plain(self.min + self.step * index) for index in range(count)]


@part
class LogRange:
    """Numbers spaced by a constant factor, both ends included."""

    min: Positive
    """First value."""
    max: Positive
    """Last value."""
    count: Count
    """How many values."""

    def __post_init__(self) -> None:
        if self.max < self.min:
            raise ValueError(f"max must be at least min (= {self.min}), got {self.max}")

    def values(self) -> list[Any]:
        """`count` values from min to max, rounded to six significant digits."""
        return [_plain(value, digits=6) for value in np.geomspace(self.min, self.max, self.count).tolist()]


@part
class DomainSpec:
    """Values for one key: `{choices: [...]}`, `{range: {min, max, step}}` or `{log_range: {min, max, count}}`."""

    choices: list[Any] | None = None
    """These values, in this order."""
    range: Range | None = None
    """Equally spaced numbers."""
    log_range: LogRange | None = None
    """Numbers spaced by a constant factor."""

    def __post_init__(self) -> None:
        given = [spelled for spelled in (self.choices, self.range, self.log_range) if spelled is not None]
        if len(given) != 1 or given == [[]]:
            raise ValueError("must be a list of values, or one of choices, range, log_range with at least one value")

    def values(self) -> list[Any]:
        """The values this domain stands for, in order."""
        if self.choices is not None:
            return self.choices
        spaced = self.range or self.log_range
        return spaced.values() if spaced else []


def _list_means_choices(value: Any) -> Any:
    return {"choices": value} if isinstance(value, list) else value


def _list_or_object(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"type": "array", "minItems": 1}, {"$ref": schema.pop("$ref")}]


Domain = Annotated[DomainSpec, BeforeValidator(_list_means_choices), Field(json_schema_extra=_list_or_object)]
"""A domain as people write it: a plain list stands for its choices."""


def _plain(number: float, digits: int = 12) -> int | float:
    """A number as people would have written it: whole where it is, without the dust of floating point."""
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
