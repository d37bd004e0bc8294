"""Continuous batching by hand and by theory: small cases worked out on paper, and laws for large ones."""

from __future__ import annotations

import numpy as np
import pytest

from infertuner.latency.noise import NoiseRing
from infertuner.outcomes.statistics import interval
from infertuner.records import CacheLevel, CacheSizeColumns, Records, RequestColumns, Status, StepColumns
from infertuner.scenario.study import study_from
from infertuner.serving.clock import Clock
from infertuner.serving.cluster import Cluster
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.continuous.engine import ContinuousGpu
from infertuner.serving.request import Request
from infertuner.serving.routers.least_outstanding import LeastOutstanding
from infertuner.serving.routers.round_robin import RoundRobin
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import ClosedLoop, OpenLoop, PrefixBlocks, Requests
from infertuner.streams import Streams
from tests.serving_oracle import Law
from tests.test_serving_exactness import assert_same_requests


def second_a_step(batch):
    return [(0, 1.0)]


def law(corners=second_a_step, token_s=0.0, prefill_s=1.0):
    """A second each decode iteration, and one with prefill `prefill_s` plus so much a token."""

    class Simple(Law):
        def iteration_s(self, *, chunks, decodes, kv_entries):
            return prefill_s + token_s * sum(chunk.new_tokens for chunk in chunks)

    return Simple(corners)


def batcher(**keys):
    return Continuous(
        **({"kind": "continuous", "num_gpu_blocks": 1001, "block_size": 4, "max_num_batched_tokens": 256} | keys)
    )


def cluster(served_by, gpus=1, router=None, startup_s=0.0):
    return Cluster(gpus=gpus, router=router or RoundRobin(kind="round_robin"), batcher=served_by, startup_s=startup_s)


def asked(at_s, prompt_tokens, output_tokens, **keys):
    n = len(prompt_tokens)
    pacing = at_s if isinstance(at_s, ClosedLoop) else OpenLoop(np.array(at_s, dtype=float))
    columns = {"session_id": list(range(n)), "prefix_tokens": np.zeros(n, dtype=np.int64)} | keys
    return Requests(
        pacing=pacing, prompt_tokens=np.array(prompt_tokens), output_tokens=np.array(output_tokens), **columns
    )


def run(requests, served_by, latency=None, horizon_s=None, **keys):
    return Simulation(requests, cluster(served_by, **keys), latency or law()).run(horizon_s)


def test_an_arrival_joins_at_the_next_boundary():
    records = run(asked([0, 2.5], [5, 5], [6, 2]), batcher())
    # The first prefills until 1 and decodes; the second joins at 3, beside the first one's fourth token.
    assert list(records.requests.started_at_s) == [0, 3]
    assert list(records.requests.first_token_at_s) == [1, 4]
    assert list(records.requests.finished_at_s) == [6, 5]
    assert list(records.requests.batch_size) == [1, 2]
    assert list(records.requests.others_decode_s) == [0, pytest.approx(1 / 6)]
    rows = list(zip(records.segments.started_at_s, records.segments.iterations, records.segments.decodes, strict=True))
    assert rows == [(0, 1, 0), (1, 2, 1), (3, 1, 1), (4, 1, 2), (5, 1, 1)]


def test_an_arrival_on_a_boundary_takes_part_in_it():
    records = run(asked([0, 3.0], [5, 5], [6, 2]), batcher())
    assert list(records.requests.started_at_s) == [0, 3]


def test_requests_that_arrive_together_start_together():
    records = run(asked([1, 1, 1], [5, 5, 5], [1, 1, 1]), batcher())
    assert list(records.requests.first_token_at_s) == [2, 2, 2]


def test_a_long_prompt_is_cut_into_what_the_budget_leaves():
    records = run(asked([0, 0], [4, 20], [9, 1]), batcher(max_num_batched_tokens=8, max_num_seqs=8))
    assert list(records.segments.prefill_tokens)[:4] == [8, 7, 7, 2]
    assert list(records.segments.decodes)[:4] == [0, 1, 1, 1]
    assert list(records.requests.first_token_at_s) == [1, 4]


def test_prefill_first_lets_decodes_wait():
    served_by = PrefillFirst(kind="prefill_first", num_gpu_blocks=1000, block_size=4)
    records = run(asked([0, 2.5], [5, 5], [6, 2]), served_by)
    assert list(records.requests.first_token_at_s) == [1, 4]
    assert list(records.requests.finished_at_s) == [7, 5]


