"""An engine validation: a first run calibrates, the following ones, with other seeds, are predicted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from infertuner.errors import ValidationError
from infertuner.latency.model import LatencyModel
from infertuner.latency.profile import Calibration
from infertuner.scenario.study import Study
from infertuner.serving.continuous.config import Continuous
from infertuner.serving.simulation import Simulation
from infertuner.streams import Streams
from infertuner.validation.bench import differences, machine_of, measured_profile
from infertuner.validation.compare import Error, compare
from infertuner.validation.engine.iterations import Iteration, iteration_from
from infertuner.validation.engine.law import EngineLatency, EngineLaw, fit_law, predict_s
from infertuner.validation.engine.replay import ReplayedIterations
from infertuner.validation.engine.serving import EngineConfig, running_engine
from infertuner.validation.progress import Tell
from infertuner.validation.report import Validation
from infertuner.validation.runs import Cell, Run, engine_gaps, requests_of, run_of
from infertuner.validation.unfinished import Line, UnfinishedFile, run_from_line, run_to_line


@dataclass(frozen=True)
class EnginePlan:
    """What will be served: replication 0 to calibrate, then so many more, once or twice."""

    study: Study
    calibration: Calibration
    config: EngineConfig
    keys: list[tuple[int, int]]
    """Replication and repeat of each run, in order."""


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
    """Serve the scenario's requests in real time, or go on with it, and hold the simulation against that."""
    plan = make_plan(study, replications, twice=twice)
    machine, software = machine_of(plan.calibration)
    header = {
        "scenario": study.raw,
        "model": plan.calibration.model.model_dump(mode="json"),
        "hardware": machine.model_dump(mode="json"),
        "software": software.model_dump(mode="json"),
        "twice": twice,
    }
    lines = unfinished.begin(header, resume=resume)
    if len(lines) < len(plan.keys):
        _measure(plan, unfinished, lines, tell)
    law, ratios = fit_law(_iterations(_line(lines, (0, 0))))
    found = list(_cells(plan, lines, law, ratios))
    schedule = _schedule_errors(plan, lines)
    return Validation(
        title=f"{study.scenario.name} on {plan.calibration.model.name}, {machine.name}: simulation against the engine",
        mode="engine",
        cells=found,
        bounds=bounds,
        about={
            "scenario": study.scenario.name,
            "engine": f"transformers {software.transformers}, continuous batching, paged|sdpa, fifo",
            "engine_config": vars(plan.config),
            "hardware": machine.model_dump(mode="json"),
            "software": software.model_dump(mode="json"),
            "law": vars(law),
            "schedule_error_ratio": {name: error.ratio.mean for name, error in schedule.items()},
            "seed": study.scenario.seed,
            "replications": replications,
            "measured_twice": twice,
        },
        notes=[*_notes(plan, lines, law, schedule), *differences(plan.calibration, machine, software)],
        tables={"iterations": [_iteration_row(law, line) for line in lines]},
    )


def make_plan(study: Study, replications: int, *, twice: bool) -> EnginePlan:
    """The plan, or one line that says why this scenario cannot be served by the engine."""
    scenario, batcher = study.scenario, study.scenario.cluster.batcher
    if len(study.arms) > 1:
        raise ValidationError(f"{scenario.name}: has {len(study.arms)} arms; fix the varied keys with --set KEY=VALUE")
    calibration = measured_profile(scenario.latency)
    if not isinstance(batcher, Continuous) or batcher.enable_prefix_caching or not batcher.enable_chunked_prefill:
        raise ValidationError(
            "cluster.batcher: must be kind continuous with enable_prefix_caching: false and chunked prefill, "
            "as the engine is run"
        )
    if scenario.cluster.gpus != 1 or scenario.cache is not None:
        raise ValidationError("cluster: one engine is run here; set cluster.gpus: 1 and leave out cache")
    config = EngineConfig(
        max_num_seqs=batcher.max_num_seqs,
        max_num_batched_tokens=batcher.max_num_batched_tokens,
        block_size=batcher.block_size,
        num_gpu_blocks=batcher.usable_blocks,
    )
    keys = [(0, 0), *((number + 1, repeat) for number in range(replications) for repeat in range(1 + twice))]
    return EnginePlan(study, calibration, config, keys)


