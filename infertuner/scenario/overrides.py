"""Dotted keys: setting `cluster.gpus` inside a scenario that is still plain data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from infertuner.errors import ScenarioError
from infertuner.scenario import yaml12
from infertuner.scenario.domains import is_domain


def with_overrides(raw: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `raw` in which each dotted key has its new value; missing mappings on the way are made."""
    changed = copy.deepcopy(raw)
    for key, value in overrides.items():
        *parents, last = key.split(".")
        target = changed
        for depth, parent in enumerate(parents):
            if target.get(parent) is None:
                target[parent] = {}
            target = target[parent]
            if not isinstance(target, dict):
                raise ScenarioError(
                    f"{key}: {'.'.join(parents[: depth + 1])} is {target!r}, which has no keys of its own; "
                    "override it as a whole"
                )
        target[last] = copy.deepcopy(value)
    return changed


def with_settings(raw: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `raw` in which settings win: a key that is set is no longer varied by `arms` or `sweep`.

    A key that is set to a domain, such as `{choices: [1, 2]}`, is varied by that.
    Raises ScenarioError when a setting would be lost inside a part that arms replace as a whole.
    """
    domains = {key: value for key, value in settings.items() if is_domain(value)}
    changed = with_overrides(raw, {key: value for key, value in settings.items() if key not in domains})
    for place in ("sweep", "arms"):
        varied = changed.get(place)
        for variant in varied if isinstance(varied, list) else [varied]:
            if isinstance(variant, dict) and place not in settings:
                _settle(variant, settings, place)
    if isinstance(changed.get("arms"), list):
        changed["arms"] = [arm for place, arm in enumerate(changed["arms"]) if arm not in changed["arms"][:place]]
    if domains:
        changed["sweep"] = {**(changed.get("sweep") or {}), **domains}
    return changed


def _settle(variant: dict[str, Any], settings: Mapping[str, Any], place: str) -> None:
    """Take the keys that are set out of what arms vary."""
    for key in settings:
        for part_of_it in [inner for inner in variant if inner == key or inner.startswith(f"{key}.")]:
            del variant[part_of_it]
        lost_in = [whole for whole in variant if key.startswith(f"{whole}.")]
        if lost_in:
            raise ScenarioError(
                f"--set {key}: has no effect, since the scenario's {place} replaces {lost_in[0]} as a whole; "
                f"set {lost_in[0]} or {place} itself"
            )


def parse_setting(text: str) -> tuple[str, Any]:
    """A `--set a.b=c` argument as key and value; the value is YAML.

    >>> parse_setting("cluster.gpus=4")
    ('cluster.gpus', 4)
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ScenarioError(f"--set {text}: must be KEY=VALUE, such as --set cluster.gpus=4")
    return key.strip(), yaml12.read(value, f"--set {text}")