def test_the_last_to_come_gives_its_blocks_back_and_is_computed_again():
    served_by = batcher(num_gpu_blocks=5, enable_prefix_caching=False)
    records = run(asked([0, 0], [4, 4], [9, 9]), served_by)
    # Four blocks. Each prompt fills one and needs a second for its second token; at their sixth both want a third.
    assert list(records.requests.preemptions) == [0, 1]
    assert list(records.requests.first_token_at_s) == [1, 1]
    assert records.requests.finished_at_s[0] == 9
    assert list(records.stalls.request_id) == [1]
    assert (records.stalls.last_token_at_s[0], records.stalls.next_token_at_s[0]) == (5, 10)
    assert records.requests.finished_at_s[1] == 13


def test_what_a_preempted_request_computed_can_be_found_again():
    keys = {"num_gpu_blocks": 9}
    requests = asked([0, 0], [12, 12], [9, 9])
    forgetful = run(requests, batcher(enable_prefix_caching=False, **keys), law(token_s=0.1))
    mindful = run(requests, batcher(**keys), law(token_s=0.1))
    assert list(forgetful.requests.preemptions) == list(mindful.requests.preemptions) == [0, 1]
    assert mindful.requests.finished_at_s[1] < forgetful.requests.finished_at_s[1]


def test_named_blocks_are_computed_once():
    ids = np.array([1, 2, 3, 1, 2, 9])
    requests = asked([0, 50], [12, 13], [2, 2], blocks=PrefixBlocks(4, ids, np.array([0, 3, 6])))
    records = run(requests, batcher())
    assert list(records.requests.cached_tokens) == [0, 8]
    assert list(records.requests.cache_level) == [CacheLevel.MISS, CacheLevel.LOCAL]
    assert list(records.segments.prefill_tokens) == [12, 0, 5, 0]


def test_a_session_builds_on_its_answer_and_one_token_is_always_computed():
    keys = {"session_id": [7, 7, 7], "prefix_tokens": np.array([0, 16, 31])}
    records = run(asked([0, 50, 100], [8, 20, 32], [9, 9, 1], **keys), batcher())
    assert list(records.requests.cached_tokens) == [0, 16, 28]


def test_urgent_requests_overtake_and_are_preempted_last():
    served_by = batcher(num_gpu_blocks=5, scheduling_policy="priority", enable_prefix_caching=False)
    records = run(asked([0, 0], [4, 4], [9, 9], priority=np.array([1, 0])), served_by)
    assert list(records.requests.preemptions) == [1, 0]
    one_place = batcher(max_num_seqs=1, scheduling_policy="priority")
    records = run(asked([0, 0.1, 0.2], [4] * 3, [3] * 3, priority=np.array([0, 5, -5])), one_place)
    assert list(records.requests.started_at_s) == [0, 6, 3]


@pytest.mark.parametrize(
    ("keys", "prompt", "output", "status"),
    [
        ({"max_model_len": 20}, 10, 10, Status.FINISHED),
        ({"max_model_len": 20}, 11, 10, Status.REJECTED_LENGTH),
        ({"num_gpu_blocks": 6}, 10, 11, Status.FINISHED),
        ({"num_gpu_blocks": 6}, 11, 11, Status.REJECTED_KV),
        ({"num_gpu_blocks": 6, "watermark": 0.2}, 6, 12, Status.REJECTED_KV),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 256}, 200, 57, Status.REJECTED_LENGTH),
    ],
)
def test_what_can_never_run_is_rejected_at_the_door_and_the_user_goes_on(keys, prompt, output, status):
    closed = ClosedLoop(users=1, think_s=np.zeros(3))
    records = run(asked(closed, [prompt, 4, prompt], [output, 2, output]), batcher(**keys))
    assert list(records.requests.status) == [status, Status.FINISHED, status]


def test_many_rejections_held_at_the_router_do_not_recurse():
    n = 5000
    requests = asked(np.zeros(n), [4] + [4000] * (n - 1), [50] + [1000] * (n - 1))
    records = run(requests, batcher(), router=LeastOutstanding(kind="least_outstanding", max_outstanding=1))
    assert list(records.requests.status) == [Status.FINISHED] + [Status.REJECTED_KV] * (n - 1)


