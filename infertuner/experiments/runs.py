"""Running a study: every arm in every replication, with common random numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from infertuner.experiments.analyses import analysis_of
from infertuner.experiments.result import Cell, StudyResult
from infertuner.outcomes.metrics import gpu_distribution, summarise
from infertuner.records import Records
from infertuner.scenario.study import Arm, Study
from infertuner.serving.simulation import Progress, Simulation
from infertuner.streams import Streams


def run_arm(arm: Arm, replication: int = 0, progress: Progress | None = None) -> Records:
    """Simulate one arm once."""
    scenario = arm.scenario
    streams = Streams(scenario.seed, replication)
    asked = scenario.workload.sample(streams)
    latency = scenario.latency.model(streams)
    simulation = Simulation(asked, scenario.cluster, latency, scenario.cache, progress, streams=streams)
    return simulation.run(scenario.horizon_s)


def run_cells(study: Study, progress: Progress | None = None) -> Iterator[Cell]:
    """Every arm in every replication. Arms take turns, so a study that is cut off still holds whole comparisons."""
    replications, arms = study.scenario.replications, len(study.arms)
    for replication in range(replications):
        for arm_index, arm in enumerate(study.arms):
            done = replication * arms + arm_index
            report = _within(progress, done, replications * arms) if progress else None
            records = run_arm(arm, replication, report)
            metrics = summarise(records, arm.scenario.warmup_s)
            measure = analysis_of(arm.scenario).measure
            if measure is not None:
                metrics |= measure(records, arm.scenario)
            yield Cell(arm_index, replication, records, metrics)


def run_study(
    study: Study, progress: Progress | None = None, keep: Callable[[Cell], None] | None = None
) -> StudyResult:
    """Simulate a whole study. `keep` sees every cell once, before its records are let go."""
    started = time.perf_counter()
    result = StudyResult(study, [[] for _ in study.arms])
    for cell in run_cells(study, progress):
        result.metrics[cell.arm_index].append(cell.metrics)
        result.requests += len(cell.records.asked)
        result.events += cell.records.events
        result.outside_calls += cell.records.outside_calls
        if cell.replication == 0:
            result.distributions.append(gpu_distribution(cell.records))
        if keep is not None:
            keep(cell)
    result.wall_s = time.perf_counter() - started
    return result


def _within(progress: Progress, done: int, cells: int) -> Progress:
    """Progress of one cell as progress of the whole."""
    return lambda share: progress((done + share) / cells)
