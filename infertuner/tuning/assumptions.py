"""What a scenario takes for granted, each a little off: more traffic, longer texts, a slower law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infertuner.latency.fitted import Profile
from infertuner.latency.profile import load_calibration
from infertuner.scenario.model import Scenario

OFF = 0.10
"""How far traffic and lengths are moved."""
ARRIVALS = {
    "poisson": ("per_s",), "gamma": ("per_s",), "diurnal": ("per_s",), "on_off": ("on_per_s", "off_per_s"),
    "fixed": ("interval_s",),
}  # fmt: skip
"""The keys that set the rate of an arrival process, by its kind; an interval is a rate upside down."""
LENGTHS = {
    "constant": ("tokens",), "uniform": ("min_tokens", "max_tokens"), "lognormal": ("mean_tokens",),
    "choice": ("tokens",),
}  # fmt: skip
"""The keys that scale a law of lengths, by its kind."""


@dataclass(frozen=True)
class Assumption:
    """One thing taken for granted, moved both ways."""

    name: str
    by_ratio: float
    less: dict[str, Any]
    """What to set for it to be smaller, by dotted key."""
    more: dict[str, Any]


def assumptions(raw: dict[str, Any], scenario: Scenario) -> list[Assumption]:
    """Everything about a scenario that can be moved: what it cannot move is left out."""
    found = []
    for name, by_ratio, change in (
        ("arrival rate", OFF, _arrivals),
        ("prompt lengths", OFF, _prompts),
        ("output lengths", OFF, _outputs),
        ("latency law", _law_error(scenario), _law),
    ):
        if by_ratio:
            less, more = (change(raw, scenario, factor) for factor in (1 - by_ratio, 1 + by_ratio))
            if less and more:
                found.append(Assumption(name, by_ratio, less, more))
    return found


def _arrivals(raw: dict[str, Any], scenario: Scenario, factor: float) -> dict[str, Any]:
    workload: Any = scenario.workload
    arrivals = raw["workload"].get("arrivals")
    if arrivals is None:
        return {"workload.speedup": workload.speedup * factor} if workload.kind == "trace" else {}
    law, kind = workload.arrivals, workload.arrivals.kind
    if kind == "phases":
        phases = [
            {**written, "per_s": phase.per_s * factor}
            for written, phase in zip(arrivals["phases"], law.phases, strict=True)
        ]
        return {"workload.arrivals.phases": phases}
    if kind == "closed_loop":
        return {"workload.arrivals.users": max(1, round(law.users * factor))}
    return {
        f"workload.arrivals.{key}": getattr(law, key) / factor if kind == "fixed" else getattr(law, key) * factor
        for key in ARRIVALS[kind]
    }


def _prompts(raw: dict[str, Any], scenario: Scenario, factor: float) -> dict[str, Any]:
    return _lengths(raw, scenario, "prompt", factor)


def _outputs(raw: dict[str, Any], scenario: Scenario, factor: float) -> dict[str, Any]:
    return _lengths(raw, scenario, "output", factor)


def _lengths(raw: dict[str, Any], scenario: Scenario, which: str, factor: float) -> dict[str, Any]:
    workload: Any = scenario.workload
    if workload.kind == "trace":
        return {f"workload.{which}_scale": getattr(workload, f"{which}_scale") * factor}
    law = getattr(workload, f"{which}_tokens", None)
    if law is None:
        return {}
    values = {key: getattr(law, key) for key in LENGTHS[law.kind]}
    return {f"workload.{which}_tokens.{key}": _scaled(key, value, factor) for key, value in values.items()}


def _scaled(key: str, value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_scaled(key, one, factor) for one in value]
    return value * factor if key == "mean_tokens" else max(1, round(value * factor))


def _law(raw: dict[str, Any], scenario: Scenario, factor: float) -> dict[str, Any]:
    law = scenario.latency
    if isinstance(law, Profile):
        return {"latency.factor": law.factor * factor}
    keys = ("base_s", "per_prompt_token_s", "per_output_token_s", "per_sequence_s")
    return {f"latency.{key}": getattr(law, key) * factor for key in keys if raw["latency"].get(key)}


def _law_error(scenario: Scenario) -> float:
    """How far a law may be off: the worst of a profile's mean held-out errors, and `OFF` of one written by hand."""
    law = scenario.latency
    if law.kind == "per_token":
        return OFF
    if not isinstance(law, Profile):
        return 0.0
    found = load_calibration(law.path)
    return max(part.holdout.mean_ratio for part in (found.prefill, found.decode, found.mixed) if part is not None)
