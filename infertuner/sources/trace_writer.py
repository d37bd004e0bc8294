"""Any workload as Mooncake JSON lines, so that one file drives the simulator, AIPerf and vLLM's `timed_trace`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from infertuner import units
from infertuner.errors import TraceError
from infertuner.sources.requests import Key, OpenLoop, Requests


def mooncake_lines(requests: Requests, block_tokens: int) -> Iterator[str]:
    """One line a request, in order of arrival; the first is sent at 0 and instants are whole milliseconds.

    A prompt has an id for each block and one for a last, partial block, which nobody shares. Where the workload knows
    its blocks these are its ids and its tokens a block, and `block_tokens` is not used. Otherwise a prompt begins with
    the blocks of the session's previous prompt, as many as its `prefix_tokens` fill; what it repeats of the answer is
    new, since the format has no ids for answers. Sessions are not written: a tool that reads one would add each prompt
    to the ones before.

    Raises TraceError for a closed loop, whose instants depend on the answers.
    """
    if not isinstance(requests.pacing, OpenLoop):
        raise TraceError(
            "workload: a closed loop sends when it is answered, so it has no instants to write; use an open loop"
        )
    at_s = requests.pacing.arrived_at_s
    at_ms = np.rint((at_s - at_s[:1]) / units.SECONDS["ms"]).astype(np.int64).tolist()
    lengths = (requests.prompt_tokens.tolist(), requests.output_tokens.tolist())
    hash_ids = _known(requests) if requests.blocks else _from_sessions(requests, block_tokens)
    for timestamp, input_length, output_length, ids in zip(at_ms, *lengths, hash_ids, strict=True):
        yield (
            json.dumps(
                {"timestamp": timestamp, "input_length": input_length, "output_length": output_length, "hash_ids": ids}
            )
            + "\n"
        )


def block_tokens_of(requests: Requests, otherwise: int) -> int:
    """Tokens behind one id of the lines written for a workload."""
    return requests.blocks.block_tokens if requests.blocks else otherwise


def _known(requests: Requests) -> Iterator[list[int]]:
    """The workload's ids, and a new one for a last, partial block."""
    blocks = requests.blocks
    assert blocks is not None
    new = int(blocks.ids.max(initial=-1)) + 1
    for row, prompt_tokens in enumerate(requests.prompt_tokens.tolist()):
        ids = blocks.ids[blocks.offsets[row] : blocks.offsets[row + 1]].tolist()
        missing = -(-prompt_tokens // blocks.block_tokens) - len(ids)
        yield [*ids, *range(new, new + missing)]
        new += missing


def _from_sessions(requests: Requests, block_tokens: int) -> Iterator[list[int]]:
    """Ids made up so that a prompt shares with the previous one of its session what its prefix says."""
    last: dict[Key, list[int]] = {}
    new = 0
    columns = (requests.session_id, requests.prompt_tokens.tolist(), requests.prefix_tokens.tolist())
    for session, prompt_tokens, prefix_tokens in zip(*columns, strict=True):
        shared = last.get(session, [])[: prefix_tokens // block_tokens]
        missing = -(-prompt_tokens // block_tokens) - len(shared)
        ids = [*shared, *range(new, new + missing)]
        new += missing
        last[session] = ids[: prompt_tokens // block_tokens]
        yield ids
