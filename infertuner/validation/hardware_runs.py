"""A hardware validation from its plan to what it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from infertuner.latency.hardware.steps import inference
from infertuner.scenario.study import Study
from infertuner.validation.bench import build_steps, differences, machine_of
from infertuner.validation.hardware import SENTINELS, Plan, cells, make_plan, measure
from infertuner.validation.progress import Tell
from infertuner.validation.report import Validation
from infertuner.validation.runs import Cell
from infertuner.validation.unfinished import Line, UnfinishedFile

DISTURBED = 0.05
"""Drift from which raw errors say more about the machine than about the simulation."""


def validate(
    study: Study,
    bounds: Mapping[str, float],
    unfinished: UnfinishedFile,
    tell: Tell,
    *,
    replications: int,
    twice: bool,
    resume: bool,
) -> Validation:
    """Run every arm on the device, or go on with it, and hold the simulation against that."""
    plan = make_plan(study, replications, twice=twice)
    machine, software = machine_of(plan.calibration)
    lines = unfinished.begin(
        plan.header(machine.model_dump(mode="json"), software.model_dump(mode="json")), resume=resume
    )
    if len(lines) < len(plan.keys):
        steps = build_steps(plan.calibration, plan.kv_tokens())
        with inference():
            measure(plan, steps, unfinished, lines, tell)
    found = cells(plan, lines)
    return Validation(
        title=f"{study.scenario.name} on {plan.calibration.model.name}, {machine.name}: simulation against hardware",
        mode="hardware",
        cells=found,
        bounds=bounds,
        about={
            "scenario": study.scenario.name,
            "profile": study.scenario.latency.source(),
            "hardware": machine.model_dump(mode="json"),
            "software": software.model_dump(mode="json"),
            "seed": study.scenario.seed,
            "replications": replications,
            "measured_twice": twice,
            "drift": {
                kind: {"mean": fmean(ratios), "low": min(ratios), "high": max(ratios)}
                for kind, ratios in _looks(lines).items()
            },
        },
        notes=[*_notes(plan, found, lines), *differences(plan.calibration, machine, software)],
        tables={"drift": _drift_table(lines)},
    )


def _notes(plan: Plan, found: Sequence[Cell], lines: Sequence[Line]) -> Iterator[str]:
    looks = _looks(lines)
    said = [
        f"{kind} {fmean(cell.drift[f'{kind}_drift'] for cell in found):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        for kind, ratios in looks.items()
    ]
    yield (
        f"drift: the sentinel steps took this many times what the profile says of them: {', '.join(said)}; "
        "`drift_corrected` is the simulation with the seconds of either kind times the mean of its own run"
    )
    every = [ratio for ratios in looks.values() for ratio in ratios]
    if max(every) > 1 + 2 * DISTURBED or min(every) < 1 - 2 * DISTURBED:
        yield "the machine was not quiet, or not as fast as when the profile was measured; repeat when it is idle"
    if not plan.twice:
        yield "no noise floor; add --twice to measure how far two measurements of the same run differ"


def _looks(lines: Sequence[Line]) -> dict[str, list[float]]:
    """Every look at each kind of sentinel."""
    return {kind: [ratio for line in lines for ratio in line["drift_ratios"][kind]] for kind in SENTINELS}


def _drift_table(lines: Sequence[Line]) -> list[Line]:
    """One row a look at the sentinels, in the order of runs."""
    return [
        {
            **{name: line[name] for name in ("arm", "replication", "repeat", "at_s")},
            "look": look,
            **{f"{kind}_drift": ratios[look] for kind, ratios in line["drift_ratios"].items()},
        }
        for line in lines
        for look in range(len(line["drift_ratios"]["decode"]))
    ]
