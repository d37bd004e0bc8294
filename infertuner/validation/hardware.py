"""Hardware in the loop: a scenario whose seconds are measured while it is simulated.

Every arm is run twice with the same requests: once with the latency model the scenario names, once with the device in
its place. Between steps a sentinel, one decode step that never changes, is timed again and again; how it compares with
what the profile says of it is the speed the machine had, apart from what the scenario asked of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infertuner.errors import ValidationError
from infertuner.latency.device import DeviceLatency, SteppedLatency, Steps, step_point
from infertuner.latency.fitted import Profile
from infertuner.latency.model import LatencyModel
from infertuner.latency.profile import Calibration, load_calibration
from infertuner.records import Records
from infertuner.scenario.study import Arm, Study
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import Requests
from infertuner.streams import Streams
from infertuner.validation.progress import Tell
from infertuner.validation.runs import Cell, Run, run_of
from infertuner.validation.unfinished import Line, UnfinishedFile, run_from_line, run_to_line

SENTINEL_CALLS = 9
SENTINEL_EVERY_S = 1.0
"""Seconds of measured steps between two looks at the sentinel."""


@dataclass(frozen=True)
class Plan:
    """What will be measured: every arm in every replication, once or twice."""

    study: Study
    calibration: Calibration
    replications: int
    twice: bool
    """Whether every run is measured once more, for the noise floor."""

    @property
    def keys(self) -> list[tuple[int, int, int]]:
        """Arm, replication and repeat of each run, in the order in which they are measured."""
        arms = range(len(self.study.arms))
        every = range(self.replications)
        return [(arm, number, repeat) for number in every for repeat in range(1 + self.twice) for arm in arms]

    def kv_tokens(self) -> int:
        """KV entries the largest batch can need."""
        most = 0
        for arm in self.study.arms:
            largest = getattr(arm.scenario.cluster.batcher, "max_batch_size", 1)
            for number in range(self.replications):
                asked = _asked(arm, number)
                longest = int(asked.prompt_tokens.max() + asked.output_tokens.max())
                most = max(most, largest * longest)
        return most

    def header(self, hardware: object, software: object) -> Line:
        """What must be the same for an interrupted validation to go on."""
        return {
            "scenario": self.study.raw | {"replications": None},
            "model": self.calibration.model.model_dump(mode="json"),
            "hardware": hardware,
            "software": software,
            "twice": self.twice,
        }


def make_plan(study: Study, replications: int, *, twice: bool) -> Plan:
    """The plan, or one line that says why this scenario cannot be run on the device."""
    paths = set()
    for arm in study.arms:
        latency, batcher = arm.scenario.latency, arm.scenario.cluster.batcher
        if not isinstance(latency, Profile):
            raise ValidationError(
                f"latency: kind {latency.kind!r} names no model to run; give a profile with --profile FILE"
            )
        if batcher.kind == "continuous":
            raise ValidationError(
                "cluster.batcher: hardware in the loop runs static batches (none, fixed, timeout); "
                "use python -m infertuner.validate engine for kind continuous"
            )
        paths.add(latency.path)
    if len(paths) > 1:
        raise ValidationError("latency.path: differs between arms; validate one profile at a time, with --profile FILE")
    return Plan(study, load_calibration(paths.pop()), replications, twice)


def measure(plan: Plan, steps: Steps, file: UnfinishedFile, lines: list[Line], tell: Tell) -> None:
    """Run what `lines` does not hold yet, and add it to `lines` and to `file`."""
    expected = {
        (index, number): _seconds_of_steps(simulated(arm, number)[1])
        for index, arm in enumerate(plan.study.arms)
        for number in range(plan.replications)
    }
    done = {(line["arm"], line["replication"], line["repeat"]) for line in lines}
    clock = _Clock(
        total_s=sum(expected[arm, number] for arm, number, _ in plan.keys),
        done_s=sum(expected[arm, number] for arm, number, _ in done),
        tell=tell,
    )
    for index, number, repeat in plan.keys:
        if (index, number, repeat) in done:
            continue
        arm = plan.study.arms[index]
        sentinel = Sentinel(steps, _model(arm, number))
        device = DeviceLatency(steps, _both(clock.passed, sentinel.passed))
        records = _simulation(arm, number, device)
        sentinel.look()
        line = {
            "arm": index,
            "replication": number,
            "repeat": repeat,
            "at_s": round(time.time(), 3),
            "drift_ratios": sentinel.ratios,
            **run_to_line(run_of(records, device.gaps_s)),
        }
        file.append(line)
        lines.append(line)


def cells(plan: Plan, lines: Sequence[Line]) -> list[Cell]:
    """Each measured run beside the simulation from the profile, and the simulation at the speed the machine had."""
    by_key = {(line["arm"], line["replication"], line["repeat"]): line for line in lines}
    found = []
    for index, number, repeat in plan.keys:
        if repeat:
            continue
        arm, line, again = plan.study.arms[index], by_key[index, number, 0], by_key.get((index, number, 1))
        drift_ratio = statistics.fmean(line["drift_ratios"])
        found.append(
            Cell(
                arm=", ".join(f"{key}={value}" for key, value in arm.parameters.items()),
                replication=number,
                measured=run_from_line(line),
                simulated=simulated(arm, number)[0],
                corrected=simulated(arm, number, drift_ratio)[0],
                again=run_from_line(again) if again else None,
                drift_ratio=drift_ratio,
            )
        )
    return found


def simulated(arm: Arm, replication: int, drift_ratio: float = 1.0) -> tuple[Run, Records]:
    """The arm on its profile, all seconds times `drift_ratio`."""
    latency = SteppedLatency(_model(arm, replication), drift_ratio)
    records = _simulation(arm, replication, latency)
    return run_of(records, latency.gaps_s), records


class Sentinel:
    """One decode step that is timed again and again: how fast the machine is just now, relative to its profile."""

    def __init__(self, steps: Steps, model: LatencyModel, context_tokens: int = 128) -> None:
        self._steps, self._point = steps, step_point(1, 1, context_tokens - 1)
        self._profile_s = model.decode_s(batch_size=1, context_tokens=context_tokens, steps=1)
        self._since_s = 0.0
        self.ratios: list[float] = []
        """Median of a few calls over the profile's seconds, at every look."""
        steps.once_s(self._point)
        self.look()

    def passed(self, seconds: float) -> None:
        """Learn that a step was measured; have a look when it is time."""
        self._since_s += seconds
        if self._since_s >= SENTINEL_EVERY_S:
            self.look()

    def look(self) -> None:
        """Time the step."""
        self._since_s = 0.0
        calls = [self._steps.once_s(self._point) for _ in range(SENTINEL_CALLS)]
        self.ratios.append(statistics.median(calls) / self._profile_s)


