"""The log of an engine: a row for each stretch of iterations, collected as tuples and moved to columns in bulk."""

from __future__ import annotations

import numpy as np

from infertuner.latency.lines import PS_PER_S
from infertuner.records import SegmentColumns

_COLUMNS = (
    "started_at_s", "ended_at_s", "iteration", "iterations", "first_s", "rise_s", "decodes", "prefills",
    "prefill_tokens", "kv_entries", "kv_blocks", "waiting",
)  # fmt: skip
_PICOSECONDS = {"first_s", "rise_s"}
_BATCH = 1024
"""Rows collected before they are moved: a tuple takes a few hundred bytes, a row of the columns about 100."""


class SegmentLog:
    """The rows of one GPU on their way to the columns of the run."""

    def __init__(self, gpu_id: int, columns: SegmentColumns) -> None:
        self._gpu_id, self._columns = gpu_id, columns
        self._rows: list[tuple[float | int, ...]] = []

    def add(self, row: tuple[float | int, ...]) -> None:
        """Add a row: started_at_s, ended_at_s, iteration, iterations, first and rise in picoseconds, and the rest."""
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Move what was collected."""
        if not self._rows:
            return
        columns = self._columns
        columns.gpu_id.extend([self._gpu_id] * len(self._rows))
        for name, values in zip(_COLUMNS, zip(*self._rows, strict=True), strict=True):
            if name in _PICOSECONDS:
                getattr(columns, name).frombytes((np.array(values, dtype=np.int64) / PS_PER_S).tobytes())
            else:
                getattr(columns, name).extend(values)
        self._rows.clear()
