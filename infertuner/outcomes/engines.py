"""How full the batches were, how busy the GPUs and how long the gaps between tokens."""

from __future__ import annotations

import numpy as np

from infertuner.outcomes.fleet import present_s
from infertuner.outcomes.segments import Gaps, durations, first_durations_s, instants, kv_growth_blocks, stood_still
from infertuner.outcomes.window import PERCENTILES, Metrics, Window, carried_percentiles, finished, mean, view
from infertuner.records import Records, Status
from infertuner.sources.requests import Floats

ITL = ("itl_mean_s", *(f"itl_p{q}_s" for q in PERCENTILES))
TOLERANCE_S = 1e-9
"""What rounding may take from an iteration that ends with the run."""


def measured_engines(records: Records, window: Window) -> Metrics:
    """Gaps, batches, work and memory of all GPUs; what one kind of batching cannot answer is None."""
    continuous = len(records.segments.gpu_id) > 0
    busy_s = _busy_s(records, window) + _static_busy_s(records, window)
    present = present_s(records, window)
    present_total_s = float(present.sum())
    return {
        **(_iterations(records, window) if continuous else _batches(records, window)),
        "gpus_mean": window.rate_per_s(present_total_s),
        "utilization_ratio": busy_s / present_total_s if present_total_s > 0 else None,
        **_kv_usage(records, window, present),
    }


def _batches(records: Records, window: Window) -> Metrics:
    """Static batches keep no instants of single tokens, so they have no gaps."""
    started_at_s, batch_size = view(records.steps.started_at_s), view(records.steps.batch_size)
    return {
        **dict.fromkeys(ITL),
        "iterations": None,
        "batch_size_mean": mean(batch_size[started_at_s >= window.since_s]),
    }


def _iterations(records: Records, window: Window) -> Metrics:
    """One walk over the iterations that lie within the window; only rows that it cuts are asked for instants."""
    segments = records.segments
    decodes = view(segments.decodes)
    sequences = decodes + view(segments.prefills)
    started_at_s, ended_at_s = view(segments.started_at_s), view(segments.ended_at_s)
    last_s = window.until_s + TOLERANCE_S
    whole = (started_at_s >= window.since_s) & (ended_at_s <= last_s)
    gaps = Gaps()
    count = members = 0
    for part in durations(records, np.flatnonzero(whole)):
        gaps.add(part.duration_s, part.repeat(decodes))
        count += int(part.lengths.sum())
        members += int((sequences[part.rows] * part.lengths).sum())
    cut = ~whole & (ended_at_s > window.since_s) & (started_at_s < window.until_s)
    for part, began_at_s in instants(records, np.flatnonzero(cut)):
        inside = (began_at_s >= window.since_s) & (began_at_s + part.duration_s <= last_s)
        gaps.add(part.duration_s[inside], part.repeat(decodes)[inside])
        count += int(inside.sum())
        members += int(part.repeat(sequences)[inside].sum())
    _lengthen(gaps, records, window)
    stalls = records.stalls
    since_s, until_s = view(stalls.last_token_at_s), view(stalls.next_token_at_s)
    inside = since_s >= window.since_s
    gaps.add((until_s - since_s)[inside], np.ones(int(inside.sum()), dtype=np.int64))
    carried = carried_percentiles(gaps.count)
    return {
        "itl_mean_s": gaps.mean_s(),
        **{f"itl_p{q}_s": gaps.percentile_s(q) if q in carried else None for q in PERCENTILES},
        "iterations": count,
        "batch_size_mean": members / count if count else None,
    }


def _lengthen(gaps: Gaps, records: Records, window: Window) -> None:
    """Put the gaps of sequences that stood still for whole prefills where they belong."""
    rows, waited_s, sequences = stood_still(records)
    inside = view(records.segments.started_at_s)[rows] >= window.since_s
    rows, waited_s, sequences = rows[inside], waited_s[inside], sequences[inside]
    iteration_s = first_durations_s(records, rows)
    gaps.add(iteration_s, -sequences)
    gaps.add(iteration_s + waited_s, sequences)


def _busy_s(records: Records, window: Window) -> float:
    """GPU seconds spent on iterations within the window."""
    segments = records.segments
    return float(window.overlap_s(view(segments.started_at_s), view(segments.ended_at_s)).sum())


def _static_busy_s(records: Records, window: Window) -> float:
    """GPU seconds spent on batches within the window.

    The batch that the horizon cuts short has no row of its own, but its members have started and not ended.
    """
    steps, requests = records.steps, records.requests
    start_s = view(steps.started_at_s)
    end_s = start_s + view(steps.fetch_s) + view(steps.prefill_s) + view(steps.decode_s)
    started_at_s = view(requests.started_at_s)
    gpu_id = view(requests.gpu_id)
    static = np.asarray(records.kv_blocks or [0] * records.num_gpus)[gpu_id] == 0
    cut = static & ~np.isnan(started_at_s) & ~finished(records) & (view(requests.status) == Status.UNFINISHED)
    _, one_each = np.unique(gpu_id[cut], return_index=True)
    cut_start_s = started_at_s[cut][one_each]
    cut_end_s = np.full_like(cut_start_s, records.ended_at_s)
    return float(window.overlap_s(start_s, end_s).sum() + window.overlap_s(cut_start_s, cut_end_s).sum())


def _kv_usage(records: Records, window: Window, present: Floats) -> Metrics:
    """Blocks that running requests held, over the blocks there are."""
    segments, capacity = records.segments, np.asarray(records.kv_blocks, dtype=np.float64)
    if not len(segments.gpu_id) or not capacity.size:
        return {"kv_usage_mean_ratio": None, "kv_usage_max_ratio": None}
    held_s = window.overlap_s(view(segments.started_at_s), view(segments.ended_at_s))
    blocks = view(segments.kv_blocks)
    used: Floats = (blocks - kv_growth_blocks(records) / 2) * held_s
    there = float((capacity * present).sum())
    shares = (blocks / capacity[view(segments.gpu_id)])[held_s > 0]
    return {
        "kv_usage_mean_ratio": float(used.sum()) / there if there > 0 else None,
        "kv_usage_max_ratio": float(shares.max()) if shares.size else None,
    }
