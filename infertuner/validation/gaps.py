"""Gaps between tokens of a simulated continuous engine."""

from __future__ import annotations

import numpy as np

from infertuner.records import Records
from infertuner.sources.requests import Floats

NEIGHBOURS = 50
"""Iterations that are drawn together when gaps are resampled: neighbours have the same sequences in them."""


def engine_gaps(records: Records) -> list[Floats]:
    """Every gap of every sequence, in groups of neighbouring iterations; empty for static batches.

    An iteration in which D sequences decode is D gaps as long as it. The gap across a preemption is not among them.
    """
    rows = records.segments
    counts = np.asarray(rows.iterations, dtype=np.int64)
    row = np.repeat(np.arange(counts.size), counts)
    place = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)
    seconds = np.asarray(rows.first_s)[row] + place * np.asarray(rows.rise_s)[row]
    if records.noise_permille:
        number = np.asarray(rows.iteration, dtype=np.int64)[row] + place
        seconds *= np.asarray(records.noise_permille)[number % len(records.noise_permille)] / 1000
    decodes = np.asarray(rows.decodes, dtype=np.int64)[row]
    starts = range(0, row.size, NEIGHBOURS)
    groups = (np.repeat(seconds[i : i + NEIGHBOURS], decodes[i : i + NEIGHBOURS]) for i in starts)
    return [gaps for gaps in groups if gaps.size]
