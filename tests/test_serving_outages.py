"""Clusters that change, tried hard: what fails together, while starting or draining, and jumps against single steps."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from infertuner.errors import InferTunerError
from infertuner.latency.laws import PerToken
from infertuner.outcomes.latencies import ttft_parts
from infertuner.outcomes.metrics import summarise
from infertuner.records import GpuState, Status
from infertuner.scenario.study import study_from
from infertuner.serving.autoscaler import Threshold
from infertuner.serving.batchers import TimeoutBatch
from infertuner.serving.cluster import Cluster, Group
from infertuner.serving.outages import Planned, PlannedOutages, RandomOutages
from infertuner.serving.routers.least_outstanding import LeastOutstanding
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import ClosedLoop
from infertuner.streams import Streams
from tests.conftest import ROOT
from tests.test_serving_exactness import (
    CONFIGURATIONS,
    assert_same_requests,
    random_batcher,
    random_cluster,
    random_law,
    random_requests,
)
from tests.test_serving_fleet import ONE, asked, engine, planned, run, states

UP, DOWN = GpuState.SERVING, GpuState.DOWN


def autoscaler(**knobs):
    keys = {"min_gpus": 1, "scale_up_above": 1, "scale_down_below": 0.4, "startup_s": 1.0, "interval_s": 2.0}
    return Threshold(kind="threshold", **{**keys, "max_gpus": 2, "cooldown_s": 0.0, **knobs})


@pytest.mark.parametrize("batcher", [ONE, engine()], ids=["static", "continuous"])
def test_what_fails_together_costs_a_request_one_attempt(batcher):
    """Without this the request of GPU 0 would be sent to GPU 1, which dies at the same instant, and so to its end."""
    together = planned(*({"gpu_id": gpu_id, "at_s": 2.5} for gpu_id in range(2)))
    records = run(asked([0, 0, 0], [5, 5, 5]), batcher, gpus=3, outages=together)
    assert list(records.requests.retries) == [1, 1, 0]
    assert list(records.requests.status) == [Status.FINISHED] * 3


@pytest.mark.parametrize("drained", [False, True])
def test_an_outage_of_a_gpu_that_is_starting_stops_the_start(drained):
    events = ({"gpu_id": 0, "at_s": 1, "down_s": 1}, {"gpu_id": 0, "at_s": 3, "down_s": 2, "drained": drained})
    records = run(asked([0], [2]), engine(), startup_s=4.0, outages=planned(*events))
    assert states(records) == [
        (0, 0, UP), (1, 0, DOWN), (2, 0, GpuState.STARTING), (3, 0, DOWN), (5, 0, GpuState.STARTING), (9, 0, UP),
    ]  # fmt: skip
    assert list(records.requests.finished_at_s) == [11]


def test_a_gpu_drained_and_failing_at_one_instant_fails_once():
    events = ({"gpu_id": 0, "at_s": 2, "down_s": 1, "drained": True}, {"gpu_id": 0, "at_s": 2, "down_s": 3})
    records = run(asked([5], [2]), engine(), outages=planned(*events))
    assert states(records) == [
        (0, 0, UP), (2, 0, GpuState.DRAINING), (2, 0, DOWN), (5, 0, GpuState.STARTING), (5, 0, UP),
    ]  # fmt: skip


def test_a_repair_does_not_bring_back_what_the_autoscaler_has_let_go_since():
    """GPU 1 fails at 3 s for 20 s, is started again at 4 s for the load and let go later; at 23 s nobody wants it."""
    outages = planned({"gpu_id": 1, "at_s": 3, "down_s": 20})
    workload = asked([0, 0, 0, 0, 40], [4, 4, 4, 4, 1])
    records = run(workload, ONE, gpus=2, outages=outages, autoscaler=autoscaler())
    mine = [(at_s, state) for at_s, gpu_id, state in states(records) if gpu_id == 1]
    assert [state for _, state in mine] == [UP, DOWN, GpuState.STARTING, UP, GpuState.DRAINING, DOWN]
    assert mine[-1][0] < 23


@pytest.mark.parametrize("batcher", [ONE, TimeoutBatch(kind="timeout", max_batch_size=2, timeout_s=0.0)])
def test_a_batch_that_dies_was_work_until_then_and_has_no_first_token(batcher):
    """1 s of prefill and 4 s of decode, cut at 0.5 s and 3 s; each GPU serves nothing else."""
    events = ({"gpu_id": 0, "at_s": 0.5}, {"gpu_id": 1, "at_s": 3})
    records = run(asked([0, 0, 0], [5, 5, 5]), batcher, gpus=3, outages=planned(*events), max_retries=0)
    steps = sorted(zip(records.steps.gpu_id, records.steps.prefill_s, records.steps.decode_s, strict=True))
    assert steps == [(0, 0.5, 0.0), (1, 1.0, 2.0), (2, 1.0, 4.0)]
    assert [math.isnan(at_s) for at_s in records.requests.first_token_at_s] == [True, False, False]
    assert summarise(records, 0.0)["utilization_ratio"] == pytest.approx(1.0)


@pytest.mark.parametrize("drained", [False, True])
def test_the_prefix_cache_goes_with_its_gpu(drained):
    """Three requests of one session; the GPU is away between the second and the third."""
    workload = replace(
        asked([0, 5, 15], [1, 1, 1]), session_id=[0, 0, 0], prompt_tokens=np.full(3, 20),
        prefix_tokens=np.full(3, 16),
    )  # fmt: skip
    outages = planned({"gpu_id": 0, "at_s": 10, "down_s": 1, "drained": drained})
    assert list(run(workload, engine()).requests.cached_tokens) == [0, 16, 16]
    assert list(run(workload, engine(), outages=outages).requests.cached_tokens) == [0, 16, 0]


def test_kv_usage_counts_the_blocks_that_a_jump_has_not_yet_taken():
    """Four tokens of prompt and 16 of output in one jump: blocks rise from 1 to 5 of the 100, about 3 on average."""
    records = run(asked([0], [17]), engine())
    assert summarise(records, 0.0)["kv_usage_mean_ratio"] == pytest.approx(0.03, abs=0.003)
    assert summarise(records, 0.0)["kv_usage_max_ratio"] == 0.05


def test_random_outages_of_a_gpu_do_not_depend_on_the_others():
    outages = RandomOutages(kind="random", mean_uptime_s=20.0, mean_down_s=5.0)

    def first_of_gpu_0(gpus):
        mine = (outage for outage in outages.begin(gpus, Streams(7)) if outage.gpu_id == 0)
        return list(itertools.islice(mine, 5))

    assert first_of_gpu_0(1) == first_of_gpu_0(4)


def test_what_could_never_serve_or_be_measured_is_refused(tiny):
    often = RandomOutages(kind="random", mean_uptime_s=20.0, mean_down_s=5.0)
    with pytest.raises(ValueError, match="mean_uptime_s: is 20 s, must be more than the 60 s"):
        Cluster(gpus=1, router=LeastOutstanding(kind="least_outstanding"), batcher=ONE, startup_s=60.0, outages=often)
    tiny["cache"] = {
        "kind": "two_level", "sizing": {"kind": "static", "entries": 5}, "remote_latency_s": "1ms",
        "remote_bandwidth_bytes_per_s": "100MB/s", "kv_bytes_per_token": "6KiB",
    }  # fmt: skip
    study_from(tiny, ROOT)
    tiny["cluster"]["outages"] = {"kind": "planned", "events": []}
    with pytest.raises(InferTunerError, match="belong to GPUs that stay"):
        study_from(tiny, ROOT)


def random_changes(rng, gpus, span_s):
    """Outages at any femtosecond or on a grid, and perhaps an autoscaler."""
    outages, scaler = None, None
    if rng.random() < 0.3:
        outages = RandomOutages(kind="random", mean_uptime_s=0.3 * span_s, mean_down_s=0.1 * span_s)
    elif rng.random() < 0.9:
        grid = span_s / 10 if rng.random() < 0.5 else None
        instants_s = rng.integers(0, 10, 6) * grid if grid else rng.uniform(0, span_s, 6)
        outages = PlannedOutages(kind="planned", events=[
            Planned(
                gpu_id=int(rng.integers(gpus)), at_s=float(at_s), drained=bool(rng.integers(2)),
                down_s=None if rng.random() < 0.2 else float(rng.choice([1e-15, 0.01 * span_s, 0.2 * span_s])),
            )
            for at_s in instants_s
        ])  # fmt: skip
    if rng.random() < 0.4:
        scaler = autoscaler(
            min_gpus=int(rng.choice([1, gpus])), max_gpus=int(rng.choice([gpus, gpus + 2])),
            scale_up_above=float(rng.choice([0.5, 3])), scale_down_below=float(rng.choice([0, 0.4])),
            startup_s=float(rng.choice([0, 0.05 * span_s])), interval_s=0.05 * span_s,
            cooldown_s=float(rng.choice([0, 0.1 * span_s])),
        )  # fmt: skip
    return {"outages": outages, "autoscaler": scaler, "max_retries": int(rng.choice([0, 1, 99]))}


def random_changing_case(seed):
    rng = np.random.default_rng([seed, 1])
    batcher = random_batcher(rng)
    workload, plain, law = random_requests(rng, batcher.block_size), random_cluster(rng, batcher), random_law(rng)
    if rng.random() < 0.3:
        think_s = rng.exponential(0.05, len(workload))
        workload = replace(workload, pacing=ClosedLoop(users=int(rng.integers(1, 6)), think_s=think_s))
    if rng.random() < 0.2:
        batcher = [ONE, TimeoutBatch(kind="timeout", max_batch_size=3, timeout_s=0.05)][rng.integers(2)]
        law = PerToken(kind="per_token", base_s=0.01, per_output_token_s=0.005)
    groups = [Group(gpus=1, startup_s=0.02)] if rng.random() < 0.3 else []
    changes = random_changes(rng, plain.gpus + len(groups), span_s=float(rng.choice([0.3, 1.0, 5.0])))
    startup_s = min(plain.startup_s, 0.05)
    cluster = Cluster(
        gpus=plain.gpus, router=plain.router, batcher=batcher, startup_s=startup_s, groups=groups, **changes
    )
    return workload, cluster, law, float(rng.uniform(0, 2)) if rng.random() < 0.25 else None


@pytest.mark.parametrize("part", range(4))
def test_nothing_is_lost_and_jumping_equals_stepping_while_gpus_come_and_go(part):
    for seed in range(part, CONFIGURATIONS, 4):
        workload, cluster, law, horizon_s = random_changing_case(seed)
        law.outside_calls = 0
        jumped = Simulation(workload, cluster, law, streams=Streams(seed)).run(horizon_s)
        law.outside_calls = 0
        stepped = Simulation(workload, cluster, law, streams=Streams(seed), max_jump=1).run(horizon_s)
        assert_same_requests(jumped, stepped)
        assert states(jumped) == states(stepped)
        requests = jumped.requests
        status, finished = np.asarray(requests.status), ~np.isnan(np.asarray(requests.finished_at_s))
        assert np.array_equal(status == Status.FINISHED, finished)
        assert horizon_s is not None or Status.UNFINISHED not in status
        assert max(requests.retries) <= cluster.max_retries
        metrics, parts = summarise(jumped, 0.0), ttft_parts(jumped)
        for name in ("utilization_ratio", "kv_usage_mean_ratio", "kv_usage_max_ratio"):
            assert metrics[name] is None or 0 <= metrics[name] <= 1 + 1e-9, (seed, name)
        assert metrics["gpus_mean"] is None or 0 <= metrics["gpus_mean"] <= cluster.most_gpus + 1e-9
        if parts is not None:
            ttft_s = np.asarray(requests.first_token_at_s) - np.asarray(requests.arrived_at_s)
            np.testing.assert_allclose(sum(parts.values())[finished], ttft_s[finished], atol=1e-9)
