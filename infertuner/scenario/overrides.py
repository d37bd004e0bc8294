"""Dotted keys: setting `cluster.gpus` inside a scenario that is still plain data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from infertuner.errors import ScenarioError
from infertuner.scenario import yaml12


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


def parse_setting(text: str) -> tuple[str, Any]:
    """A `--set a.b=c` argument as key and value; the value is YAML.

    >>> parse_setting("cluster.gpus=4")
    ('cluster.gpus', 4)
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ScenarioError(f"--set {text}: must be KEY=VALUE, such as --set cluster.gpus=4")
    return key.strip(), yaml12.read(value, f"--set {text}")
