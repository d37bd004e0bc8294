"""A continuous engine for tests, deliberately naive: every iteration and every token by itself.

It keeps the rows that an engine writes and, beside them, the instant of every token, so that what outcomes expand from
rows can be compared with what really happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from infertuner.records import (
    CacheSizeColumns,
    Records,
    RequestColumns,
    SegmentColumns,
    StallColumns,
    Status,
    StepColumns,
)
from infertuner.sources.requests import OpenLoop, Requests

BLOCK_TOKENS = 4
BASE_S, TOKEN_S, ENTRY_S = 0.01, 0.001, 0.0001


@dataclass
class Sequence:
    """A request on the GPU."""

    request_id: int
    prompt_tokens: int
    output_tokens: int
    tokens_at_s: list[float] = field(default_factory=list)

    @property
    def entries(self) -> int:
        """KV entries that its next iteration reads."""
        return self.prompt_tokens + len(self.tokens_at_s)

    @property
    def blocks(self) -> int:
        """KV blocks that its next iteration needs."""
        return -(-self.entries // BLOCK_TOKENS)


@dataclass
class Walked:
    """What the walk left: the records, and the truth they stand for."""

    records: Records
    tokens_at_s: list[list[float]]
    """Instants of each request's tokens."""
    iterations: list[tuple[float, float, int, int]]
    """(start, end, sequences, blocks) of every iteration."""


def walk(  # noqa: C901, PLR0915 - a plain story, told once
    arrived_at_s: list[float],
    prompt_tokens: list[int],
    output_tokens: list[int],
    *,
    max_num_seqs: int = 4,
    blocks: int = 1000,
    noise_permille: list[int] | None = None,
    prefill_first: bool = False,
) -> Walked:
    """Run one GPU to the last answer: whole prompts beside decodes, preempting the latest when blocks run out.

    With `prefill_first` nobody decodes in an iteration that carries prompts.
    """
    n, ring = len(arrived_at_s), noise_permille or []
    columns, segments, stalls = RequestColumns(n), SegmentColumns(), StallColumns()
    everyone = [Sequence(i, prompt_tokens[i], output_tokens[i]) for i in range(n)]
    waiting: list[Sequence] = []
    running: list[Sequence] = []
    truth: list[tuple[float, float, int, int]] = []
    now_s, sent, number = 0.0, 0, 0
    while sent < n or waiting or running:
        if not waiting and not running:
            now_s = max(now_s, arrived_at_s[sent])
        while sent < n and arrived_at_s[sent] <= now_s:
            columns.gpu_id[sent] = 0
            columns.arrived_at_s[sent] = columns.routed_at_s[sent] = arrived_at_s[sent]
            waiting.append(everyone[sent])
            sent += 1
        while sum(sequence.blocks for sequence in running) > blocks:
            lost = running.pop()
            columns.preemptions[lost.request_id] += 1
            waiting.insert(0, lost)
        new: list[Sequence] = []
        while waiting and len(running) + len(new) < max_num_seqs:
            if sum(sequence.blocks for sequence in [*running, *new, waiting[0]]) > blocks:
                break
            new.append(waiting.pop(0))
        still, running = (running, []) if prefill_first and new else ([], running)
        entries, tokens = sum(s.entries for s in running), sum(s.entries for s in new)
        plain_s = BASE_S + ENTRY_S * entries + TOKEN_S * tokens
        took_s = plain_s * (ring[number % len(ring)] / 1000 if ring else 1.0)
        ended_at_s = now_s + took_s
        used = sum(sequence.blocks for sequence in [*still, *running, *new])
        truth.append((now_s, ended_at_s, len(running) + len(new), used))
        row = {
            "gpu_id": 0, "started_at_s": now_s, "ended_at_s": ended_at_s, "iteration": number, "iterations": 1,
            "first_s": plain_s, "rise_s": ENTRY_S * len(running), "decodes": len(running), "prefills": len(new),
            "prefill_tokens": tokens, "kv_entries": entries, "kv_blocks": used, "waiting": len(waiting),
        }  # fmt: skip
        _log(segments, row)
        for sequence in new:
            request_id = sequence.request_id
            if not sequence.tokens_at_s:
                columns.started_at_s[request_id] = now_s
                columns.first_token_at_s[request_id] = ended_at_s
                share_s = took_s / (tokens + len(running))
                columns.prefill_s[request_id] = share_s * sequence.entries
                columns.others_prefill_s[request_id] = share_s * (tokens - sequence.entries)
                columns.others_decode_s[request_id] = share_s * len(running)
            else:
                stalls.request_id.append(request_id)
                stalls.last_token_at_s.append(sequence.tokens_at_s[-1])
                stalls.next_token_at_s.append(ended_at_s)
        running += new
        for sequence in running:
            sequence.tokens_at_s.append(ended_at_s)
            if len(sequence.tokens_at_s) == sequence.output_tokens:
                columns.finished_at_s[sequence.request_id] = ended_at_s
                columns.status[sequence.request_id] = Status.FINISHED
        running = still + [s for s in running if len(s.tokens_at_s) < s.output_tokens]
        now_s, number = ended_at_s, number + 1
    asked = Requests(
        pacing=OpenLoop(np.array(arrived_at_s)),
        session_id=range(n),
        prompt_tokens=np.array(prompt_tokens, dtype=np.int64),
        prefix_tokens=np.zeros(n, dtype=np.int64),
        output_tokens=np.array(output_tokens, dtype=np.int64),
    )
    records = Records(
        asked, columns, StepColumns(), CacheSizeColumns(), 1, now_s, events=0, segments=segments, stalls=stalls,
        noise_permille=ring, kv_blocks=[blocks], kv_block_tokens=[BLOCK_TOKENS],
    )  # fmt: skip
    return Walked(records, [sequence.tokens_at_s for sequence in everyone], truth)


def _log(segments: SegmentColumns, row: dict[str, float]) -> None:
    """Add an iteration to the row it continues, or as a new one."""
    last = len(segments.gpu_id) - 1
    goes_on = (
        last >= 0
        and row["prefills"] == segments.prefills[last] == 0
        and row["decodes"] == segments.decodes[last]
        and row["waiting"] == segments.waiting[last]
        and row["started_at_s"] == segments.ended_at_s[last]
        and abs(row["first_s"] - segments.first_s[last] - segments.iterations[last] * segments.rise_s[last]) < 1e-12
    )
    if goes_on:
        segments.iterations[last] += 1
        segments.ended_at_s[last] = row["ended_at_s"]
        segments.kv_blocks[last] = int(row["kv_blocks"])
    else:
        for name, value in row.items():
            getattr(segments, name).append(value)
