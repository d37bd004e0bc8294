"""One answered request of a results file, and how its numbers are read from what JSON and CSV hold."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from infertuner.errors import ValidationError


@dataclass(frozen=True)
class Row:
    """One answered request; instants on the clock of its file."""

    where: str
    arrived_at_s: float
    first_token_at_s: float
    finished_at_s: float
    prompt_tokens: int
    output_tokens: int
    gaps_s: tuple[float, ...] = ()


def parsed(text: str, where: str) -> Any:
    """JSON text as plain data."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"{where}: not JSON ({error}); the file is damaged or of another format") from None


def number(where: str, name: str, value: Any) -> float:
    """A finite number, 0 or more."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise ValidationError(f"{where}: {name} is {value!r}; must be a number, 0 or more")
    return found


def whole(where: str, name: str, value: Any) -> int:
    """A whole number, 0 or more."""
    found = number(where, name, value)
    if found != int(found):
        raise ValidationError(f"{where}: {name} is {value!r}; must be a whole number")
    return int(found)


def numbers(where: str, name: str, values: Any) -> tuple[float, ...]:
    """A list of numbers."""
    if not isinstance(values, list):
        raise ValidationError(f"{where}: {name} is {values!r}; must be a list of seconds")
    return tuple(number(where, name, value) for value in values)


def field(where: str, record: Any, *path: str) -> Any:
    """What stands at a path of nested objects. Raises ValidationError where there is nothing."""
    for depth, name in enumerate(path, start=1):
        record = record.get(name) if isinstance(record, dict) else None
        if record is None:
            raise ValidationError(f"{where}: {'.'.join(path[:depth])} is missing; the file is of another format")
    return record
