"""Two sets of results held against each other, whoever wrote them: a simulation, a benchmark, the same one twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from infertuner.provenance import sha256_of
from infertuner.validation.files import read_measured, results_file
from infertuner.validation.report import Validation
from infertuner.validation.runs import Cell, Run


def validate(reference: Path, compared: Path, columns: Mapping[str, str], bounds: Mapping[str, float]) -> Validation:
    """How far the results in one file, or run folder, are from those in another; nothing is simulated."""
    sides = {path: read_measured(path, columns if path.suffix == ".csv" else {}) for path in (reference, compared)}
    (first, first_failed), (second, second_failed) = sides[reference], sides[compared]
    notes = [
        f"{path.name}: {failed} requests were not answered and are left out"
        for path, (_, failed) in sides.items()
        if failed
    ]
    if not same_requests(first, second):
        notes.append(
            f"the two do not hold the same requests ({len(first.arrived_at_s)} against {len(second.arrived_at_s)}), so "
            "they are compared as samples of their own; differences of the workload are in the errors"
        )
    notes += [
        f"{path.name}: says not when requests were sent, so there is no throughput"
        for path, (run, _) in sides.items()
        if not run.has_arrivals
    ]
    return Validation(
        title=f"{compared.name} against {reference.name}",
        mode="results",
        other="compared",
        cells=[Cell("", 0, first, second)],
        bounds=bounds,
        about={
            "measured": _described(reference, first, first_failed),
            "compared": _described(compared, second, second_failed),
        },
        notes=notes,
    )


def same_requests(first: Run, second: Run) -> bool:
    """Whether two runs answered the same requests, as far as their lengths in order of arrival tell."""
    return np.array_equal(first.prompt_tokens, second.prompt_tokens) and np.array_equal(
        first.output_tokens, second.output_tokens
    )


def _described(path: Path, run: Run, failed: int) -> dict[str, str | int]:
    return {
        "file": path.name,
        "sha256": sha256_of(results_file(path)),
        "requests": len(run.arrived_at_s),
        "failed": failed,
    }
