"""Rows of a continuous engine expanded into its iterations, a block at a time, and into curves over time.

A run of a million requests has millions of iterations and hundreds of millions of tokens. Rows are expanded into
iterations in blocks of bounded size and never into tokens: an iteration in which D sequences decode is one duration of
weight D.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from infertuner.outcomes.window import view
from infertuner.records import Records
from infertuner.sources.requests import Floats, Ints

BLOCK = 2**16
"""Iterations, or rows, that are held in memory at once."""


class Part(NamedTuple):
    """Iterations of some rows that follow one another."""

    rows: Ints
    """Which rows of `SegmentColumns`."""
    lengths: Ints
    """How many iterations of each."""
    first: Ints
    """Number within its row of each row's first iteration here: above 0 where the part before broke a row off."""
    duration_s: Floats
    """Seconds of every iteration, shape (sum of lengths,)."""

    def repeat(self, column: array[int] | Ints) -> Ints:
        """A column's value for every iteration."""
        return np.repeat(view(column)[self.rows], self.lengths)


def durations(records: Records, rows: Ints, block: int = BLOCK) -> Iterator[Part]:
    """Every iteration of `rows`, at most `block` of them and of rows at a time."""
    for low in range(0, len(rows), block):
        yield from _durations(records, rows[low : low + block], block)


def _durations(records: Records, rows: Ints, block: int) -> Iterator[Part]:
    segments, ring = records.segments, np.asarray(records.noise_permille) / 1000
    counts, number = view(segments.iterations)[rows], view(segments.iteration)
    first_s, rise_s = view(segments.first_s), view(segments.rise_s)
    stops = np.cumsum(counts)
    begins = stops - counts
    total = int(stops[-1]) if stops.size else 0
    for low in range(0, total, block):
        high = min(low + block, total)
        begin, end = np.searchsorted(stops, (low, high - 1), side="right")
        here = slice(begin, end + 1)
        lengths = np.minimum(stops[here], high) - np.maximum(begins[here], low)
        j = np.arange(low, high) - np.repeat(begins[here], lengths)
        duration_s = np.repeat(first_s[rows[here]], lengths) + j * np.repeat(rise_s[rows[here]], lengths)
        if ring.size:
            duration_s *= ring[(np.repeat(number[rows[here]], lengths) + j) % ring.size]
        yield Part(rows[here], lengths, np.maximum(low - begins[here], 0), duration_s)


def instants(records: Records, rows: Ints, block: int = BLOCK) -> Iterator[tuple[Part, Floats]]:
    """The same, and when each iteration began."""
    started_at_s = view(records.segments.started_at_s)
    carried_s = 0.0
    for part in durations(records, rows, block):
        before_s = np.cumsum(part.duration_s) - part.duration_s
        places = np.minimum(np.cumsum(part.lengths) - part.lengths, before_s.size - 1)
        offset_s = started_at_s[part.rows] - before_s[places]
        offset_s[0] += carried_s if part.first[0] else 0.0
        began_at_s = before_s + np.repeat(offset_s, part.lengths)
        yield part, began_at_s
        carried_s = float(began_at_s[-1] + part.duration_s[-1]) - float(started_at_s[part.rows[-1]])


def first_durations_s(records: Records, rows: Ints) -> Floats:
    """Seconds of the first iteration of some rows."""
    segments, ring = records.segments, np.asarray(records.noise_permille) / 1000
    plain_s: Floats = view(segments.first_s)[rows]
    return plain_s * ring[view(segments.iteration)[rows] % ring.size] if ring.size else plain_s


