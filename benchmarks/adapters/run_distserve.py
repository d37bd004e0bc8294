"""Adapter: DistServe's simulator (`simdistserve`), its vLLM cluster, with our latency law in place of its fit.

Its router prefers the first worker whenever prefill queues are equally short, so most requests would go there; round
robin replaces it, so that every tool has the same work to do.
Post-processing, counted into the whole, is the three tables its own command always makes.
"""

from __future__ import annotations

import sys
import time
from itertools import cycle

import simpy
from shared import Asked, iteration_s, read_requests, report
from simdistserve.base import organize_data, worker
from simdistserve.base.scheduler import put_requests_with_interarrivals
from simdistserve.base.workload import convert_absolutearrival_to_interarrival, convert_pd_pair_to_request
from simdistserve.clusters.vllm import VLLMCluster


def prefill_ms(*_: object, prefill_len_list: list[int], **__: object) -> float:
    """Our law where the peer asks for its own."""
    return 1000 * iteration_s(sum(prefill_len_list), 0, 0)


def decode_ms(num_requests: int, *_: object, token_generated_list: list[int], **__: object) -> float:
    """Our law where the peer asks for its own."""
    return 1000 * iteration_s(0, num_requests, sum(token_generated_list))


def main(asked: list[Asked], gpus: int) -> None:
    """Simulate and print the report."""
    worker.get_prefill_time, worker.get_decode_time = prefill_ms, decode_ms
    worker.Worker.add_ray_overhead = lambda *_: 0
    started = time.process_time()
    env = simpy.Environment()
    cluster = VLLMCluster(env, N_instance=gpus, worker_configs={"TP_Prefill": 1, "TP_Decode": 1, "engine_type": "vllm"})
    requests = convert_pd_pair_to_request([(row.prompt_tokens, row.output_tokens) for row in asked])
    turns = cycle([(one[0], one[0].prefill_queue) for one in cluster.instances])
    cluster.scheduler._find_best_worker_and_queue = lambda *_, **__: next(turns)
    cluster.run()
    gaps_ms = convert_absolutearrival_to_interarrival([row.arrived_at_s for row in asked])
    put_requests_with_interarrivals(env, cluster.scheduler, gaps_ms, requests)
    env.run()
    simulated_s = time.process_time() - started
    table = organize_data.organize_request_df(requests)
    latency = organize_data.calculate_per_request_latency(
        organize_data.organize_request_event_df(requests), table.output_lens
    )
    steps = sum(row[1] != "wait" for one in cluster.get_all_workers() for row in one.log)
    report(
        simulated_s=simulated_s,
        finished=len(latency),
        e2e_mean_s=latency.total_latency.mean() / 1000,
        events=next(env._eid),
        iterations=steps,
    )


if __name__ == "__main__":
    main(read_requests(sys.argv[1]), int(sys.argv[2]))
