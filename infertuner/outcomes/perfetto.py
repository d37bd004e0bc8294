"""A time window of one run as a timeline for Perfetto (ui.perfetto.dev) or chrome://tracing.

The Trace Event Format: one process for each GPU, a complete event ("X") for each batch or stretch of iterations, and
counters ("C") for what runs, waits and is held. Times are microseconds on the simulated clock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from infertuner.errors import ResultsError
from infertuner.outcomes.window import Mask, Window, view
from infertuner.records import Records
from infertuner.sources.requests import Floats, Ints
from infertuner.units import parse_seconds

MAX_EVENTS = 500_000
"""About 100 MB of JSON, which Perfetto opens in seconds; more helps nobody who looks."""
EVENTS_A_ROW = 4
"""A slice, or a batch with its three phases; and for a stretch, its three counters."""
EVENTS_A_REQUEST = 3
US_PER_S = 1e6

Event = dict[str, Any]


def parse_window(text: str) -> Window:
    """A window written as `10s:20s`. Raises ResultsError."""
    since, colon, until = text.partition(":")
    try:
        window = Window(parse_seconds(since), parse_seconds(until))
    except ValueError as error:
        raise ResultsError(f"--trace-window: {text!r}: {error}; write FROM:TO, such as 10s:20s") from None
    if not colon or not 0 <= window.since_s < window.until_s:
        raise ResultsError(f"--trace-window: {text!r}: must be FROM:TO with 0 <= FROM < TO, such as 10s:20s")
    return window


def write_timeline(path: Path, records: Records, window: Window | None = None) -> None:
    """Write the window, or the whole run, under a temporary name and rename it when whole. Raises ResultsError."""
    text = timeline(records, window or Window(0.0, records.ended_at_s))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written ({error.strerror}); choose another --trace") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def timeline(records: Records, window: Window) -> str:
    """The window as JSON text. Raises ResultsError where it holds more than a viewer can show."""
    continuous = len(records.segments.gpu_id) > 0
    rows = _segments_within(records, window) if continuous else _steps_within(records, window)
    moves = np.zeros(0, dtype=np.int64) if continuous else _requests_within(records, window)
    events = EVENTS_A_ROW * len(rows) + EVENTS_A_REQUEST * len(moves)
    if events > MAX_EVENTS:
        fitting_s = (window.until_s - window.since_s) * MAX_EVENTS / events / 2
        raise ResultsError(
            f"--trace-window: {window.since_s:g}s:{window.until_s:g}s holds {events:,} events, more than the "
            f"{MAX_EVENTS:,} a viewer can show; choose about {fitting_s:.2g} s, "
            f"such as {window.since_s:g}s:{window.since_s + fitting_s:.4g}s"
        )
    if continuous:
        body = _segment_events(records, rows, window)
    else:
        body = chain(_step_events(records, rows, window), _static_counters(records, moves, window))
    named = (_name(gpu_id) for gpu_id in range(records.num_gpus))
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": [*named, *body]}, allow_nan=False) + "\n"


def _segments_within(records: Records, window: Window) -> Ints:
    started_at_s, ended_at_s = view(records.segments.started_at_s), view(records.segments.ended_at_s)
    return np.flatnonzero((ended_at_s > window.since_s) & (started_at_s < window.until_s))


def _segment_events(records: Records, rows: Ints, window: Window) -> Iterator[Event]:
    """Each stretch and its counters; where a GPU falls idle after one, counters fall to 0."""
    segments = records.segments
    gpu_id, started_at_s, ended_at_s = segments.gpu_id, segments.started_at_s, segments.ended_at_s
    rows = rows[np.lexsort((view(started_at_s)[rows], view(gpu_id)[rows]))]
    shown = ("iterations", "decodes", "prefills", "prefill_tokens", "kv_entries", "kv_blocks", "waiting")
    for row, after in zip(rows.tolist(), [*rows[1:].tolist(), None], strict=False):
        decodes, prefills = segments.decodes[row], segments.prefills[row]
        name = "decode" if not prefills else "prefill" if not decodes else "mixed"
        arguments = {column: getattr(segments, column)[row] for column in shown}
        yield _slice(name, gpu_id[row], Window(started_at_s[row], ended_at_s[row]), window, arguments)
        levels = {"running": decodes + prefills, "waiting": segments.waiting[row], "KV blocks": segments.kv_blocks[row]}
        yield from _counters(gpu_id[row], max(started_at_s[row], window.since_s), levels)
        goes_on = after is not None and gpu_id[after] == gpu_id[row] and started_at_s[after] <= ended_at_s[row]
        if not goes_on and ended_at_s[row] < window.until_s:
            yield from _counters(gpu_id[row], ended_at_s[row], dict.fromkeys(levels, 0))


def _steps_within(records: Records, window: Window) -> Ints:
    steps = records.steps
    started_at_s = view(steps.started_at_s)
    ended_at_s = started_at_s + view(steps.fetch_s) + view(steps.prefill_s) + view(steps.decode_s)
    return np.flatnonzero((ended_at_s > window.since_s) & (started_at_s < window.until_s))


def _step_events(records: Records, rows: Ints, window: Window) -> Iterator[Event]:
    """Each static batch, and inside it the standstill for the cache, the prefill and the decode."""
    steps = records.steps
    for row in rows.tolist():
        gpu_id, at_s = steps.gpu_id[row], steps.started_at_s[row]
        phases = {"fetch": steps.fetch_s[row], "prefill": steps.prefill_s[row], "decode": steps.decode_s[row]}
        size = steps.batch_size[row]
        yield _slice("batch", gpu_id, Window(at_s, at_s + sum(phases.values())), window, {"batch_size": size})
        for name, seconds in phases.items():
            if seconds and at_s + seconds > window.since_s and at_s < window.until_s:
                yield _slice(name, gpu_id, Window(at_s, at_s + seconds), window, {})
            at_s += seconds


def _moves(records: Records) -> tuple[Floats, Floats, Floats]:
    """When each request came into its GPU's queue, into a batch, and out of it; NaN where it did not."""
    requests = records.requests
    arrived_at_s, routed_at_s = view(requests.arrived_at_s), view(requests.routed_at_s)
    queued_at_s = np.where(np.isnan(routed_at_s), arrived_at_s, routed_at_s)
    return queued_at_s, view(requests.started_at_s), view(requests.finished_at_s)


