"""When tokens came: the gaps between the tokens of every request, which records keep as stretches of iterations."""

from __future__ import annotations

import numpy as np

from infertuner.outcomes.segments import instants
from infertuner.outcomes.window import finished, view
from infertuner.records import Records
from infertuner.sources.requests import Floats

APART_S = 1e-9
"""Instants that differ by less are one: what is left of them are sums of seconds, rounded."""


def token_gaps_s(records: Records) -> list[Floats]:
    """Seconds between the tokens of each request, shape (output tokens - 1,); empty where it was not answered.

    Their sum is the time from the first token to the last. A static batch keeps no instants of single tokens, so its
    gaps are equal. A sequence that had to stand still for an iteration because memory was short, which is rare and
    nowhere recorded, has that time in its first gap.
    """
    requests = records.requests
    first_at_s, last_at_s = view(requests.first_token_at_s), view(requests.finished_at_s)
    answered, gpu_id = finished(records), view(requests.gpu_id)
    ends_s = _iteration_ends_s(records)
    pauses = _pauses_s(records)
    gaps = []
    for row, output_tokens in enumerate(records.asked.output_tokens.tolist()):
        first_s, last_s = float(first_at_s[row]), float(last_at_s[row])
        if not answered[row] or output_tokens == 1:
            gaps.append(np.empty(0))
        elif gpu_id[row] not in ends_s:
            gaps.append(np.full(output_tokens - 1, (last_s - first_s) / (output_tokens - 1)))
        else:
            inner_s = _between(ends_s[gpu_id[row]], first_s, last_s)
            for since_s, until_s in pauses.get(row, ()):
                inner_s = _without_pause(inner_s, since_s, until_s, last_s)
            inner_s = inner_s[len(inner_s) - (output_tokens - 2) :]
            gaps.append(np.diff(inner_s, prepend=first_s, append=last_s))
    return gaps


def _iteration_ends_s(records: Records) -> dict[int, Floats]:
    """The ends of all iterations in which anybody decodes, in rising order, by GPU."""
    segments = records.segments
    rows = np.flatnonzero(view(segments.decodes) > 0)
    parts = [
        (part.repeat(segments.gpu_id), began_at_s + part.duration_s) for part, began_at_s in instants(records, rows)
    ]
    gpu_id = np.concatenate([np.empty(0, dtype=np.int64), *(gpus for gpus, _ in parts)])
    ends_s = np.concatenate([np.empty(0), *(ends for _, ends in parts)])
    order = np.lexsort((ends_s, gpu_id))
    gpus = np.unique(view(segments.gpu_id))
    places = np.searchsorted(gpu_id[order], gpus)
    return dict(zip(gpus.tolist(), np.split(ends_s[order], places[1:]), strict=True)) if gpus.size else {}


def _pauses_s(records: Records) -> dict[int, list[tuple[float, float]]]:
    """The instants of the tokens around each preemption, by request."""
    stalls, found = records.stalls, dict[int, list[tuple[float, float]]]()
    for row, since_s, until_s in zip(stalls.request_id, stalls.last_token_at_s, stalls.next_token_at_s, strict=True):
        found.setdefault(row, []).append((since_s, until_s))
    return found


def _between(ends_s: Floats, first_s: float, last_s: float) -> Floats:
    low, high = np.searchsorted(ends_s, (first_s + APART_S, last_s - APART_S))
    return ends_s[low:high]


def _without_pause(inner_s: Floats, since_s: float, until_s: float, last_s: float) -> Floats:
    """The instants of tokens without those that others got meanwhile, and with the one that ended the pause."""
    before_s = inner_s[inner_s < since_s + APART_S]
    after_s = inner_s[inner_s > until_s + APART_S]
    again_s = [until_s] if until_s < last_s - APART_S else []
    return np.concatenate((before_s, again_s, after_s))
