"""The trace formats: own CSV, Azure 2023, Mooncake and BurstGPT, each turned into the same rows."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from infertuner import units
from infertuner.errors import TraceError
from infertuner.sources.requests import Floats, Ints, PrefixBlocks
from infertuner.sources.trace_columns import (
    INSTANT,
    NUMBER,
    TEXT,
    WHOLE,
    WHOLE_LIST,
    Column,
    read_csv,
    read_json_lines,
)

Keys: TypeAlias = NDArray[np.int64] | NDArray[np.object_]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """The requests of a trace, one row each. All columns have shape (n,)."""

    at_s: Floats
    session_id: Keys
    prompt_tokens: Ints
    prefix_tokens: Ints
    output_tokens: Ints
    blocks: PrefixBlocks | None = None
    priority: Ints | None = None

    def take(self, rows: Ints) -> Rows:
        """The chosen rows, in the chosen order."""
        return Rows(
            self.at_s[rows],
            self.session_id[rows],
            self.prompt_tokens[rows],
            self.prefix_tokens[rows],
            self.output_tokens[rows],
            _take_blocks(self.blocks, rows) if self.blocks else None,
            None if self.priority is None else self.priority[rows],
        )


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


def azure_2023(path: Path) -> Rows:
    """Azure LLM inference traces 2023 (Patel et al., Splitwise, ISCA 2024): instants and token counts, no sessions.

    The first request is sent at 0.
    """
    table = read_csv(
        path,
        [
            Column("TIMESTAMP", INSTANT),
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


def burstgpt(path: Path) -> Rows:
    """BurstGPT, with or without session ids (Wang et al., arXiv 2401.17644; releases 1 and 2).

    Rows without tokens are requests that failed there; they are left out and the log says how many. Prompts of a
    session are not known to share a prefix, so nothing can be reused. The first request is sent at 0.
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


def mooncake(path: Path, block_tokens: int) -> Rows:
    """Mooncake traces (Qin et al., FAST 2025): milliseconds, token counts and one hash per block of the prompt.

    The first request is sent at 0. Sessions are found by `conversations`. A last, partial block has a hash but no place
    in a prefix cache, which keeps full blocks only.
    """
    table = read_json_lines(
        path,
        [
            Column("timestamp", NUMBER),
            Column("input_length", WHOLE, at_least=1),
            Column("output_length", WHOLE, at_least=1),
            Column("hash_ids", WHOLE_LIST),
        ],
    )
    at_s = table["timestamp"].to_numpy() * units.SECONDS["ms"]
    prompt_tokens = table["input_length"].to_numpy()
    blocks = table["hash_ids"].combine_chunks()
    hashes, lengths = blocks.flatten().to_numpy(), blocks.value_lengths().to_numpy().astype(np.int64)
    session_id, known_blocks = conversations(hashes, lengths)
    listed = PrefixBlocks(block_tokens, hashes, np.concatenate([[0], np.cumsum(lengths)]))
    return Rows(
        at_s=at_s - at_s.min(),
        session_id=session_id,
        prompt_tokens=prompt_tokens,
        prefix_tokens=np.minimum(known_blocks * block_tokens, prompt_tokens - 1),
        output_tokens=table["output_length"].to_numpy(),
        blocks=_take_blocks(listed, np.arange(len(lengths)), np.minimum(lengths, prompt_tokens // block_tokens)),
    )


def conversations(hashes: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Whose prompt continues whose: a session id for each request, and how many of its blocks the session has seen.

    hashes: the block hashes of all requests, one after the other. A hash stands for a block and everything before it,
    so the blocks of a request that an earlier one had are always its first.
    lengths: how many of them belong to each request.

    A request joins the session of the request that first had its deepest known block. Blocks that begin every request
    (a system prompt) join nobody: KV that all sessions share is not reuse within one.
    """
    n = len(lengths)
    request, ends = np.repeat(np.arange(n), lengths), np.cumsum(lengths)
    _, first, which, times = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    owner = request[first][which]
    known = np.bincount(request[owner < request], minlength=n)
    shared_by_all = np.count_nonzero(times == n) if n > 1 else 0
    session, continues = np.arange(n), known > shared_by_all
    session[continues] = owner[(ends - lengths + known - 1)[continues]]
    while (session[session] != session).any():
        session = session[session]
    return session, np.where(continues, known, 0)


def _take_blocks(blocks: PrefixBlocks, rows: Ints, most: Ints | None = None) -> PrefixBlocks:
    """The blocks of the chosen rows, in the chosen order; of each row at most its first `most`."""
    lengths = np.diff(blocks.offsets)[rows] if most is None else most
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    which = np.arange(offsets[-1]) + np.repeat(blocks.offsets[:-1][rows] - offsets[:-1], lengths)
    return PrefixBlocks(blocks.block_tokens, blocks.ids[which], offsets)


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
