"""What `tune` may choose: every arm times every value of every swept key, in lines along which more helps and costs.

A line is all configurations that differ in one key alone, a key of which more is only ever better and dearer. Along it
the cheapest that meets the objectives is the first that does, so it is found by bisection. Lines differ in the rest.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from infertuner.errors import ScenarioError
from infertuner.scenario.domains import Domain, DomainSpec
from infertuner.scenario.overrides import with_overrides
from infertuner.scenario.study import Arm, Study, study_from
from infertuner.tuning.cost import cost_per_hour

MONOTONE = {
    "cluster.gpus": "each request finds at most as many others on its GPU",
    "cache.tiers.*.capacity_bytes": "a larger tier finds what a smaller one finds, if it evicts by recency",
    "cache.tiers.*.capacity_entries": "a larger tier finds what a smaller one finds, if it evicts by recency",
}
"""Keys of which more only helps and costs more, and why. What the search finds is checked at its neighbours."""
ENUMERATED_MOST = 100
"""Lines that are walked through one by one; of more, the likely ones are looked for."""

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One configuration."""

    line: int
    """The number of its line."""
    index: int
    """Its place on the line; the further, the dearer."""
    parameters: Parameters = field(compare=False)
    """Every dotted key in which it differs from the file."""
    arm: Arm = field(compare=False)
    cost_per_hour: float = field(compare=False)


class Space:
    """Every configuration a scenario spans."""

    def __init__(self, study: Study) -> None:
        raw = study.raw
        self.folder: Path = study.folder
        self.base = {key: value for key, value in raw.items() if key not in ("arms", "sweep")}
        self.variants: list[Parameters] = raw.get("arms") or [{}]
        domains: dict[str, DomainSpec] = TypeAdapter(dict[str, Domain]).validate_python(raw.get("sweep") or {})
        self.along, self.values = _longest_monotone(domains)
        self.others = {key: domain for key, domain in domains.items() if key != self.along}
        self._lines: list[list[Point]] = []
        self._numbers: dict[str, int] = {}

    @property
    def enumerable(self) -> bool:
        """Whether all lines can be walked through."""
        return self.lines_in_all is not None and self.lines_in_all <= ENUMERATED_MOST

    @property
    def lines_in_all(self) -> int | None:
        """How many lines there are; None where a key may be any number between two."""
        count = len(self.variants)
        for domain in self.others.values():
            listed = domain.values()
            if listed is None:
                return None
            count *= len(listed)
        return count

    @property
    def size(self) -> int | None:
        """How many configurations there are; None where a key may be any number between two."""
        return None if self.lines_in_all is None else self.lines_in_all * max(len(self.values), 1)

    def settings(self) -> Iterator[Parameters]:
        """What sets each line apart, in the order of the file."""
        listed = [domain.values() or [] for domain in self.others.values()]
        for variant in self.variants:
            for values in itertools.product(*listed):
                yield {**variant, **dict(zip(self.others, values, strict=True))}

    def line(self, setting: Parameters) -> list[Point]:
        """The configurations of one line, by rising cost."""
        key = json.dumps(setting, sort_keys=True, default=str)
        if key not in self._numbers:
            self._numbers[key] = len(self._lines)
            self._lines.append([])
            steps = [{self.along: value} for value in self.values] if self.along else [{}]
            points = [self._point(len(self._lines) - 1, index, setting | step) for index, step in enumerate(steps)]
            for cheaper, dearer in itertools.pairwise(points):
                if dearer.cost_per_hour < cheaper.cost_per_hour:
                    raise ScenarioError(f"sweep.{self.along}: more of it costs less; check the prices")
            self._lines[-1] = points
        return self._lines[self._numbers[key]]

    def arm(self, parameters: Parameters) -> Arm:
        """A configuration, checked."""
        raw = with_overrides(self.base, parameters)
        return Arm(parameters, {}, study_from(raw, self.folder).arms[0].scenario)

    def _point(self, line: int, index: int, parameters: Parameters) -> Point:
        arm = self.arm(parameters)
        return Point(line, index, parameters, arm, cost_per_hour(arm.scenario))


def label(parameters: Parameters) -> str:
    """A configuration in words: how many GPUs of which kind, then the last words of other keys; prices elsewhere."""
    gpus = [f"{value} GPU{'s'[: value != 1]}" for key, value in parameters.items() if key == "cluster.gpus"]
    files = [Path(value).stem for key, value in parameters.items() if key.endswith(".path")]
    others = [
        f"{last} {value['kind'] if isinstance(value, dict) and 'kind' in value else value}"
        for key, value in parameters.items()
        if (last := key.rsplit(".", 1)[-1]) != "path" and key != "cluster.gpus" and not last.startswith("price_per_")
    ]
    return ", ".join([*gpus, *files, *others]) or "the file as it is"


def _longest_monotone(domains: dict[str, DomainSpec]) -> tuple[str, list[Any]]:
    """The key that makes lines: of the monotone ones the one with most values; '' where there is none."""
    found: dict[str, list[Any]] = {}
    for key, domain in domains.items():
        if any(fnmatch(key, pattern) for pattern in MONOTONE):
            listed = domain.values()
            if listed is None:
                raise ScenarioError(f"sweep.{key}: has no step or count, so its values cannot be listed; give one")
            found[key] = sorted(listed)
    if not found:
        return "", []
    along = max(found, key=lambda key: len(found[key]))
    return along, found[along]