def _measure(plan: EnginePlan, unfinished: UnfinishedFile, lines: list[Line], tell: Tell) -> None:
    """Serve what `lines` does not hold yet."""
    scenario = plan.study.scenario
    done = {(line["replication"], line["repeat"]) for line in lines}
    missing = [key for key in plan.keys if key not in done]
    began_s = time.monotonic()
    with running_engine(plan.calibration, plan.config) as engine:
        for place, (number, repeat) in enumerate(missing):

            def heard(share: float, place: int = place) -> None:
                passed = (place + share) / len(missing)
                left_s = (time.monotonic() - began_s) * (1 - passed) / passed
                tell("serving in real time", (len(done) + place + share) / len(plan.keys), left_s)

            asked = scenario.workload.sample(Streams(scenario.seed, number))
            run, iterations = engine.serve(asked, heard)
            line = {"replication": number, "repeat": repeat, "iterations": iterations, **run_to_line(run)}
            unfinished.append(line)
            lines.append(line)


def _cells(plan: EnginePlan, lines: Sequence[Line], law: EngineLaw, ratios: Sequence[float]) -> Iterator[Cell]:
    """Each predicted run beside the simulation of the requests as they were really sent."""
    for number, repeat in plan.keys[1:]:
        if repeat:
            continue
        line, again = _line(lines, (number, 0)), _line(lines, (number, 1))
        measured, iterations = run_from_line(line), _iterations(line)
        drift_ratio = sum(one.seconds for one in iterations) / float(predict_s(law, iterations).sum())
        yield Cell(
            arm=f"run {number}",
            replication=number,
            measured=measured,
            simulated=_simulated(plan, measured, EngineLatency(law, ratios)),
            corrected=_simulated(plan, measured, EngineLatency(law, ratios, drift_ratio)),
            again=run_from_line(again) if again else None,
            drift={"drift": drift_ratio},
        )


def _simulated(plan: EnginePlan, measured: Run, latency: LatencyModel) -> Run:
    records = Simulation(requests_of(measured), plan.study.scenario.cluster, latency).run()
    return run_of(records, engine_gaps(records))


def _schedule_errors(plan: EnginePlan, lines: Sequence[Line]) -> dict[str, Error]:
    """Errors that are left when every simulated iteration takes the seconds that the measured one took."""
    pairs = []
    for line in lines:
        measured = run_from_line(line)
        replayed = ReplayedIterations([one.seconds for one in _iterations(line)])
        pairs.append((measured, _simulated(plan, measured, replayed)))
    return compare(pairs)


def _notes(plan: EnginePlan, lines: Sequence[Line], law: EngineLaw, schedule: Mapping[str, Error]) -> Iterator[str]:
    rows = [_iteration_row(law, line) for line in lines]
    gap_s = median(one.seconds - one.forward_s for one in _iterations(lines[0]))
    yield f"the law was fitted to {rows[0]['iterations']} iterations of its own run, host time {gap_s * 1e3:.2f} ms"
    errors = [abs(row["mape_ratio"]) for row in rows[1:]]
    drifts = [row["measured_s"] / row["predicted_s"] for row in rows[1:]]
    yield (
        f"iterations of the predicted runs: mean error {fmean(errors):.1%}; in all they took "
        f"{min(drifts):.3f} to {max(drifts):.3f} times what the law says of them, which `drift_corrected` applies"
    )
    e2e, ttft = (schedule[name].ratio.mean or 0.0 for name in ("e2e_mean", "ttft_mean"))
    yield (
        "schedule alone, with the measured seconds of every iteration handed to the simulation: "
        f"e2e_mean {e2e:+.2%}, ttft_mean {ttft:+.2%}"
    )
    if len(plan.keys) == len({number for number, _ in plan.keys}):
        yield "no noise floor; add --twice to measure how far two runs of the same requests differ"


def _iteration_row(law: EngineLaw, line: Line) -> dict[str, float]:
    """What the law makes of the iterations of one run; the run it was fitted to is replication 0."""
    iterations = _iterations(line)
    seconds, predicted = np.array([one.seconds for one in iterations]), predict_s(law, iterations)
    return {
        "replication": line["replication"],
        "repeat": line["repeat"],
        "iterations": len(iterations),
        "measured_s": float(seconds.sum()),
        "predicted_s": float(predicted.sum()),
        "mape_ratio": float(np.abs(predicted / seconds - 1).mean()),
        "host_s": float(np.median([one.seconds - one.forward_s for one in iterations])),
    }


def _line(lines: Sequence[Line], key: tuple[int, int]) -> Line:
    return next((line for line in lines if (line["replication"], line["repeat"]) == key), {})


def _iterations(line: Line) -> list[Iteration]:
    return [iteration_from(plain) for plain in line["iterations"]]