def test_nothing_is_served_before_startup():
    assert list(run(asked([0], [4], [2]), batcher(), startup_s=8.0).requests.first_token_at_s) == [9]


def test_the_horizon_ends_the_log_at_the_last_boundary():
    records = run(asked([0], [4], [50]), batcher(), horizon_s=5.5)
    assert list(records.requests.status) == [Status.UNFINISHED]
    assert list(records.segments.iterations) == [1, 4]
    assert records.segments.ended_at_s[-1] == 5


def test_an_iteration_under_way_at_the_horizon_is_not_logged():
    records = run(asked([0, 2], [4, 4], [50, 9]), batcher(), horizon_s=2.5)
    assert list(records.segments.ended_at_s) == [1, 2]
    assert np.isnan(records.requests.first_token_at_s[1])


@pytest.mark.parametrize("users", [1, 3, 20])
def test_closed_loops_jump_exactly(users):
    rng = np.random.default_rng(users)
    n = 120
    requests = asked(
        ClosedLoop(users=users, think_s=np.round(rng.exponential(2.0, n) * rng.integers(0, 2, n), 1)),
        rng.integers(1, 60, n),
        rng.integers(1, 40, n),
    )
    served_by = cluster(
        batcher(num_gpu_blocks=60, max_num_seqs=4), gpus=3, router=LeastOutstanding(kind="least_outstanding")
    )
    assert_same_requests(
        Simulation(requests, served_by, law()).run(), Simulation(requests, served_by, law(), max_jump=1).run()
    )


def noisy():
    latency = law()
    latency.noise = NoiseRing([900, 1000, 1300, 1050, 870])
    return latency


def engine(requests, served_by, max_jump=1 << 60, latency=None):
    """One GPU on a clock of its own, and the requests to submit to it."""
    records = Records(
        asked=requests, requests=RequestColumns(len(requests)), steps=StepColumns(), cache_sizes=CacheSizeColumns(),
        num_gpus=1, ended_at_s=0.0, events=0,
    )  # fmt: skip
    clock = Clock()
    gpu = ContinuousGpu(
        clock=clock, gpu_id=0, batcher=served_by, latency=latency or law(), records=records,
        answered=lambda request, gpu_id: None, max_jump=max_jump,
    )  # fmt: skip
    gpu.start(0.0)
    rows = zip(requests.prompt_tokens.tolist(), requests.prefix_tokens.tolist(), strict=True)
    return clock, gpu, records, [Request(row, 0.0, row, *tokens) for row, tokens in enumerate(rows)]


def test_readers_see_the_present_inside_a_jump():
    seen = []
    for max_jump in (1 << 60, 1):
        clock, gpu, _, (early, late) = engine(asked([0, 0], [6, 9], [40, 30]), batcher(), max_jump)
        gpu.submit(early)
        clock.run(until=1_500_000_000_000_000)
        gpu.submit(late)
        looks = []
        for at_s in np.arange(2, 45, 0.7):
            clock.run(until=round(at_s * 10**15))
            looks.append((gpu.outstanding, gpu.waiting, gpu.kv_blocks))
        seen.append(looks)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 10


def test_a_gpu_that_died_goes_on_counting_its_iterations_for_the_noise():
    ends = []
    for max_jump in (1 << 60, 1):
        clock, gpu, records, requests = engine(asked([0] * 2, [9] * 2, [40] * 2), batcher(), max_jump, noisy())
        gpu.submit(requests[0])
        clock.run(until=7 * 10**15)
        gpu.kill()
        gpu.start(0.0)
        gpu.submit(requests[1])
        clock.run()
        ends.append(records.requests.finished_at_s[1])
        assert sum(records.segments.iterations) == max(records.segments.iteration) + records.segments.iterations[-1]
    assert ends[0] == ends[1]


def test_a_dead_gpu_gives_all_requests_back_and_can_serve_again():
    clock, gpu, records, requests = engine(asked([0] * 4, [9] * 4, [40] * 4), batcher(max_num_seqs=2))
    for request in requests:
        gpu.submit(request)
    clock.run(until=5 * 10**15 + 1)
    assert gpu.kill() == requests
    assert (gpu.outstanding, gpu.kv_blocks) == (0, 0)
    assert sum(records.segments.iterations) == 5
    gpu.start(0.0)
    gpu.submit(requests[2])
    clock.run()
    assert records.requests.finished_at_s[2] == pytest.approx(5 + 40)