def _requests_within(records: Records, window: Window) -> Ints:
    """Requests that were on a GPU at any time of the window."""
    queued_at_s, _, finished_at_s = _moves(records)
    gone: Mask = finished_at_s < window.since_s
    return np.flatnonzero((view(records.requests.gpu_id) >= 0) & (queued_at_s < window.until_s) & ~gone)


def _static_counters(records: Records, rows: Ints, window: Window) -> Iterator[Event]:
    """Requests waiting and running on each GPU, at every change."""
    gpu_id = view(records.requests.gpu_id)[rows]
    for gpu in np.unique(gpu_id).tolist():
        mine = [at_s[rows[gpu_id == gpu]] for at_s in _moves(records)]
        joined_at_s, started_at_s, left_at_s = (np.sort(np.maximum(at_s, window.since_s)) for at_s in mine)
        changes_s = np.unique(np.concatenate((joined_at_s, started_at_s, left_at_s)))
        changes_s = changes_s[changes_s <= window.until_s]
        joined, started, left = (
            np.searchsorted(at_s, changes_s, side="right") for at_s in (joined_at_s, started_at_s, left_at_s)
        )
        for at_s, waiting, running in zip(changes_s, joined - started, started - left, strict=True):
            yield from _counters(gpu, float(at_s), {"waiting": int(waiting), "running": int(running)})


def _name(gpu_id: int) -> Event:
    return {"ph": "M", "name": "process_name", "pid": gpu_id + 1, "args": {"name": f"GPU {gpu_id}"}}


def _slice(name: str, gpu_id: int, held: Window, window: Window, arguments: Event) -> Event:
    """A stretch of time on a GPU's track, cut to the window."""
    start_us = max(held.since_s, window.since_s) * US_PER_S
    length_us = min(held.until_s, window.until_s) * US_PER_S - start_us
    return {
        "ph": "X", "name": name, "pid": gpu_id + 1, "tid": gpu_id + 1,
        "ts": round(start_us, 3), "dur": round(length_us, 3), "args": arguments,
    }  # fmt: skip


def _counters(gpu_id: int, at_s: float, levels: dict[str, int]) -> Iterator[Event]:
    for name, level in levels.items():
        at_us = round(at_s * US_PER_S, 3)
        yield {"ph": "C", "name": name, "pid": gpu_id + 1, "ts": at_us, "args": {name: level}}
