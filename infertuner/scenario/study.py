"""From a YAML file to the arms to run: read, override, expand, check."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from infertuner.errors import ScenarioError
from infertuner.scenario import yaml12
from infertuner.scenario.complaints import complain
from infertuner.scenario.domains import Design, Domain, full_grid
from infertuner.scenario.model import Scenario
from infertuner.scenario.overrides import with_overrides, with_settings
from infertuner.streams import Streams

T = TypeVar("T")

SHARED = {"name", "description", "experiment", "face", "replications", "arms", "sweep"}
"""Keys that say something about all arms together."""


@dataclass(frozen=True)
class Arm:
    """One variant of a scenario, ready to run."""

    variant: dict[str, Any]
    """What its entry in `arms` sets, by dotted key."""
    swept: dict[str, Any]
    """Its point in the `sweep` grid, by dotted key."""
    scenario: Scenario

    @property
    def parameters(self) -> dict[str, Any]:
        """Every dotted key in which it differs from the file, with its value as written."""
        return {**self.variant, **self.swept}


@dataclass(frozen=True)
class Study:
    """A scenario file with its arms expanded; every arm has been checked."""

    arms: list[Arm]
    raw: dict[str, Any]
    """The file as plain data, overrides applied."""
    folder: Path
    """Where relative paths in the file start."""

    @property
    def scenario(self) -> Scenario:
        """The first arm's scenario, for what all arms share: name, experiment, seed, replications."""
        return self.arms[0].scenario


def load_study(path: str | Path, settings: Mapping[str, Any] | None = None, design: Design = full_grid) -> Study:
    """Read a scenario file, apply settings such as {"cluster.gpus": 4}, and expand its arms.

    design: which points of the space that `sweep` spans become arms.
    Raises ScenarioError with one line naming file, line, key, value and next step.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ScenarioError(f"{path}: cannot be read ({reason}); give the path of a scenario YAML file") from None
    raw = yaml12.read(text, str(path))
    if not isinstance(raw, dict):
        raise ScenarioError(f"{path}: must be a mapping of scenario keys such as name, workload, cluster, latency")
    settings = settings or {}
    return _expand(with_settings(raw, settings), _Source(str(path), text, path.parent, tuple(settings)), design)


def study_from(raw: dict[str, Any], folder: str | Path = ".") -> Study:
    """A study from plain data, for notebooks and tests; relative paths start at `folder`."""
    return _expand(with_overrides(raw, {}), _Source("scenario", "", Path(folder)))


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a scenario file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_scenario_type().json_schema()}


@dataclass(frozen=True)
class _Source:
    """Where a scenario was written, for messages about it."""

    name: str
    text: str
    folder: Path
    settings: tuple[str, ...] = ()
    """Dotted keys that were set outside the file."""
    varied: tuple[str, ...] = ()
    """Dotted keys whose values come from `arms` or `sweep`."""

    def check(self, kind: TypeAdapter[T], raw: Any, under: tuple[str, ...] = ()) -> T:
        """`raw`, which stands under this path of the file, as a typed object; or the complaint about it."""
        try:
            return kind.validate_python(raw, context={"folder": self.folder})
        except ValidationError as error:
            path, complaint = complain(error, raw, kind.json_schema())
            key = "".join(f"{step}{'.' if path else ': '}" for step in under)
            raise ScenarioError(f"{self._place([*under, *path])}: {key}{complaint}") from None

    def variants(self, arms: Any) -> list[dict[str, Any]]:
        """The entries of `arms`; one that changes nothing where there are none."""
        if arms is None:
            return [{}]
        if not isinstance(arms, list) or not arms or not all(isinstance(variant, dict) for variant in arms):
            raise ScenarioError(
                f"{self._place(['arms'])}: arms: must be a list of mappings such as {{cluster.gpus: 2}}"
            )
        return arms

    def refuse_shared(self, keys: Iterable[str], place: str) -> None:
        """Complain of keys that belong to the study as a whole and cannot differ between its arms."""
        for key in keys:
            if key in SHARED:
                raise ScenarioError(
                    f"{self._place([place])}: {place}.{key}: belongs to all arms; set it outside {place}"
                )

    def refuse_overlaps(self, keys: Sequence[str]) -> None:
        """Complain of keys of one arm of which one would undo the other."""
        for inner, whole in itertools.permutations(keys, 2):
            if f"{inner}.".startswith(f"{whole}."):
                raise ScenarioError(f"{self.name}: {inner}: is varied twice, by itself or as part of {whole}; keep one")

    def _place(self, path: Sequence[str | int]) -> str:
        written = ".".join(map(str, path))
        for key in self.settings:
            if f"{written}.".startswith(f"{key.removesuffix('.kind')}."):
                return f"--set {key}"
        for key in self.varied:
            if f"{written}.".startswith(f"{key}."):
                return f"{self.name}: in arms or sweep"
        line = yaml12.line_of(self.text, path)
        return f"{self.name}:{line}" if line else self.name


def _expand(raw: dict[str, Any], source: _Source, design: Design = full_grid) -> Study:
    base = {key: value for key, value in raw.items() if key not in ("arms", "sweep")}
    variants = source.variants(raw.get("arms"))
    sweep = source.check(_sweep_type(), {} if raw.get("sweep") is None else raw["sweep"], under=("sweep",))
    source.refuse_shared(itertools.chain(*variants), "arms")
    source.refuse_shared(sweep, "sweep")
    arms = []
    for variant in variants:
        source.refuse_overlaps([*variant, *sweep])
        for swept in design(sweep):
            varied = replace(source, varied=(*variant, *swept))
            checked = varied.check(_scenario_type(), with_overrides(base, {**variant, **swept}))
            checked.latency.model(Streams(checked.seed))  # a broken profile is found before anything runs
            arms.append(Arm(variant, swept, checked))
    return Study(arms, raw, source.folder)


@cache
def _scenario_type() -> TypeAdapter[Scenario]:
    return TypeAdapter(Scenario)


@cache
def _sweep_type() -> TypeAdapter[dict[str, Domain]]:
    return TypeAdapter(dict[str, Domain])
