"""The log of an engine: a row for each stretch of iterations, collected as tuples and moved to columns in bulk."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infertuner.latency.lines import PS_PER_S
from infertuner.records import SegmentColumns


class Segment(NamedTuple):
    """One row of `SegmentColumns`, in the engine's units."""

    started_at: int
    ended_at: int
    iteration: int
    iterations: int
    first: int
    rise: int
    decodes: int
    prefills: int
    prefill_tokens: int
    kv_entries: int
    kv_blocks: int
    waiting: int


_UNITS = {"started_at": 1e15, "ended_at": 1e15, "first": float(PS_PER_S), "rise": float(PS_PER_S)}
_BATCH = 4096
"""Rows collected before they are moved: a tuple takes a few hundred bytes, a row of the columns about 100."""


class SegmentLog:
    """The rows of one GPU on their way to the columns of the run."""

    def __init__(self, gpu_id: int, columns: SegmentColumns) -> None:
        self._gpu_id, self._columns = gpu_id, columns
        self._rows: list[tuple[int, ...]] = []

    def add(self, *row: int) -> None:
        """Add a row: the fields of a `Segment` in their order."""
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Move what was collected."""
        if not self._rows:
            return
        columns = self._columns
        columns.gpu_id.extend([self._gpu_id] * len(self._rows))
        for name, values in zip(Segment._fields, zip(*self._rows, strict=True), strict=True):
            if name in _UNITS:
                seconds = np.array(values, dtype=np.float64) / _UNITS[name]
                getattr(columns, f"{name}_s").frombytes(seconds.tobytes())
            else:
                getattr(columns, name).extend(values)
        self._rows.clear()
