"""Running a study: every arm in every replication, with common random numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from infertuner.experiments.analyses import analysis_of
from infertuner.experiments.ceiling import attainable
from infertuner.experiments.replays import replay
from infertuner.experiments.result import Cell, StudyResult
from infertuner.outcomes.goodput import goodput
from infertuner.outcomes.metrics import gpu_distribution, summarise
from infertuner.outcomes.window import Metrics
from infertuner.records import Records
from infertuner.scenario.study import Arm, Study
from infertuner.serving.simulation import Progress, Simulation
from infertuner.sources.kinds import WorkloadKind
from infertuner.sources.requests import Requests
from infertuner.streams import Streams


def run_arm(arm: Arm, replication: int = 0, progress: Progress | None = None) -> Records:
    """Simulate one arm once."""
    scenario = arm.scenario
    streams = Streams(scenario.seed, replication)
    asked = _sampled(scenario.workload, streams)
    latency = scenario.latency.model(streams)
    if scenario.driver == "replay":
        return replay(scenario, asked, latency)
    simulation = Simulation(asked, scenario.cluster, latency, scenario.cache, progress, streams=streams)
    return simulation.run(scenario.horizon_s)


_LATEST: list[tuple[WorkloadKind, Streams, Requests]] = []
"""The requests drawn last. Arms take turns in a replication, so most of them find what the arm before them drew."""


def _sampled(workload: WorkloadKind, streams: Streams) -> Requests:
    """The requests of a replication, drawn once for all arms in a row that ask for the same."""
    if not _LATEST or _LATEST[0][:2] != (workload, streams):
        _LATEST[:] = [(workload, streams, workload.sample(streams))]
    return _LATEST[0][2]


def measure(arm: Arm, records: Records) -> Metrics:
    """Every metric of one run of an arm: the general ones, the ceiling of its cache, and those of its analysis.

    A replay answers nobody, so the general ones say no more of it than how many requests there were.
    """
    if arm.scenario.driver == "replay":
        metrics: Metrics = {"requests": len(records.asked)}
    else:
        metrics = summarise(records, arm.scenario.warmup_s)
        if arm.scenario.slo is not None and arm.scenario.slo.goodput is not None:
            metrics |= goodput(records, arm.scenario.slo.goodput, arm.scenario.warmup_s)
    metrics |= attainable(records, arm.scenario)
    own = analysis_of(arm.scenario).measure
    return metrics if own is None else metrics | own(records, arm.scenario)


def run_cells(study: Study, progress: Progress | None = None) -> Iterator[Cell]:
    """Every arm in every replication. Arms take turns, so a study that is cut off still holds whole comparisons."""
    replications, arms = study.scenario.replications, len(study.arms)
    for replication in range(replications):
        for arm_index, arm in enumerate(study.arms):
            done = replication * arms + arm_index
            report = _within(progress, done, replications * arms) if progress else None
            records = run_arm(arm, replication, report)
            yield Cell(arm_index, replication, records, measure(arm, records))


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
            course = analysis_of(study.scenario).course
            result.courses.append(course(cell.records) if course is not None else None)
        if keep is not None:
            keep(cell)
    result.wall_s = time.perf_counter() - started
    return result


def _within(progress: Progress, done: int, cells: int) -> Progress:
    """Progress of one cell as progress of the whole."""
    return lambda share: progress((done + share) / cells)
