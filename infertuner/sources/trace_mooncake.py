"""Traces of one JSON object a request: Mooncake's, and what vLLM, AIPerf, GuideLLM and Dynamo made of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from infertuner.errors import TraceError
from infertuner.sources.requests import Floats, Ints, Key, PrefixBlocks
from infertuner.sources.trace_columns import NUMBER, TEXT, WHOLE, WHOLE_LIST, Column, read_json_lines
from infertuner.sources.trace_rows import Keys, Rows, take_blocks

LENGTHS = (Column("input_length", WHOLE, at_least=1), Column("output_length", WHOLE, at_least=1))
HASHES = Column("hash_ids", WHOLE_LIST)

logger = logging.getLogger(__name__)


def mooncake(path: Path, block_tokens: int, timestamp_unit_s: float) -> Rows:
    """Mooncake traces (Qin et al., FAST 2025): instants, token counts and one hash per block of the prompt.

    Every prompt is whole. The first request is sent at 0. Sessions are found by `conversations`; without hashes every
    request stands for itself. A last, partial block has a hash but no place in a prefix cache, which keeps full blocks
    only.
    """
    table = read_json_lines(path, [Column("timestamp", NUMBER), *LENGTHS], [HASHES])
    at_s = table["timestamp"].to_numpy() * timestamp_unit_s
    prompt_tokens = table["input_length"].to_numpy()
    session_id, known_tokens, blocks = _shared(table, prompt_tokens, block_tokens)
    return Rows(
        at_s=at_s - at_s.min(),
        session_id=session_id,
        prompt_tokens=prompt_tokens,
        prefix_tokens=known_tokens,
        output_tokens=table["output_length"].to_numpy(),
        blocks=blocks,
    )


def aiperf(path: Path, block_tokens: int, timestamp_unit_s: float) -> Rows:
    """AIPerf's form of it: turns of a session follow one another and each adds its input to all that was said before.

    A turn is sent at its timestamp, or `delay` after the previous one. In AIPerf the delay begins with the previous
    answer; here it begins with the previous question, since a trace does not know how long answers take, so such turns
    come early by that much, and the log says how many. Hashes are read where every session has one turn.
    """
    table = read_json_lines(
        path,
        [*LENGTHS],
        [
            Column("timestamp", NUMBER, may_lack=True),
            Column("delay", NUMBER, at_least=0, may_lack=True),
            Column("session_id", TEXT, may_lack=True),
            HASHES,
        ],
    )
    names = table["session_id"].to_pylist() if "session_id" in table.column_names else [None] * table.num_rows
    keys: Keys = np.array([row if name is None else name for row, name in enumerate(names)], dtype=object)
    turns_of: dict[Key, list[int]] = {}
    for row, key in enumerate(keys.tolist()):
        turns_of.setdefault(key, []).append(row)
    at_s = timestamp_unit_s * _instants(path, table, list(turns_of.values()))
    input_tokens, output_tokens = table["input_length"].to_numpy(), table["output_length"].to_numpy()
    if len(turns_of) == table.num_rows:
        keys, before_tokens, blocks = _shared(table, input_tokens, block_tokens)
        prompt_tokens = input_tokens
    else:
        blocks = None
        before_tokens = _said_before(list(turns_of.values()), input_tokens, output_tokens)
        prompt_tokens = before_tokens + input_tokens
        if "hash_ids" in table.column_names:
            logger.warning("%s: hash_ids are not used, since those of a later turn are of its own input only", path)
    return Rows(
        at_s=at_s - at_s.min(),
        session_id=keys,
        prompt_tokens=prompt_tokens,
        prefix_tokens=before_tokens,
        output_tokens=output_tokens,
        blocks=blocks,
    )


def _said_before(sessions: list[list[int]], input_tokens: Ints, output_tokens: Ints) -> Ints:
    """Tokens of the questions and answers before each turn."""
    before_tokens = np.zeros_like(input_tokens)
    for rows in sessions:
        said = input_tokens[rows] + output_tokens[rows]
        before_tokens[rows] = np.cumsum(said) - said
    return before_tokens


def _instants(path: Path, table: Any, sessions: list[list[int]]) -> Floats:
    """When each turn is sent, in the unit of the file."""
    nothing = pa.nulls(table.num_rows, pa.float64())
    stamps, delays = (
        (table[name] if name in table.column_names else nothing).to_numpy(zero_copy_only=False)
        for name in ("timestamp", "delay")
    )
    at: Floats = stamps.astype(np.float64)
    delayed = 0
    for rows in sessions:
        for previous, row in zip([None, *rows[:-1]], rows, strict=True):
            if not np.isnan(at[row]):
                continue
            if previous is None:
                raise TraceError(
                    f"{path}, request {row + 1}: has no timestamp, and nothing came before it in its session; in "
                    "AIPerf such a session starts as its command line says, here it needs a timestamp"
                )
            at[row] = at[previous] + (0.0 if np.isnan(delays[row]) else delays[row])
            delayed += 1
    if delayed:
        logger.warning("%s: %d turns are sent after the previous question, not after its answer", path, delayed)
    return at


def _shared(table: Any, prompt_tokens: Ints, block_tokens: int) -> tuple[Ints, Ints, PrefixBlocks | None]:
    """Sessions, known prefix tokens and full blocks of requests whose prompts are whole, as far as hashes tell."""
    if "hash_ids" not in table.column_names:
        return np.arange(len(prompt_tokens)), np.zeros_like(prompt_tokens), None
    lists = table["hash_ids"].combine_chunks()
    hashes, lengths = lists.flatten().to_numpy(), lists.value_lengths().to_numpy().astype(np.int64)
    session_id, known_blocks = conversations(hashes, lengths)
    listed = PrefixBlocks(block_tokens, hashes, np.concatenate([[0], np.cumsum(lengths)]))
    full = take_blocks(listed, np.arange(len(lengths)), np.minimum(lengths, prompt_tokens // block_tokens))
    return session_id, np.minimum(known_blocks * block_tokens, prompt_tokens - 1), full


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
