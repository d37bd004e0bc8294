"""Hardware in the loop: a scenario whose seconds are measured while it is simulated.

Every arm is run twice with the same requests: once with the latency model the scenario names, once with the device in
its place. Between steps two sentinels, a decode step and a prefill that never change, are timed again and again; how
they compare with what the profile says of them is the speed the machine had, whatever the scenario asked of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infertuner.errors import ValidationError
from infertuner.experiments.result import StudyResult
from infertuner.latency.hardware.loop import DeviceLatency, SteppedLatency, Steps, step_point
from infertuner.latency.model import LatencyModel
from infertuner.latency.profile import Calibration
from infertuner.records import Records
from infertuner.scenario.study import Arm, Study
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import Requests
from infertuner.streams import Streams
from infertuner.validation.bench import measured_profile
from infertuner.validation.progress import Tell
from infertuner.validation.runs import Cell, Run, run_of
from infertuner.validation.unfinished import Line, UnfinishedFile, run_from_line, run_to_line

SENTINELS = {"decode": (step_point(1, 1, 127), 7), "prefill": (step_point(1, 64, 0), 3)}
"""Each a point and how often it is timed at a look: neighbours slow memory and arithmetic unequally."""
LOOK_EVERY_S = 1.5
"""Seconds of measured steps between two looks at the sentinels."""


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
        return max(most, *(point.kv_entries for point, _ in SENTINELS.values()))

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
    for arm in study.arms:
        if arm.scenario.cluster.batcher.kind in {"continuous", "prefill_first"}:
            raise ValidationError(
                "cluster.batcher: hardware in the loop runs static batches (none, fixed, timeout); "
                "use python -m infertuner.validate engine for kind continuous"
            )
    calibrations = [measured_profile(arm.scenario.latency) for arm in study.arms]
    if any(other != calibrations[0] for other in calibrations):
        raise ValidationError("latency.path: differs between arms; validate one profile at a time, with --profile FILE")
    return Plan(study, calibrations[0], replications, twice)


def measure(plan: Plan, steps: Steps, file: UnfinishedFile, lines: list[Line], tell: Tell) -> None:
    """Run what `lines` does not hold yet, and add it to `lines` and to `file`."""
    expected = {
        (index, number): _steps_of(arm, number)
        for index, arm in enumerate(plan.study.arms)
        for number in range(plan.replications)
    }
    done = {(line["arm"], line["replication"], line["repeat"]) for line in lines}
    clock = _Clock(
        total=sum(expected[arm, number] for arm, number, _ in plan.keys),
        done=sum(expected[arm, number] for arm, number, _ in done),
        tell=tell,
    )
    for index, number, repeat in plan.keys:
        if (index, number, repeat) in done:
            continue
        arm = plan.study.arms[index]
        sentinels = Sentinels(steps, _model(arm, number))
        device = DeviceLatency(steps, _both(clock.passed, sentinels.passed))
        records = _simulation(arm, number, device)
        sentinels.look()
        line = {
            "arm": index,
            "replication": number,
            "repeat": repeat,
            "at_s": round(time.time(), 3),
            "drift_ratios": sentinels.ratios,
            **run_to_line(run_of(records, device.gaps_s)),
        }
        file.append(line)
        lines.append(line)


def cells(plan: Plan, lines: Sequence[Line]) -> list[Cell]:
    """Each measured run beside the simulation from the profile, and the simulation at the speed the machine had."""
    labels = StudyResult(plan.study, [])
    by_key = {(line["arm"], line["replication"], line["repeat"]): line for line in lines}
    found = []
    for index, number, repeat in plan.keys:
        if repeat:
            continue
        arm, line, again = plan.study.arms[index], by_key[index, number, 0], by_key.get((index, number, 1))
        drift = {f"{kind}_drift": statistics.fmean(ratios) for kind, ratios in line["drift_ratios"].items()}
        found.append(
            Cell(
                arm=", ".join(f"{key} {value}" for key, value in labels.labels(index).items()),
                replication=number,
                measured=run_from_line(line),
                simulated=simulated(arm, number),
                corrected=simulated(arm, number, drift["prefill_drift"], drift["decode_drift"]),
                again=run_from_line(again) if again else None,
                drift=drift,
            )
        )
    return found


def simulated(arm: Arm, replication: int, prefill_ratio: float = 1.0, decode_ratio: float = 1.0) -> Run:
    """The arm on its profile, seconds of prefills and of decode steps times their ratios."""
    latency = SteppedLatency(_model(arm, replication), prefill_ratio, decode_ratio)
    return run_of(_simulation(arm, replication, latency), latency.gaps_s)


class Sentinels:
    """Steps that are timed again and again: how fast the machine is just now, relative to its profile."""

    def __init__(self, steps: Steps, model: LatencyModel) -> None:
        self._steps, self._since_s = steps, 0.0
        self._profile_s = {
            kind: model.prefill_s(
                batch_size=point.batch_size, new_tokens=point.new_tokens, cached_tokens=point.cached_tokens
            )
            for kind, (point, _) in SENTINELS.items()
        }
        self.ratios: dict[str, list[float]] = {kind: [] for kind in SENTINELS}
        """Median of a few calls over the profile's seconds, at every look."""
        for point, _ in SENTINELS.values():
            steps.once_s(point)
        self.look()

    def passed(self, seconds: float) -> None:
        """Learn that a step was measured; have a look when it is time."""
        self._since_s += seconds
        if self._since_s >= LOOK_EVERY_S:
            self.look()

    def look(self) -> None:
        """Time the steps."""
        self._since_s = 0.0
        for kind, (point, times) in SENTINELS.items():
            calls = [self._steps.once_s(point) for _ in range(times)]
            self.ratios[kind].append(statistics.median(calls) / self._profile_s[kind])


class _Clock:
    """From steps that were run to the share that is done and the time that is left."""

    def __init__(self, total: int, done: int, tell: Tell) -> None:
        self._total, self._done, self._before, self._tell = total, done, done, tell
        self._began_at_s = time.monotonic()

    def passed(self, _: float) -> None:
        self._done += 1
        pace_s = (time.monotonic() - self._began_at_s) / (self._done - self._before)
        left = max(self._total - self._done, 0)
        self._tell("measuring", min(self._done / self._total, 1.0), left * pace_s)


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


def _steps_of(arm: Arm, replication: int) -> int:
    """Steps the device will run, by the simulation."""
    latency = SteppedLatency(_model(arm, replication))
    _simulation(arm, replication, latency)
    return latency.steps
