"""From a published file to a profile: read it, ask it for iterations, fit them as if they were measured here."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from infertuner.errors import CalibrationError
from infertuner.latency.fitting import fit_laws
from infertuner.latency.importers import aiconfigurator, llmservingsim, splitwise
from infertuner.latency.importers.design import BUNDLED, HELD_OUT, choose
from infertuner.latency.importers.observations import Observation, Published
from infertuner.latency.importers.tables import sha256_of_all
from infertuner.latency.machine import Model
from infertuner.latency.physics import least_s
from infertuner.latency.points import Kind, Point
from infertuner.latency.profile import Calibration, Origin

READERS: dict[str, Callable[..., Published]] = {
    "llmservingsim": llmservingsim.read,
    "aiconfigurator": aiconfigurator.read,
    "splitwise": splitwise.read,
}
"""What reads each format."""
DTYPE = "bf16"
NO_PREFIXES = (
    "no prefill behind a cached prefix was measured: to read a KV entry in a prefill is taken to cost what it costs in "
    "a decode step"
)
HELD_OUT_SHARE = 0.25
"""Share of published iterations that is held out, where a file has no more of them than it has."""


def import_profile(
    format_: str,
    path: Path,
    *,
    model: str | None = None,
    gpu: str | None = None,
    tp: int = 1,
    commit: str | None = None,
    seed: int = 0,
) -> Calibration:
    """A profile from the files of `format_` at `path`; provenance `public`, no host time unless the format has it.

    format_: one of `READERS`. model: a bundled shape, needed where the path does not name it. gpu: one of `gpus.GPUS`,
    likewise. tp: GPUs a step runs on. commit: the version of the source, for the record.
    Raises CalibrationError for files that are not what they seem.
    """
    return profile_of(READERS[format_](path, model=model, gpu=gpu, tp=tp), commit=commit, seed=seed)


def profile_of(published: Published, *, commit: str | None, seed: int) -> Calibration:
    """The profile of what an importer found."""
    observations, widths = _iterations(published, seed)
    observations, impossible = _possible(observations, published)
    laws = fit_laws(
        [one.point for one in observations],
        [one.seconds for one in observations],
        None if widths is None else [widths[one.point] for one in observations],
        seed=seed,
    )
    origin, config, tp = published.origin, published.config, published.tensor_parallel
    notes = [
        origin.note,
        *published.left_out,
        *impossible,
        *([NO_PREFIXES] if laws.prefill.assumed else []),
        f"sha256 of the files {sha256_of_all(published.files)[:16]}",
    ]
    return Calibration(
        schema="infertuner.calibration/1",
        provenance="public",
        source=f"{origin.url} ({origin.licence}): {origin.software}, attention {origin.attention}",
        hardware=published.gpu.hardware(),
        origin=Origin(url=origin.url, commit=commit or "not stated", licence=origin.licence, note="; ".join(notes)),
        model=Model.of(published.model_name, config, dtype=DTYPE, weights="not stated", tensor_parallel=tp),
        prefill=laws.prefill,
        decode=laws.decode,
        mixed=laws.mixed,
    )


def profile_name(published: Calibration) -> str:
    """The file name a bundled profile of this hardware and model has."""
    words = published.hardware.name.lower().replace("nvidia", "").replace("geforce", "").split()
    return f"public-{''.join(words)}-{published.model.name}"


def _iterations(published: Published, seed: int) -> tuple[list[Observation], dict[Point, float] | None]:
    """Iterations asked of a table, or those that were published, some held out; and their relative half-widths."""
    steps = published.steps
    if steps is not None:
        points = choose(steps.reach, BUNDLED, HELD_OUT, seed)
        return [Observation(point, steps.step_s(point)) for point in points], None
    repeats: dict[Point, list[float]] = defaultdict(list)
    for one in published.observations:
        repeats[one.point].append(one.seconds)
    held_out = _held_out(list(repeats), seed)
    medians, widths = [], {}
    for shape, seconds in repeats.items():
        point = replace(shape, role="holdout") if shape in held_out else shape
        medians.append(Observation(point, float(np.median(seconds))))
        widths[point] = 1.96 * float(np.std(seconds)) / float(np.mean(seconds)) / len(seconds) ** 0.5
    return medians, widths


def _held_out(points: Sequence[Point], seed: int) -> set[Point]:
    """A random share of each kind, never its smallest or largest: those are the box."""
    rng = random.Random(f"holdout/{seed}")
    chosen: set[Point] = set()
    kinds: list[Kind] = ["prefill", "decode", "mixed"]
    for kind in kinds:
        inner = sorted((p for p in points if p.kind == kind), key=lambda p: (p.batch_size, p.context_tokens))[1:-1]
        chosen.update(rng.sample(inner, round(HELD_OUT_SHARE * len(inner))))
    return chosen


def _possible(observations: list[Observation], published: Published) -> tuple[list[Observation], list[str]]:
    """The iterations that are not faster than their GPU can be, and a note about the others.

    Seconds on N GPUs are checked against one shard on one of them.
    """
    peaks = published.gpu.ceilings
    possible = [one for one in observations if one.seconds >= least_s(one.point, published.config, DTYPE, peaks)]
    dropped = len(observations) - len(possible)
    if 2 * dropped > len(observations):
        raise CalibrationError(
            f"--import: {dropped} of {len(observations)} iterations are faster than {published.gpu.name} can run "
            f"{published.model_name}; check --model and --gpu, or the units of the file"
        )
    note = f"{dropped} of {len(observations)} iterations are faster than {published.gpu.name} can be and left out"
    return possible, [note] if dropped else []
