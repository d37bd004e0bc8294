"""Adapter: Vidur, Sarathi scheduler (chunked prefill), with our latency law in place of its random forests.

Its own predictor would add training or loading of about 1 GB of tables; leaving it out can only help it here.
Metrics and chrome trace are on, as its command has them; plots are off, since its default needs a browser.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from shared import BLOCK_SIZE, KV_BLOCKS, MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS, iteration_s, report
from vidur.config import SimulationConfig
from vidur.entities import ExecutionTime
from vidur.events.base_event import BaseEvent
from vidur.scheduler.global_scheduler import base_global_scheduler
from vidur.simulator import Simulator

batches = count()


class Law:
    """Answers Vidur's one question about a batch; the milliseconds go into its field for scheduling."""

    def get_execution_time(self, batch: object, pipeline_stage: int) -> ExecutionTime:
        """What Vidur's predictors return."""
        next(batches)
        prompt_tokens = batch.num_prefill_tokens
        decoding = [request.num_processed_tokens for request in batch.requests if request.is_prefill_complete]
        seconds = iteration_s(prompt_tokens, len(decoding), sum(decoding))
        return ExecutionTime(0, *[0.0] * 14, 1000 * seconds, *[0.0] * 4)


def main(requests: str, gpus: str, out: str) -> None:
    """Simulate and print the report."""
    base_global_scheduler.ExecutionTimePredictorRegistry = SimpleNamespace(get=lambda *_, **__: Law())
    options = {
        "cluster_config_num_replicas": gpus,
        "global_scheduler_config_type": "round_robin",
        "replica_scheduler_config_type": "sarathi",
        "sarathi_scheduler_config_chunk_size": MAX_NUM_BATCHED_TOKENS,
        "sarathi_scheduler_config_batch_size_cap": MAX_NUM_SEQS,
        "sarathi_scheduler_config_block_size": BLOCK_SIZE,
        "sarathi_scheduler_config_num_blocks": KV_BLOCKS,
        "request_generator_config_type": "trace_replay",
        "trace_request_generator_config_trace_file": requests,
        "trace_request_generator_config_max_tokens": KV_BLOCKS,
        "metrics_config_output_dir": f"{out}/output",
        "metrics_config_cache_dir": f"{out}/cache",
    }
    sys.argv[1:] = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    sys.argv += ["--no-metrics_config_store_plots", "--log_level", "warning"]
    simulator = Simulator(SimulationConfig.create_from_cli_args())
    asked = [event._request for _, event in simulator._event_queue]
    started = time.process_time()
    simulator.run()
    simulated_s = time.process_time() - started
    finished = [request.completed_at - request.arrived_at for request in asked if request.completed]
    report(
        simulated_s=simulated_s,
        finished=len(finished),
        e2e_mean_s=sum(finished) / len(finished),
        events=BaseEvent.generate_id() - 1,
        iterations=next(batches),
    )


if __name__ == "__main__":
    folder = TemporaryDirectory()  # not in a with-statement: Vidur writes its output when the interpreter exits
    main(*sys.argv[1:3], folder.name)
