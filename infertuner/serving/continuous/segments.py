"""The log of an engine: a row for each stretch of iterations, collected as bytes and moved to columns in bulk."""

from __future__ import annotations

from struct import Struct

import numpy as np

from infertuner.latency.lines import PS_PER_S
from infertuner.records import SegmentColumns

_FIELDS = {
    "started_at_s": "d", "ended_at_s": "d", "iteration": "q", "iterations": "i", "first_s": "q", "rise_s": "q",
    "decodes": "i", "prefills": "i", "prefill_tokens": "i", "kv_entries": "i", "kv_blocks": "i", "waiting": "i",
}  # fmt: skip
"""Columns of a row with their types; `first_s` and `rise_s` in picoseconds."""
_ROW = Struct("<" + "".join(_FIELDS.values()))
_ROWS = np.dtype([(name, "<" + {"d": "f8", "q": "i8", "i": "i4"}[kind]) for name, kind in _FIELDS.items()])
_BATCH_BYTES = 1 << 16

row_of = _ROW.pack
"""The bytes of a row: the columns of `SegmentColumns` but for `gpu_id`, durations in whole picoseconds."""


class SegmentLog:
    """The rows of one GPU on their way to the columns of the run."""

    def __init__(self, gpu_id: int, columns: SegmentColumns) -> None:
        self._gpu_id, self._columns = gpu_id, columns
        self.rows = bytearray()
        """What was not moved yet: made by `row_of`, one after the other."""

    def flush(self, least_bytes: int = _BATCH_BYTES) -> None:
        """Move what was collected, if it is so much."""
        if len(self.rows) < max(1, least_bytes):
            return
        rows = np.frombuffer(bytes(self.rows), dtype=_ROWS)
        self.rows.clear()
        columns = self._columns
        columns.gpu_id.extend([self._gpu_id] * len(rows))
        for name in _FIELDS:
            values = rows[name] / PS_PER_S if name in ("first_s", "rise_s") else rows[name]
            getattr(columns, name).frombytes(values.tobytes())