class Gaps:
    """Durations with how often each occurred, in buckets no wider than 1 part in 16,384.

    A bucket is the leading bits of a float, exponent and 14 bits of mantissa; it knows the mean of what fell into it.
    So percentiles are right to 0.006 % whatever the scale, and exact where a bucket holds equal values.
    """

    _KEPT_BITS = 14
    _LOWEST, _HIGHEST = (int(np.array([s]).view(np.int64)[0]) >> (52 - 14) for s in (2.0**-30, 2.0**24))

    def __init__(self) -> None:
        buckets = self._HIGHEST - self._LOWEST + 1
        self._weights, self._sums_s = np.zeros(buckets), np.zeros(buckets)

    def add(self, durations_s: Floats, weights: Ints) -> None:
        """Count each duration `weight` times."""
        if not durations_s.size:
            return
        keys = np.ascontiguousarray(durations_s).view(np.int64) >> (52 - self._KEPT_BITS)
        keys = np.clip(keys, self._LOWEST, self._HIGHEST) - self._LOWEST
        lowest = int(keys.min())
        for total, amounts in ((self._weights, weights), (self._sums_s, weights * durations_s)):
            found = np.bincount(keys - lowest, weights=amounts)
            total[lowest : lowest + found.size] += found

    @property
    def count(self) -> int:
        """How many gaps were counted."""
        return int(self._weights.sum())

    def mean_s(self) -> float | None:
        """Mean gap, each of equal weight; None of none."""
        return float(self._sums_s.sum() / self._weights.sum()) if self.count else None

    def percentile_s(self, q: float) -> float:
        """The q-th percentile, interpolated between neighbours as numpy's linear method does."""
        held = np.flatnonzero(self._weights)
        values_s = self._sums_s[held] / self._weights[held]
        position = (self.count - 1) * q / 100
        ranks = (np.floor(position), np.ceil(position))
        low, high = np.minimum(np.searchsorted(np.cumsum(self._weights[held]), ranks, side="right"), held.size - 1)
        return float(values_s[low] + (values_s[high] - values_s[low]) * (position - ranks[0]))


def stood_still(records: Records) -> tuple[Ints, Floats, Ints]:
    """Where sequences stood still for whole prefills: rows, seconds before their first iteration, sequences concerned.

    An engine that prefills first runs iterations of nothing but prompts while answers wait, so the next gap is longer
    than its iteration. Those that decode next are the oldest: first those that decoded before, who have waited since,
    then those of each prefill, who have waited since its end; without those that were done or preempted there.
    """
    segments = records.segments
    order = np.lexsort((view(segments.started_at_s), view(segments.gpu_id)))
    gpu_id, decodes = view(segments.gpu_id)[order], view(segments.decodes)[order]
    started_at_s, ended_at_s = view(segments.started_at_s)[order], view(segments.ended_at_s)[order]
    stay = decodes + _joined(records, gpu_id, ended_at_s)
    bare, decoding = np.flatnonzero(decodes == 0), np.flatnonzero(decodes > 0)
    place = np.searchsorted(decoding, bare)
    kept = place < decoding.size
    bare, after = bare[kept], decoding[np.minimum(place[kept], decoding.size - 1)]
    same = gpu_id[bare] == gpu_id[after]
    bare, after = bare[same], after[same]
    first = np.flatnonzero(np.diff(after, prepend=-1))
    before = bare[first] - 1
    goes_on = (
        (before >= 0) & (gpu_id[before] == gpu_id[bare[first]]) & (ended_at_s[before] == started_at_s[bare[first]])
    )
    older = np.where(goes_on, np.minimum(stay[before], decodes[after[first]]), 0)
    group = np.searchsorted(first, np.arange(bare.size), side="right") - 1
    total = np.cumsum(stay[bare])
    earlier = total - stay[bare] - (total - stay[bare])[first][group] + older[group]
    new = np.clip(decodes[after] - earlier, 0, np.maximum(stay[bare], 0))
    rows = np.concatenate((after, after[first]))
    since_s = np.concatenate((ended_at_s[bare], ended_at_s[before]))
    sequences = np.concatenate((new, older))
    found = (sequences > 0) & (started_at_s[rows] > since_s)
    return order[rows[found]], (started_at_s[rows] - since_s)[found], sequences[found]


