"""The trace formats that are CSV: InferTuner's own, Azure's and BurstGPT's, each turned into the same rows."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from infertuner.errors import TraceError
from infertuner.sources.requests import Ints
from infertuner.sources.trace_columns import (
    INSTANT,
    INSTANT_WITH_ZONE,
    NUMBER,
    TEXT,
    WHOLE,
    Column,
    first_records,
    read_csv,
)
from infertuner.sources.trace_rows import Keys, Rows

logger = logging.getLogger(__name__)


def own_csv(path: Path) -> Rows:
    """`arrived_at_s,prompt_tokens,output_tokens[,session_id,prefix_tokens,priority]`, as the simulator uses the words.

    Instants are those of the simulated clock. A request with an empty session_id is a session of its own.
    """
    table = read_csv(
        path,
        [
            Column("arrived_at_s", NUMBER, at_least=0),
            Column("prompt_tokens", WHOLE, at_least=1),
            Column("output_tokens", WHOLE, at_least=1),
        ],
        [
            Column("session_id", TEXT),
            Column("prefix_tokens", WHOLE, at_least=0, below="prompt_tokens"),
            Column("priority", WHOLE),
        ],
    )
    return Rows(
        at_s=table["arrived_at_s"].to_numpy(),
        session_id=_session_ids(table, "session_id"),
        prompt_tokens=table["prompt_tokens"].to_numpy(),
        prefix_tokens=_whole_or_zeros(table, "prefix_tokens"),
        output_tokens=table["output_tokens"].to_numpy(),
        priority=_whole_or_zeros(table, "priority") if "priority" in table.column_names else None,
    )


def azure(path: Path) -> Rows:
    """Azure LLM inference traces: 2023 (Patel et al., Splitwise, ISCA 2024) and 2024 (Stojkovic et al., HPCA 2025).

    Instants and token counts, no sessions. Those of 2024 carry a time zone, and a whole second has no fraction. The
    first request is sent at 0.
    """
    table = read_csv(
        path,
        [
            Column("TIMESTAMP", INSTANT_WITH_ZONE if _has_zone(path) else INSTANT),
            Column("ContextTokens", WHOLE, at_least=1),
            Column("GeneratedTokens", WHOLE, at_least=1),
        ],
    )
    instant = table["TIMESTAMP"].to_numpy()
    prompt_tokens = table["ContextTokens"].to_numpy()
    return Rows(
        at_s=(instant - instant.min()) / np.timedelta64(1, "s"),
        session_id=np.arange(len(instant)),
        prompt_tokens=prompt_tokens,
        prefix_tokens=np.zeros_like(prompt_tokens),
        output_tokens=table["GeneratedTokens"].to_numpy(),
    )


def _has_zone(path: Path) -> bool:
    """Whether the first instant says how far it is from UTC."""
    first = next(iter(first_records(path)), {})
    return re.search(r"(Z|[+-]\d\d:?\d\d)$", first.get("TIMESTAMP", "")) is not None


def burstgpt(path: Path) -> Rows:
    """BurstGPT, with or without session ids (Wang et al., arXiv 2401.17644; releases 1 and 2).

    Rows without tokens are requests that failed there; they are left out and the log says how many. Prompts of a
    session are not known to share a prefix, so nothing can be reused. Release 2 counts its seconds from some day long
    before; here the first request is sent at 0. How long its service took to answer (Elapsed time) is not read.
    """
    table = read_csv(
        path,
        [
            Column("Timestamp", NUMBER),
            Column("Request tokens", WHOLE, at_least=0),
            Column("Response tokens", WHOLE, at_least=0),
        ],
        [Column("Session ID", TEXT)],
    )
    answered = table.filter(pc.and_(pc.greater(table["Request tokens"], 0), pc.greater(table["Response tokens"], 0)))
    if not answered.num_rows:
        raise TraceError(f"{path}: no requests in this trace, only {table.num_rows} rows without tokens")
    if failed := table.num_rows - answered.num_rows:
        logger.warning("%s: left out %d of %d rows, which have no tokens", path, failed, table.num_rows)
    at_s, prompt_tokens = answered["Timestamp"].to_numpy(), answered["Request tokens"].to_numpy()
    return Rows(
        at_s=at_s - at_s.min(),
        session_id=_session_ids(answered, "Session ID"),
        prompt_tokens=prompt_tokens,
        prefix_tokens=np.zeros_like(prompt_tokens),
        output_tokens=answered["Response tokens"].to_numpy(),
    )


def _session_ids(table: Any, name: str) -> Keys:
    """The session column; where there is none, or an empty field, a request is a session of its own."""
    rows = np.arange(table.num_rows)
    if name not in table.column_names:
        return rows
    ids = np.array(table[name].to_pylist(), dtype=object)
    return np.where(ids == "", rows, ids)


def _whole_or_zeros(table: Any, name: str) -> Ints:
    if name not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.int64)
    return np.asarray(table[name].to_numpy())
