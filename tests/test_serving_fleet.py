"""GPUs that fail, are drained, differ and are added: hand cases, and what must hold whatever happens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infertuner.errors import ScenarioError
from infertuner.latency.laws import PerToken
from infertuner.outcomes.fleet import present_s
from infertuner.outcomes.window import Window
from infertuner.records import GpuState, Status
from infertuner.serving.autoscaler import Threshold
from infertuner.serving.batchers import FixedBatch, NoBatching, TimeoutBatch
from infertuner.serving.cluster import Cluster, Group
from infertuner.serving.continuous.config import Continuous
from infertuner.serving.outages import Planned, PlannedOutages, RandomOutages
from infertuner.serving.routers.affinity import PrefixAffinity, SessionAffinity
from infertuner.serving.routers.least_kv import LeastKv
from infertuner.serving.routers.least_outstanding import LeastOutstanding
from infertuner.serving.routers.round_robin import RoundRobin
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import ClosedLoop, OpenLoop, Requests
from infertuner.streams import Streams

SECOND = PerToken(kind="per_token", base_s=1.0, per_output_token_s=1.0)
"""A second of prefill and a second for each further token, however many sequences decode."""
ROUND = RoundRobin(kind="round_robin")


def asked(arrived_at_s, output_tokens, pacing=None):
    n = len(output_tokens)
    return Requests(
        pacing=pacing or OpenLoop(np.array(arrived_at_s, dtype=float)),
        session_id=[i % 3 for i in range(n)],
        prompt_tokens=np.full(n, 4),
        prefix_tokens=np.zeros(n, dtype=np.int64),
        output_tokens=np.array(output_tokens),
    )


def engine(**knobs):
    keys = {"num_gpu_blocks": 101, "max_num_seqs": 4, "max_num_batched_tokens": 64, "block_size": 4}
    return Continuous(kind="continuous", **{**keys, **knobs})


ONE = NoBatching(kind="none")


def planned(*events):
    return PlannedOutages(kind="planned", events=[Planned(**event) for event in events])


def run(workload, batcher, *, gpus=1, router=ROUND, horizon_s=None, seed=0, **cluster):
    built = Cluster(gpus=gpus, router=router, batcher=batcher, **cluster)
    return Simulation(workload, built, SECOND, streams=Streams(seed)).run(horizon_s)


def states(records):
    fleet = records.fleet
    return list(zip(fleet.at_s, fleet.gpu_id, map(GpuState, fleet.state), strict=True))


@pytest.mark.parametrize("batcher", [ONE, engine()], ids=["static", "continuous"])
def test_a_request_of_a_dead_gpu_begins_again_elsewhere(batcher):
    """Request 0 runs on GPU 0 until it dies at 2.5 s; GPU 1 is free from 2 s on and takes it from the beginning."""
    records = run(asked([0, 0], [5, 2]), batcher, gpus=2, outages=planned({"gpu_id": 0, "at_s": 2.5}))
    requests = records.requests
    assert list(requests.status) == [Status.FINISHED] * 2
    assert list(requests.retries) == [1, 0]
    assert list(requests.gpu_id) == [1, 1]
    assert list(requests.routed_at_s) == [2.5, 0]
    assert list(requests.first_token_at_s) == [3.5, 1]
    assert list(requests.finished_at_s) == [7.5, 2]


@pytest.mark.parametrize("batcher", [ONE, engine()], ids=["static", "continuous"])
def test_without_retries_a_request_fails_with_its_gpu(batcher):
    records = run(asked([0, 0], [5, 2]), batcher, gpus=2, max_retries=0, outages=planned({"gpu_id": 0, "at_s": 2.5}))
    assert list(records.requests.status) == [Status.FAILED, Status.FINISHED]
    assert math.isnan(records.requests.finished_at_s[0])


@pytest.mark.parametrize("batcher", [ONE, engine()], ids=["static", "continuous"])
def test_a_gpu_comes_back_after_repair_and_start_up(batcher):
    """Down at 2.5 s for 4 s, then 3 s of start-up: the held request runs from 9.5 s on."""
    records = run(asked([0], [5]), batcher, startup_s=3.0, outages=planned({"gpu_id": 0, "at_s": 4.5, "down_s": 2.0}))
    assert list(records.requests.finished_at_s) == [14.5]
    assert states(records) == [
        (0, 0, GpuState.SERVING), (4.5, 0, GpuState.DOWN), (6.5, 0, GpuState.STARTING), (9.5, 0, GpuState.SERVING),
    ]  # fmt: skip


@pytest.mark.parametrize("batcher", [ONE, engine()], ids=["static", "continuous"])
def test_a_drained_gpu_finishes_what_it_holds(batcher):
    outages = planned({"gpu_id": 0, "at_s": 1.5, "drained": True})
    records = run(asked([0, 0, 2, 2, 9], [5, 2, 2, 2, 1]), batcher, gpus=2, outages=outages)
    assert list(records.requests.retries) == [0] * 5
    assert list(records.requests.gpu_id) == [0, 1, 1, 1, 1]
    assert [(at_s, state) for at_s, gpu_id, state in states(records) if gpu_id == 0] == [
        (0, GpuState.SERVING), (1.5, GpuState.DRAINING), (5, GpuState.DOWN),
    ]  # fmt: skip


def test_a_gpu_that_dies_while_draining_loses_what_is_left_and_may_return():
    events = ({"gpu_id": 0, "at_s": 1.5, "drained": True}, {"gpu_id": 0, "at_s": 2.5, "down_s": 1.0})
    records = run(asked([0, 9], [5, 1]), engine(), outages=planned(*events))
    assert list(records.requests.finished_at_s) == [8.5, 10]
    assert list(records.requests.retries) == [1, 0]


@pytest.mark.parametrize("batcher", [ONE, engine()], ids=["static", "continuous"])
def test_when_the_last_gpu_is_gone_for_ever_requests_fail(batcher):
    records = run(asked([0, 0, 9], [5, 5, 5]), batcher, outages=planned({"gpu_id": 0, "at_s": 2.5}), max_retries=3)
    assert list(records.requests.status) == [Status.FAILED] * 3


def test_users_of_a_closed_loop_learn_of_a_failure_and_go_on():
    pacing = ClosedLoop(users=1, think_s=np.zeros(3))
    outages = planned({"gpu_id": 0, "at_s": 0.5, "down_s": 1.0})
    records = run(asked([], [1, 1, 1], pacing), engine(), outages=outages, max_retries=0)
    assert list(records.requests.status) == [Status.FAILED, Status.FINISHED, Status.FINISHED]
    assert list(records.requests.arrived_at_s) == [0, 0.5, 2.5]


def test_groups_have_their_own_speed_and_batcher():
    fast = PerToken(kind="per_token", base_s=0.25, per_output_token_s=0.25)
    own = engine(block_size=8)
    records = run(asked([0, 0], [2, 2]), engine(), groups=[Group(gpus=1, latency=fast, batcher=own, startup_s=1.0)])
    assert list(records.requests.finished_at_s) == [2.0, 1.5]
    assert records.kv_block_tokens == [4, 8]


def test_the_autoscaler_adds_gpus_after_their_start_up_and_lets_them_go():
    scaler = Threshold(
        kind="threshold",
        min_gpus=1,
        max_gpus=3,
        scale_up_above=2,
        scale_down_below=1,
        startup_s=2.0,
        interval_s=1.0,
        cooldown_s=3.0,
    )
    workload = asked([0.5] * 6 + [30.0], [4] * 6 + [1])
    records = run(
        workload, ONE, router=LeastOutstanding(kind="least_outstanding", max_outstanding=1), autoscaler=scaler
    )
    seen = states(records)
    assert seen[:5] == [
        (0, 0, GpuState.SERVING), (1, 1, GpuState.STARTING), (1, 2, GpuState.STARTING),
        (3, 1, GpuState.SERVING), (3, 2, GpuState.SERVING),
    ]  # fmt: skip
    assert {state for _, _, state in seen[5:]} == {GpuState.DRAINING, GpuState.DOWN}
    assert all(status == Status.FINISHED for status in records.requests.status)
    there_s = present_s(records, Window(0, records.ended_at_s))
    gone = {gpu_id: at_s for at_s, gpu_id, state in seen if state is GpuState.DOWN}
    came = {0: 0.0, 1: 1.0, 2: 1.0}
    assert there_s.tolist() == [gone.get(gpu_id, records.ended_at_s) - came[gpu_id] for gpu_id in range(3)]


@pytest.mark.parametrize("router", [
    ROUND, LeastOutstanding(kind="least_outstanding"), LeastOutstanding(kind="least_outstanding", max_outstanding=2),
    LeastKv(kind="least_kv"), SessionAffinity(kind="session_affinity"), PrefixAffinity(kind="prefix_affinity"),
], ids=lambda router: router.kind)  # fmt: skip
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_every_request_ends_in_exactly_one_state(router, data):
    """Failures, drains, an autoscaler, requests too large, closed and open loops: nothing is lost or answered twice."""
    n, seed = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    gpus = data.draw(st.integers(1, 4))
    pacing = data.draw(st.sampled_from([None, ClosedLoop(users=3, think_s=np.full(n, 0.5))]))
    workload = asked(np.sort(rng.integers(0, 30, n)), rng.integers(1, 60, n), pacing)
    outages = data.draw(st.sampled_from([
        RandomOutages(kind="random", mean_uptime_s=20.0, mean_down_s=5.0),
        planned({"gpu_id": 0, "at_s": 5.0}, {"gpu_id": gpus - 1, "at_s": 9.0, "down_s": 3.0, "drained": True}),
    ]))  # fmt: skip
    scaler = data.draw(st.sampled_from([None, Threshold(
        kind="threshold", min_gpus=1, max_gpus=6, scale_up_above=3, scale_down_below=1, startup_s=1.5,
        interval_s=2.0, cooldown_s=4.0,
    )]))  # fmt: skip
    static = [TimeoutBatch(kind="timeout", max_batch_size=3, timeout_s=1.0), ONE]
    batcher = data.draw(st.sampled_from([engine(), engine(num_gpu_blocks=14, max_model_len=50), *static]))
    if router.kind == "least_kv" and batcher in static:
        batcher = engine()
    records = run(
        workload, batcher, gpus=gpus, router=router, seed=seed, startup_s=1.5, outages=outages, autoscaler=scaler,
        max_retries=data.draw(st.integers(0, 2)),
    )  # fmt: skip
    requests = records.requests
    finished = ~np.isnan(np.asarray(requests.finished_at_s))
    status = np.asarray(requests.status)
    assert np.array_equal(status == Status.FINISHED, finished)
    assert Status.UNFINISHED not in status
    assert np.all(np.asarray(requests.retries) <= 2)
    parts_s = sum(np.asarray(c) for c in (requests.prefill_s, requests.others_prefill_s, requests.others_decode_s))
    ttft_s = np.asarray(requests.first_token_at_s) - np.asarray(requests.arrived_at_s)
    queued_s = np.asarray(requests.started_at_s) - np.asarray(requests.arrived_at_s)
    np.testing.assert_allclose((queued_s + parts_s)[finished], ttft_s[finished], atol=1e-9)
    again = run(
        workload, batcher, gpus=gpus, router=router, seed=seed, startup_s=1.5, outages=outages, autoscaler=scaler,
        max_retries=99,
    )  # fmt: skip
    assert Status.FAILED not in again.requests.status or scaler is None


def test_contradictions_are_refused():
    scaler = Threshold(kind="threshold", min_gpus=3, max_gpus=4, scale_up_above=2, scale_down_below=1, startup_s=0.0)
    with pytest.raises(ValueError, match="must include the 2 GPUs"):
        Cluster(gpus=2, router=ROUND, batcher=ONE, autoscaler=scaler)
    with pytest.raises(ValueError, match="gpu_id is 2, must be below the 2"):
        Cluster(gpus=2, router=ROUND, batcher=ONE, outages=planned({"gpu_id": 2, "at_s": 1.0}))
    with pytest.raises(ValueError, match="batcher kind 'none' has none"):
        Cluster(gpus=2, router=LeastKv(kind="least_kv"), batcher=ONE)
    with pytest.raises(ValueError, match="may wait for ever"):
        Cluster(gpus=1, router=ROUND, batcher=FixedBatch(kind="fixed", max_batch_size=2), outages=planned())


def test_a_group_with_noise_of_its_own_is_refused(tmp_path):
    class Noisy(PerToken):
        noise = object()

        def model(self, streams):
            return self

    own = Noisy(kind="per_token", per_output_token_s=1.0)
    with pytest.raises(ScenarioError, match=r"cluster\.groups\.latency\.noise"):
        run(asked([0], [1]), ONE, groups=[Group(gpus=1, latency=own)])