def _joined(records: Records, gpu_id: Ints, ended_at_s: Floats) -> Ints:
    """Prompts complete at the end of each row less sequences done or preempted there, rows in order of GPU and time."""
    requests, stalls = records.requests, records.stalls
    on = view(requests.gpu_id)
    everywhere = np.concatenate((on, on[view(stalls.request_id)]))
    joined = np.zeros(len(gpu_id), dtype=np.int64)
    for sign, whole_s, stalled_s in (
        (1, requests.first_token_at_s, stalls.next_token_at_s),
        (-1, requests.finished_at_s, stalls.last_token_at_s),
    ):
        at_s = np.concatenate((view(whole_s), view(stalled_s)))
        by_gpu = np.lexsort((at_s, everywhere))
        at_s, places = at_s[by_gpu], everywhere[by_gpu]
        for gpu in np.unique(gpu_id):
            low, high = np.searchsorted(gpu_id, (gpu, gpu + 1))
            here_s = at_s[slice(*np.searchsorted(places, (gpu, gpu + 1)))]
            ends_s = ended_at_s[low:high]
            joined[low:high] += sign * (
                np.searchsorted(here_s, ends_s, "right") - np.searchsorted(here_s, ends_s, "left")
            )
    return joined


@dataclass(frozen=True)
class OverTime:
    """Time-weighted means in each bin of a grid, summed over GPUs; shape (bins,). An idle GPU counts as 0."""

    edges_s: Floats
    """Where bins begin and end, shape (bins + 1,)."""
    busy_gpus: Floats
    running: Floats
    """Sequences in the iteration at work."""
    waiting: Floats
    """Requests in the queues of GPUs, as of the beginning of each row."""
    kv_blocks: Floats
    """Blocks held by running requests."""

    def batch_size(self) -> Floats:
        """Sequences an iteration, over busy time; NaN where no GPU was busy."""
        busy = np.where(self.busy_gpus > 0, self.busy_gpus, np.nan)
        return self.running / busy


def over_time(records: Records, edges_s: Floats, block: int = BLOCK) -> OverTime:
    """What engines did on a rising grid of instants. A row that spans several bins is shared out among them."""
    segments = records.segments
    started_at_s, ended_at_s = view(segments.started_at_s), view(segments.ended_at_s)
    sequences, waiting = view(segments.decodes) + view(segments.prefills), view(segments.waiting)
    last_blocks, grown_blocks = view(segments.kv_blocks), kv_growth_blocks(records)
    bins = len(edges_s) - 1
    seconds = np.zeros((4, bins))
    for low in range(0, len(started_at_s), block):
        rows = slice(low, low + block)
        first = np.clip(np.searchsorted(edges_s, started_at_s[rows], side="right") - 1, 0, bins - 1)
        last = np.clip(np.searchsorted(edges_s, ended_at_s[rows], side="left") - 1, first, bins - 1)
        spans = last - first + 1
        row = np.repeat(np.arange(low, low + len(spans)), spans)
        place = np.arange(len(row)) - np.repeat(np.cumsum(spans) - spans, spans) + np.repeat(first, spans)
        begin_s = np.maximum(started_at_s[row], edges_s[place])
        end_s = np.minimum(ended_at_s[row], edges_s[place + 1])
        held_s = np.maximum(end_s - begin_s, 0.0)
        length_s = np.maximum(ended_at_s[row] - started_at_s[row], 1e-15)
        to_come = np.clip((ended_at_s[row] - (begin_s + end_s) / 2) / length_s, 0.0, 1.0)
        blocks = last_blocks[row] - grown_blocks[row] * to_come
        for total, value in zip(seconds, (1.0, sequences[row], waiting[row], blocks), strict=True):
            total += np.bincount(place, weights=held_s * value, minlength=bins)
    return OverTime(edges_s, *(seconds / np.diff(edges_s)))


def kv_growth_blocks(records: Records) -> Floats:
    """Blocks that the decodes of each row came to need between its first iteration and its last, shape (rows,)."""
    segments = records.segments
    tokens = view(segments.decodes).astype(np.int64) * (view(segments.iterations) - 1)
    grown: Floats = tokens / np.asarray(records.kv_block_tokens, dtype=np.float64)[view(segments.gpu_id)]
    return grown