def test_a_cache_section_is_refused(tiny):
    tiny["cluster"]["batcher"] = {"kind": "continuous", "num_gpu_blocks": 100}
    tiny["cache"] = {"kind": "two_level", "sizing": {"kind": "static", "entries": 3}, "remote_latency_s": 0.1}
    with pytest.raises(Exception, match="remove cache, or use cache kind 'tiered'"):
        study_from(tiny)


@pytest.mark.parametrize("kind", [Continuous, PrefillFirst])
def test_a_budget_below_the_running_requests_is_refused(kind):
    name = "continuous" if kind is Continuous else "prefill_first"
    with pytest.raises(ValueError, match="max_num_batched_tokens: is 8, must be max_num_seqs"):
        kind(kind=name, num_gpu_blocks=10, max_num_seqs=9, max_num_batched_tokens=8)


def mean_wait_s(replication, load, n=8_000, warmup=500):
    rng = Streams(2026, replication).get("arrivals")
    requests = asked(np.cumsum(rng.exponential(1 / load, n)), np.ones(n, dtype=int), np.full(n, 10))
    records = run(requests, batcher(max_num_seqs=1), law(lambda batch: [(0, 0.1)], prefill_s=0.1))
    waits_s = np.array(records.requests.started_at_s) - np.array(records.requests.arrived_at_s)
    return float(waits_s[warmup:].mean())


def test_one_at_a_time_with_constant_steps_is_m_d_1():
    """Pollaczek-Khinchine; an arrival at an idle GPU starts at once, and one at a busy GPU at a boundary anyway."""
    found = interval([mean_wait_s(replication, 0.7) for replication in range(10)], confidence=0.999)
    assert found.ci_low <= 0.7 / (2 * (1 - 0.7)) <= found.ci_high


def test_many_at_a_time_sharing_a_processor_is_m_m_1_ps():
    """An iteration as long as its batch shares the processor equally: mean time in system 1 / (1 - load) of M/M/1-PS.

    Answers of geometric length stand for exponential work; steps are 1/400 of a mean service, so that waiting for a
    boundary and the discreteness of lengths stay below the interval's width.
    """
    load, tokens, n = 0.6, 400, 3000

    def one(replication):
        streams = Streams(7, replication)
        lengths = streams.get("lengths").geometric(1 / tokens, n)
        requests = asked(np.cumsum(streams.get("arrivals").exponential(1 / load, n)), np.ones(n, dtype=int), lengths)
        latency = Law(lambda batch: [(0, batch / tokens)])
        latency.iteration_s = lambda *, chunks, decodes, kv_entries: (decodes + len(chunks)) / tokens
        served_by = batcher(num_gpu_blocks=10**6, max_num_seqs=10**4, max_num_batched_tokens=10**4)
        records = run(requests, served_by, latency)
        stays_s = np.array(records.requests.finished_at_s) - np.array(records.requests.arrived_at_s)
        return float(stays_s[300:].mean())

    found = interval([one(replication) for replication in range(10)], confidence=0.999)
    assert found.ci_low <= 1 / (1 - load) <= found.ci_high
    assert found.ci_high - found.ci_low < 0.35 * found.mean


def test_capacity_in_closed_form_is_where_the_queue_begins_to_grow():
    """With S places, outputs of `o` tokens and prompts of `p`, S requests take o - 1 decode and S prefill iterations.

    One slot is free every (o - 1) / S iterations, so an iteration with prefill replaces a decode one for each request:
    S requests last o iterations each, of which S carry a prompt.
    """
    places, prompt, output = 16, 64, 65
    step_s, chunk_s = 0.01, 0.004
    latency = law(lambda batch: [(0, step_s)], token_s=chunk_s / prompt, prefill_s=step_s)
    capacity_per_s = places / (output * step_s + places * chunk_s)

    def throughput(per_s, n=4000):
        requests = asked(np.arange(n) / per_s, np.full(n, prompt), np.full(n, output))
        records = run(requests, batcher(max_num_seqs=places), latency)
        finished_at_s = np.array(records.requests.finished_at_s)
        return (n - 1) / (finished_at_s[-1] - finished_at_s[0])

    assert throughput(0.98 * capacity_per_s) == pytest.approx(0.98 * capacity_per_s, rel=0.005)
    assert throughput(1.5 * capacity_per_s) == pytest.approx(capacity_per_s, rel=0.02)
