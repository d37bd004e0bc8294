"""Records as pandas tables: what notebooks read and run folders keep; results/README.md is their dictionary.

Columns share the memory of the records wherever possible, so a million rows cost little. A frame is therefore for
reading; `frame.copy()` gives one to write into.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from enum import IntEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infertuner.outcomes.latencies import durations
from infertuner.outcomes.metrics import endings
from infertuner.outcomes.window import Mask, view
from infertuner.records import (
    CacheLevel,
    CacheSizeColumns,
    CapacityColumns,
    FleetColumns,
    GpuState,
    Records,
    SegmentColumns,
    Status,
    StepColumns,
)
from infertuner.sources.requests import Key


def requests_frame(records: Records) -> pd.DataFrame:
    """One row a request, in the order in which they are sent; what has not happened is missing."""
    asked, requests = records.asked, records.requests
    started_at_s, level = view(requests.started_at_s), view(requests.cache_level)
    not_started = np.isnan(started_at_s)
    not_looked_up = not_started & (level == CacheLevel.NONE)
    no_share = not_started | (len(records.segments.gpu_id) == 0)
    gpu_id = view(requests.gpu_id)
    times = durations(records)
    columns = {
        "request_id": np.arange(len(asked)),
        "session_id": _session_ids(asked.session_id),
        "gpu_id": _integers(gpu_id, missing=gpu_id < 0),
        "status": _words(endings(records), Status),
        "arrived_at_s": view(requests.arrived_at_s),
        "routed_at_s": view(requests.routed_at_s),
        "started_at_s": started_at_s,
        "first_token_at_s": view(requests.first_token_at_s),
        "finished_at_s": view(requests.finished_at_s),
        "prompt_tokens": view(asked.prompt_tokens),
        "prefix_tokens": view(asked.prefix_tokens),
        "cached_tokens": _integers(view(requests.cached_tokens), missing=not_looked_up),
        "output_tokens": view(asked.output_tokens),
        "batch_size": _integers(view(requests.batch_size), missing=not_started),
        "cache_level": _words(level - 1, (CacheLevel.LOCAL, CacheLevel.REMOTE, CacheLevel.MISS)),
        "cache_tier": _integers(view(requests.cache_tier), missing=view(requests.cache_tier) < 0),
        "fetch_s": np.where(not_looked_up, np.nan, view(requests.fetch_s)),
        "prefill_saved_s": np.where(not_looked_up, np.nan, view(requests.prefill_saved_s)),
        "prefill_s": np.where(no_share, np.nan, view(requests.prefill_s)),
        "others_prefill_s": np.where(no_share, np.nan, view(requests.others_prefill_s)),
        "others_decode_s": np.where(no_share, np.nan, view(requests.others_decode_s)),
        "preemptions": view(requests.preemptions),
        "retries": view(requests.retries),
        "wait_s": times.wait_s,
        "ttft_s": times.ttft_s,
        "tpot_s": times.tpot_s,
        "e2e_s": times.e2e_s,
    }
    return pd.DataFrame(columns, copy=False)


def steps_frame(records: Records) -> pd.DataFrame:
    """One row a batch run on a GPU, in the order in which batches ended."""
    return _frame(records.steps)


def segments_frame(records: Records) -> pd.DataFrame:
    """One row a stretch of equal iterations of a continuous engine."""
    return _frame(records.segments)


def fleet_frame(records: Records) -> pd.DataFrame:
    """One row a change of a GPU's state."""
    frame = _frame(records.fleet)
    return frame.assign(state=_words(view(records.fleet.state), GpuState))


def cache_sizes_frame(records: Records) -> pd.DataFrame:
    """One row a change of a local cache's size, the initial size included."""
    return _frame(records.cache_sizes)


def tiers_frame(records: Records) -> pd.DataFrame:
    """One row a tier, of one GPU or of all that share it (GPU -1): what it did over the run."""
    return pd.DataFrame([vars(use) for use in records.tiers])


def capacities_frame(records: Records) -> pd.DataFrame:
    """One row a change of a tier's capacity, the first one included."""
    return _frame(records.capacities)


def _frame(columns: StepColumns | SegmentColumns | CacheSizeColumns | FleetColumns | CapacityColumns) -> pd.DataFrame:
    named = {column.name: view(getattr(columns, column.name)) for column in fields(columns)}
    return pd.DataFrame(named, copy=False)


def _integers(values: NDArray[np.int64], missing: Mask) -> Any:
    """Whole numbers that stay whole although some are missing (pandas Int64)."""
    return pd.arrays.IntegerArray(values, missing)


def _words(codes: NDArray[np.int64], words: Iterable[IntEnum]) -> Any:
    """Codes 0, 1 ... as the names of `words`; code -1 is missing."""
    return pd.Categorical.from_codes(codes, pd.Index([word.name.lower() for word in words]))


def _session_ids(ids: Sequence[Key]) -> Any:
    """Whole numbers as they are; text, or a mixture, as categories of text."""
    values = np.asarray(ids)
    return view(values) if values.dtype.kind in "iu" else pd.Categorical([str(key) for key in ids])
