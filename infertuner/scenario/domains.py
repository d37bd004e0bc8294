"""Sets of values for sweeps: what a key may be instead of one value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field

from infertuner.errors import ScenarioError
from infertuner.parts import Count, Number, Positive, part


@part
class Range:
    """Equally spaced numbers."""

    min: Number
    """First value."""
    max: Number
    """Upper bound; included when a whole number of steps reaches it."""
    step: Positive | None = None
    """Distance between neighbours; without one, every number between, which only a Latin hypercube can choose from."""

    def __post_init__(self) -> None:
        if self.max < self.min:
            raise ValueError(f"max must be at least min (= {self.min}), got {self.max}")

    def values(self) -> list[Any] | None:
        """min, min + step, ... up to max; None where they are too many to list."""
        if self.step is None:
            return None
        count = int((self.max - self.min) / self.step * (1 + 1e-12)) + 1
        return [_plain(self.min + self.step * index) for index in range(count)]

    def at(self, share: float) -> float:
        """The number this share of the way from min to max."""
        return self.min + (self.max - self.min) * share


@part
class LogRange:
    """Numbers spaced by a constant factor, both ends included."""

    min: Positive
    """First value."""
    max: Positive
    """Last value."""
    count: Count | None = None
    """How many values; without it, every number between, which only a Latin hypercube can choose from."""

    def __post_init__(self) -> None:
        if self.max < self.min:
            raise ValueError(f"max must be at least min (= {self.min}), got {self.max}")

    def values(self) -> list[Any] | None:
        """`count` values from min to max, rounded to six significant digits; None where they are too many to list."""
        if self.count is None:
            return None
        return [_plain(value, digits=6) for value in np.geomspace(self.min, self.max, self.count).tolist()]

    def at(self, share: float) -> float:
        """The number this share of the way from min to max, counted in factors."""
        return self.min * math.exp(math.log(self.max / self.min) * share)


@part
class DomainSpec:
    """Values for one key: `{choices: [...]}`, `{range: {min, max, step}}` or `{log_range: {min, max, count}}`."""

    choices: list[Any] | None = None
    """These values, in this order."""
    range: Range | None = None
    """Equally spaced numbers."""
    log_range: LogRange | None = None
    """Numbers spaced by a constant factor."""
    whole: bool = False
    """Round to whole numbers, for keys that count something; values that become equal are listed once."""

    def __post_init__(self) -> None:
        given = [spelled for spelled in (self.choices, self.range, self.log_range) if spelled is not None]
        if len(given) != 1 or given == [[]]:
            raise ValueError("must be a list of values, or one of choices, range, log_range with at least one value")

    def values(self) -> list[Any] | None:
        """The values this domain stands for, in order; None for every number between two."""
        if self.choices is not None:
            return self.choices
        listed = self._spaced().values()
        return listed if listed is None else list(dict.fromkeys(map(self._rounded, listed)))

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1) of the domain: equal shares for listed values, along the scale for others."""
        listed = self.values()
        if listed is not None:
            return listed[int(share * len(listed))]
        return self._rounded(_plain(self._spaced().at(share), digits=6))

    def _spaced(self) -> Range | LogRange:
        spaced = self.range or self.log_range
        assert spaced is not None
        return spaced

    def _rounded(self, number: float) -> float:
        return round(number) if self.whole else number


def _list_means_choices(value: Any) -> Any:
    return {"choices": value} if isinstance(value, list) else value


def _list_or_object(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"type": "array", "minItems": 1}, {"$ref": schema.pop("$ref")}]


Domain = Annotated[DomainSpec, BeforeValidator(_list_means_choices), Field(json_schema_extra=_list_or_object)]
"""A domain as people write it: a plain list stands for its choices."""


Point: TypeAlias = dict[str, Any]
"""One value for each of some dotted keys."""
Design: TypeAlias = Callable[[Mapping[str, DomainSpec]], Iterable[Point]]
"""Which points of the space that domains span are looked at."""


def full_grid(domains: Mapping[str, DomainSpec]) -> Iterable[Point]:
    """Every combination of every domain's values, the last key's changing fastest."""
    listed = [listed_values(key, domain) for key, domain in domains.items()]
    return (dict(zip(domains, values, strict=True)) for values in itertools.product(*listed))


def listed_values(key: str, domain: DomainSpec) -> list[Any]:
    """The values of a domain that is to be walked through; raises ScenarioError for every number between two."""
    values = domain.values()
    if values is None:
        raise ScenarioError(
            f"sweep.{key}: has no step or count, so its values cannot be listed; give one, "
            "or sample it: python -m infertuner.sweep --design lhs --points N"
        )
    return values


def is_domain(value: Any) -> bool:
    """Whether a setting is a set of values and no value: `{choices: [...]}` and its siblings."""
    words = {"choices", "range", "log_range", "whole"}
    return isinstance(value, Mapping) and bool(value) and set(value) <= words


def _plain(number: float, digits: int = 12) -> int | float:
    """A number as people would have written it: whole where it is, without the dust of floating point."""
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
