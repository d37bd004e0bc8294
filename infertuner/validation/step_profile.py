"""A profile from a file of measured requests: `calibrate --import vllm` and `--import aiperf`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infertuner.errors import CalibrationError
from infertuner.latency.importers.gpus import gpu_called
from infertuner.latency.law_sections import DecodeBox, DecodeLaw, Errors, Estimate, Knot, PrefillBox, PrefillLaw
from infertuner.latency.machine import Hardware, Model
from infertuner.latency.models import model_config, shard
from infertuner.latency.profile import Calibration, Origin
from infertuner.sources.requests import Floats
from infertuner.validation.files import read_measured
from infertuner.validation.runs import Run
from infertuner.validation.step_fit import StepFit, fit_steps

SUFFIXES = {"vllm": ".json", "aiperf": ".jsonl"}
"""Each format's file name ending: `vllm bench serve --save-detailed`, and aiperf's profile_export.jsonl."""
LONGEST_CHUNK = 2048
"""Prompt tokens of one iteration where nobody set max_num_batched_tokens."""
DTYPE = "bf16"
NOTE = (
    "fitted to the times between tokens of whole answers, so the engine's host time is inside every coefficient; "
    "prompt tokens that a prefix cache knew count as computed"
)


def import_results(
    format_: str,
    path: Path,
    *,
    model: str | None = None,
    gpu: str | None = None,
    tp: int = 1,
    commit: str | None = None,
) -> Calibration:
    """A profile from the per-request timings of one engine on one GPU, or on `tp` of them.

    model and gpu: what ran, since the file does not say it in our words. commit: the version of the file's source.
    """
    if path.suffix != SUFFIXES[format_]:
        raise CalibrationError(f"--import: {path}: a file of {format_} ends in {SUFFIXES[format_]}; give that one")
    if model is None:
        raise CalibrationError("--model: must say what the engine ran, since the file does not; such as llama-3.1-8b")
    _, device = gpu_called(gpu, path.name)
    config = shard(model_config(model), tp)
    run, _ = read_measured(path, {})
    return _profile(
        fit_steps(run),
        run,
        hardware=device.hardware(),
        model=Model.of(model, config, dtype=DTYPE, weights="not stated", tensor_parallel=tp),
        origin=Origin(url=path.name, commit=commit or "not stated", licence="not stated", note=NOTE),
    )


def _profile(fit: StepFit, run: Run, *, hardware: Hardware, model: Model, origin: Origin) -> Calibration:
    """Straight laws with these coefficients, valid where the run went."""
    batch, context = _most_at_once(run), int(np.max(run.prompt_tokens + run.output_tokens))
    longest = max(3, min(int(run.prompt_tokens.max()), LONGEST_CHUNK))
    draws = np.array(fit.draws)
    best = np.array([fit.fixed_s, fit.prefill_token_s, fit.decode_s, fit.kv_entry_s])
    fixed, token, decode, entry = np.vstack([best, draws]).T
    holdout = Errors(
        points=fit.held_out,
        mean_ratio=fit.holdout_mean_ratio,
        p95_ratio=fit.holdout_p95_ratio,
        worst_ratio=fit.holdout_worst_ratio,
    )
    ends = [fixed + decode, fixed + max(2, batch) * decode]
    computed = np.maximum(token - entry, 0.0)  # a prompt's own entries are in what its tokens cost
    prefill_ends = [fixed + 2 * computed, fixed + longest * computed]
    nothing = np.zeros(len(fixed))
    shortest = int(run.prompt_tokens.min())
    return Calibration(
        schema="infertuner.calibration/1",
        provenance="public",
        source=f"{origin.url}: requests of a serving engine",
        hardware=hardware,
        origin=origin,
        model=model,
        decode=DecodeLaw(
            form="affine",
            knots=_knots([1, max(2, batch)], ends),
            kv_entry_s=_estimate(entry),
            box=DecodeBox(batch_size=(1, batch), context_tokens=(shortest, context)),
            cross_validation={},
            holdout=holdout,
            draws=np.column_stack([*ends, entry])[1:].tolist(),
        ),
        prefill=PrefillLaw(
            form="affine",
            knots=_knots([2, longest], prefill_ends),
            kv_entry_s=_estimate(entry),
            assumed=("kv_entry_s",),
            sequence_s=_estimate(nothing),
            attended_pair_s=_estimate(nothing),
            box=PrefillBox(batch_size=(1, batch), context_tokens=(2, context), batch_tokens=(2, longest)),
            cross_validation={},
            holdout=holdout,
            draws=np.column_stack([*prefill_ends, entry, nothing, nothing])[1:].tolist(),
        ),
    )


def _knots(tokens: Sequence[int], seconds: Sequence[Floats]) -> tuple[Knot, ...]:
    return tuple(Knot(tokens=at, step_s=_estimate(values)) for at, values in zip(tokens, seconds, strict=True))


def _estimate(values: Floats) -> Estimate:
    """The first value, and what the middle 95 % of all others and itself reach."""
    low, high = np.percentile(values, (2.5, 97.5))
    return Estimate(value=float(values[0]), low=float(min(low, values[0])), high=float(max(high, values[0])))


def _most_at_once(run: Run) -> int:
    """The most requests that were being answered at one instant."""
    edges = [(at, 1) for at in run.first_token_at_s.tolist()] + [(at, -1) for at in run.finished_at_s.tolist()]
    return int(max(np.cumsum([change for _, change in sorted(edges)])))
