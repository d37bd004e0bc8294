"""What every adapter shares: the request file, the latency law all tools are given, and the line an adapter prints.

An adapter is a script of its own because it runs under the peer's interpreter, with the peer's folder as PYTHONPATH:
`run_NAME.py REQUESTS GPUS`.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

PREFILL_S, PREFILL_TOKEN_S = 8e-3, 27e-6
"""Seconds of an iteration that prefills, and of each prompt token in it."""
DECODE_S, SEQUENCE_S, KV_ENTRY_S = 6e-3, 15e-6, 2.9e-8
"""Seconds of an iteration that only decodes, of each sequence that decodes, and of each KV entry it reads."""
MAX_NUM_SEQS, MAX_NUM_BATCHED_TOKENS, BLOCK_SIZE, KV_BLOCKS = 256, 2048, 16, 60_000


class Asked(NamedTuple):
    """One row of a request file."""

    request_id: int
    arrived_at_s: float
    prompt_tokens: int
    output_tokens: int


def read_requests(path: str) -> list[Asked]:
    """Rows of `request_id,arrived_at,num_prefill_tokens,num_decode_tokens`, in order of arrival."""
    with Path(path).open() as file:
        rows = csv.reader(file)
        next(rows)
        return [Asked(int(row[0]), float(row[1]), int(row[2]), int(row[3])) for row in rows]


def iteration_s(prompt_tokens: int, decodes: int, kv_entries: int) -> float:
    """Seconds of one iteration: the law of InferTuner's own speed runs, for peers that let their own be replaced."""
    first_s = PREFILL_S + PREFILL_TOKEN_S * prompt_tokens if prompt_tokens else DECODE_S
    return first_s + SEQUENCE_S * decodes + KV_ENTRY_S * kv_entries


def report(
    *, simulated_s: float, finished: int, e2e_mean_s: float, events: int | None = None, iterations: int | None = None
) -> None:
    """Print what was measured as the last line: CPU seconds of the event loop alone, requests finished, events."""
    print(
        json.dumps(
            {
                "simulated_s": simulated_s,
                "finished": finished,
                "e2e_mean_s": e2e_mean_s,
                "events": events,
                "iterations": iterations,
            }
        )
    )
