"""Adapter: InferTuner itself. The whole process includes reading the file, all metrics and the table of requests."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from shared import (
    BLOCK_SIZE,
    DECODE_S,
    KV_BLOCKS,
    KV_ENTRY_S,
    MAX_NUM_BATCHED_TOKENS,
    MAX_NUM_SEQS,
    SEQUENCE_S,
    iteration_s,
    report,
)

from infertuner.latency.lines import DecodeLine
from infertuner.latency.model import Chunk
from infertuner.outcomes.frames import requests_frame
from infertuner.outcomes.metrics import summarise
from infertuner.serving.cluster import Cluster
from infertuner.serving.continuous.config import Continuous
from infertuner.serving.routers.round_robin import RoundRobin
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import OpenLoop, Requests


class Law:
    """The shared law as a latency model."""

    outside_calls = 0
    noise = None

    def __init__(self) -> None:
        self._lines: dict[int, DecodeLine] = {}

    def prefill_s(self, *, batch_size: int, new_tokens: int, cached_tokens: int) -> float:
        """Static batches do not occur here, but the protocol has them."""
        return iteration_s(batch_size * new_tokens, 0, 0)

    def decode_s(self, *, batch_size: int, context_tokens: int, steps: int) -> float:
        """Seconds of `steps` iterations of a constant batch."""
        first = batch_size * context_tokens
        return sum(iteration_s(0, batch_size, first + batch_size * step) for step in range(steps))

    def iteration_s(self, *, chunks: Sequence[Chunk], decodes: int, kv_entries: int) -> float:
        """Seconds of an iteration with prefill."""
        return iteration_s(sum([chunk.new_tokens for chunk in chunks]), decodes, kv_entries)

    def decode_line(self, batch_size: int) -> DecodeLine:
        """Seconds of an iteration without."""
        line = self._lines.get(batch_size)
        if line is None:
            at_0_s, entries = DECODE_S + SEQUENCE_S * batch_size, KV_BLOCKS * BLOCK_SIZE
            corners = [(0, at_0_s), (entries, at_0_s + KV_ENTRY_S * entries)]
            line = self._lines[batch_size] = DecodeLine(batch_size, corners, low=0, high=entries)
        return line

    def note_outside(self, *, batch_size: int, kv_entries: int, steps: int) -> None:
        """The law holds everywhere."""


def main(requests: str, gpus: int, out: Path) -> None:
    """Simulate and print the report."""
    rows = pd.read_csv(requests)
    n = len(rows)
    asked = Requests(
        pacing=OpenLoop(rows["arrived_at"].to_numpy()),
        session_id=range(n),
        prompt_tokens=rows["num_prefill_tokens"].to_numpy(),
        prefix_tokens=rows["num_prefill_tokens"].to_numpy() * 0,
        output_tokens=rows["num_decode_tokens"].to_numpy(),
    )
    batcher = Continuous(
        kind="continuous",
        max_num_seqs=MAX_NUM_SEQS,
        max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS,
        block_size=BLOCK_SIZE,
        num_gpu_blocks=KV_BLOCKS,
    )
    started = time.process_time()
    records = Simulation(asked, Cluster(gpus=gpus, router=RoundRobin(kind="round_robin"), batcher=batcher), Law()).run()
    simulated_s = time.process_time() - started
    summarise(records, 0.0)
    frame = requests_frame(records)
    frame.to_parquet(out / "requests.parquet")
    finished = frame["e2e_s"].dropna()
    report(
        simulated_s=simulated_s,
        finished=len(finished),
        e2e_mean_s=float(finished.mean()),
        events=records.events,
        iterations=sum(records.segments.iterations),
    )


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        main(sys.argv[1], int(sys.argv[2]), Path(name))
