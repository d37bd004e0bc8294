"""The first replication of every arm, written as other tools write what they measured."""

from __future__ import annotations

from collections.abc import Sequence

from infertuner.errors import ResultsError
from infertuner.experiments.result import Cell
from infertuner.outcomes.exports import write_exports
from infertuner.outcomes.exports.client import About, client_of
from infertuner.outcomes.folder import RunFolder
from infertuner.scenario.study import Study


def export_run(folder: RunFolder, study: Study, cell: Cell, tools: Sequence[str]) -> None:
    """Write a first replication into exports/, or into exports/arm-<i>/ where there are several arms.

    Raises ResultsError where nobody was served.
    """
    if cell.replication or not tools:
        return
    if not cell.records.requests.n:
        raise ResultsError("--export: driver 'replay' serves nobody, so there is nothing to time; use driver: serving")
    arm = study.arms[cell.arm_index]
    about = About(
        scenario=arm.scenario.name,
        description=arm.scenario.description,
        latency=arm.scenario.latency.source(),
        parameters={key: str(value) for key, value in arm.parameters.items()},
        seed=arm.scenario.seed,
        warmup_s=arm.scenario.warmup_s,
        metrics=cell.metrics,
    )
    under = f"exports/arm-{cell.arm_index}" if len(study.arms) > 1 else "exports"
    write_exports(folder, under, tools, client_of(cell.records, about.warmup_s), about)