class _Clock:
    """From measured seconds to the share that is done and the time that is left."""

    def __init__(self, total_s: float, done_s: float, tell: Tell) -> None:
        self._total_s, self._done_s, self._begun_s, self._tell = total_s, done_s, done_s, tell
        self._began_at_s = time.monotonic()

    def passed(self, seconds: float) -> None:
        self._done_s += seconds
        pace = (time.monotonic() - self._began_at_s) / (self._done_s - self._begun_s)
        left_s = max(self._total_s - self._done_s, 0.0) * pace
        self._tell("measuring", min(self._done_s / self._total_s, 1.0), left_s)


def _both(first: Callable[[float], None], second: Callable[[float], None]) -> Callable[[float], None]:
    def told(seconds: float) -> None:
        first(seconds)
        second(seconds)

    return told


def _asked(arm: Arm, replication: int) -> Requests:
    return arm.scenario.workload.sample(Streams(arm.scenario.seed, replication))


def _model(arm: Arm, replication: int) -> LatencyModel:
    return arm.scenario.latency.model(Streams(arm.scenario.seed, replication))


def _simulation(arm: Arm, replication: int, latency: LatencyModel) -> Records:
    scenario = arm.scenario
    return Simulation(_asked(arm, replication), scenario.cluster, latency, scenario.cache).run(scenario.horizon_s)


def _seconds_of_steps(records: Records) -> float:
    return sum(records.steps.prefill_s) + sum(records.steps.decode_s)
