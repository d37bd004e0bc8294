"""A cell: one arm in one replication, as plain data that any process on any machine can compute.

What goes in is the arm as it would stand in a scenario file, the folder its paths start from, and the number of the
replication; what comes out is JSON text. Traces and profiles travel by path, not by value.
"""

from __future__ import annotations

import functools
import hashlib
import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from infertuner.errors import InferTunerError
from infertuner.experiments.runs import measure, run_arm
from infertuner.outcomes.warmup import Course, course, mser5_warmup_s
from infertuner.outcomes.window import Metrics
from infertuner.provenance import sha256_of
from infertuner.scenario.model import Scenario
from infertuner.scenario.overrides import with_overrides
from infertuner.scenario.study import SHARED, Arm, Study, study_from
from infertuner.version import __version__

Answer: TypeAlias = tuple[str, str | None, str | None]
"""What a worker sends back: the digest of its code, and the cell's JSON text or what went wrong."""


@dataclass(frozen=True)
class CellResult:
    """What is kept of a cell."""

    metrics: Metrics
    requests: int
    events: int
    outside_calls: int
    course: Course
    """How latency went, for the figure of the warm-up."""


def cell_arm(study: Study, arm: Arm) -> dict[str, Any]:
    """An arm as a scenario file of its own would have it."""
    base = {key: value for key, value in study.raw.items() if key not in ("arms", "sweep")}
    return with_overrides(base, arm.parameters)


def compute_cell(arm: dict[str, Any], folder: str, replication: int) -> Answer:
    """Simulate one cell. A failure is an answer too, so that one cell does not take the others with it."""
    try:
        study = study_from(arm, folder)
        return code_digest(), simulate_cell(study.arms[0], replication), None
    except InferTunerError as error:
        return code_digest(), None, str(error)
    except Exception as error:  # a defect in one cell; --cell runs it alone and shows its traceback
        place = traceback.extract_tb(error.__traceback__)[-1]
        return code_digest(), None, f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"


def simulate_cell(arm: Arm, replication: int) -> str:
    """Simulate one cell; what is kept of it as JSON text."""
    records = run_arm(arm, replication)
    result = CellResult(
        metrics={**measure(arm, records), "mser5_warmup_s": mser5_warmup_s(records)},
        requests=len(records.asked),
        events=records.events,
        outside_calls=records.outside_calls,
        course=course(records),
    )
    return json.dumps(asdict(result), allow_nan=False)


def read_cell(text: str) -> CellResult:
    """A cell from its JSON text; raises ValueError, KeyError or TypeError for what is none."""
    kept = json.loads(text)
    return CellResult(**{**kept, "course": Course(**kept["course"])})


def cell_key(scenario: Scenario, replication: int) -> str:
    """The content hash of a cell: everything its numbers depend on, in hexadecimal.

    That is the resolved scenario without what only names it, the bytes of the files it reads, the replication, and the
    code. So equal cells of different sweeps are computed once, and a changed trace or program computes them again.
    """
    resolved = _scenario_type().dump_python(scenario)
    asked = {key: _by_content(value) for key, value in resolved.items() if key not in SHARED}
    asked |= {"experiment": scenario.experiment, "face": scenario.face}
    content = {"scenario": asked, "replication": replication, "code": code_digest()}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@functools.cache
def code_digest() -> str:
    """The version and the SHA-256 of the package's sources: a checkout changes more often than its version."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()}"


def _by_content(value: Any) -> Any:
    """Plain data in which a file is its digest, wherever it lies."""
    if isinstance(value, Path):
        state = value.stat()
        return {"sha256": _digest(value.resolve(), state.st_mtime_ns, state.st_size)}
    if isinstance(value, Mapping):
        return {key: _by_content(inner) for key, inner in value.items()}
    return [_by_content(inner) for inner in value] if isinstance(value, list | tuple) else value


@functools.cache
def _digest(path: Path, _mtime_ns: int, _size: int) -> str:
    """Read once however many cells ask, and again when the file has changed."""
    return sha256_of(path)


@functools.cache
def _scenario_type() -> TypeAdapter[Scenario]:
    return TypeAdapter(Scenario)
