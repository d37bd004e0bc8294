"""Gaps between tokens of a simulated continuous engine."""

from __future__ import annotations

import numpy as np

from infertuner.outcomes.segments import iterations
from infertuner.records import Records
from infertuner.sources.requests import Floats

NEIGHBOURS = 50
"""Iterations that are drawn together when gaps are resampled: neighbours have the same sequences in them."""


def engine_gaps(records: Records) -> list[Floats]:
    """Every gap of every sequence, in groups of neighbouring iterations; empty for static batches.

    An iteration in which D sequences decode is D gaps as long as it.
    """
    decodes = np.asarray(records.segments.decodes, dtype=np.int64)
    groups = []
    for some in iterations(records):
        weights = decodes[some.row]
        for first in range(0, len(weights), NEIGHBOURS):
            here = slice(first, first + NEIGHBOURS)
            groups.append(np.repeat(some.duration_s[here], weights[here]))
    return [gaps for gaps in groups if gaps.size]
