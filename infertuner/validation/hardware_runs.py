"""A hardware validation from its plan to what it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from infertuner.latency.hardware_steps import inference
from infertuner.scenario.study import Study
from infertuner.validation.bench import build_steps, differences, machine_of
from infertuner.validation.hardware import Plan, cells, make_plan, measure
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
        steps = build_steps(plan)
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
            "drift_ratio": {"mean": _mean(found), "low": min(_looks(lines)), "high": max(_looks(lines))},
        },
        notes=[*_notes(plan, found, lines), *differences(plan.calibration, machine, software)],
        tables={"drift": _drift_table(plan, lines)},
    )


def _notes(plan: Plan, found: Sequence[Cell], lines: Sequence[Line]) -> Iterator[str]:
    low, high, mean = min(_looks(lines)), max(_looks(lines)), _mean(found)
    yield (
        f"speed: the sentinel step took {mean:.3f} times what the profile says of it ({low:.3f} to {high:.3f}); "
        "`drift_corrected` is the simulation with every second times the mean of its own run"
    )
    if abs(mean - 1) > DISTURBED or high / low > 1 + 2 * DISTURBED:
        yield "the machine was not quiet, or not as fast as when the profile was measured; repeat when it is idle"
    if not plan.twice:
        yield "no noise floor; add --twice to measure how far two measurements of the same run differ"


def _mean(found: Sequence[Cell]) -> float:
    ratios = [cell.drift_ratio for cell in found if cell.drift_ratio is not None]
    return sum(ratios) / len(ratios)


def _looks(lines: Sequence[Line]) -> list[float]:
    return [ratio for line in lines for ratio in line["drift_ratios"]]


def _drift_table(plan: Plan, lines: Sequence[Line]) -> list[Line]:
    """One row a look at the sentinel, in the order of runs."""
    return [
        {**{name: line[name] for name in ("arm", "replication", "repeat", "at_s")}, "look": look, "drift_ratio": ratio}
        for line in lines
        for look, ratio in enumerate(line["drift_ratios"])
    ]
