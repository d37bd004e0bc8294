"""A simulation of exactly the requests that a file says were served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infertuner.errors import ValidationError
from infertuner.provenance import sha256_of
from infertuner.scenario.study import Study
from infertuner.serving.simulation import Simulation
from infertuner.streams import Streams
from infertuner.validation.files import read_measured, results_file
from infertuner.validation.report import Validation
from infertuner.validation.runs import Cell, Run, engine_gaps, requests_of, run_of


def validate(study: Study, path: Path, columns: Mapping[str, str], bounds: Mapping[str, float]) -> Validation:
    """Hold the scenario's answer to a file's requests against what the file says of them."""
    measured, failed = read_measured(path, columns)
    if not measured.has_arrivals:
        raise ValidationError(
            f"{path}: does not say when requests were sent, so they cannot be sent again; simulate them with --export "
            "and compare with python -m infertuner.validate results"
        )
    cell, outside = simulated_cell(study, measured)
    notes = (
        [f"{failed} failed requests were left out; what they cost the server is not in the simulation"]
        if failed
        else []
    )
    unanswered = len(measured.arrived_at_s) - cell.simulated.finished
    if unanswered:
        notes.append(f"{unanswered} requests were not answered in the simulation and are left out")
    if outside:
        notes.append(f"{outside:,} latencies were asked for outside the measured range and extrapolated")
    return Validation(
        title=f"{study.scenario.name}: simulation against {path.name}",
        mode="file",
        cells=[cell],
        bounds=bounds,
        about={
            "scenario": study.scenario.name,
            "measured": path.name,
            "sha256": sha256_of(results_file(path)),
            "requests": len(measured.arrived_at_s),
            "failed": failed,
            "profile": study.scenario.latency.source(),
        },
        notes=notes,
    )


def simulated_cell(study: Study, measured: Run) -> tuple[Cell, int]:
    """The measured run beside the scenario's answer to the same requests, and how many latencies were extrapolated.

    The scenario's own workload is not used.
    """
    if len(study.arms) > 1:
        raise ValidationError(
            f"{study.scenario.name}: has {len(study.arms)} arms and a file holds one run; "
            "fix the varied keys with --set KEY=VALUE"
        )
    scenario = study.scenario
    latency = scenario.latency.model(Streams(scenario.seed))
    records = Simulation(requests_of(measured), scenario.cluster, latency, scenario.cache).run(scenario.horizon_s)
    gaps_s = engine_gaps(records) if measured.gaps_s else ()
    return Cell("", 0, measured, run_of(records, gaps_s)), records.outside_calls
