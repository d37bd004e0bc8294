"""Jumping equals stepping equals a plain oracle, to the last bit: random engines, workloads and latency laws.

INFERTUNER_FUZZ sets how many configurations are tried; the ordinary suite takes a few hundred.
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from infertuner.latency.noise import NoiseRing
from infertuner.parts import fresh
from infertuner.serving.cluster import Cluster
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.routers.affinity import SessionAffinity
from infertuner.serving.routers.least_outstanding import LeastOutstanding
from infertuner.serving.routers.round_robin import RoundRobin
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import OpenLoop, PrefixBlocks, Requests
from tests.serving_oracle import Law, simulate

CONFIGURATIONS = int(os.environ.get("INFERTUNER_FUZZ", "240"))
SLICES = 8


def affine(batch):
    return [(0, 0.006 + 15e-6 * batch), (100_000, 0.006 + 15e-6 * batch + 2.9e-8 * 100_000)]


def stairs(batch):
    padded = -(-batch // 4) * 4
    return [(0, 0.005 + 1e-4 * padded), (1000, 0.005 + 1e-4 * padded + 2e-5)]


def bent(batch):
    return [(0, 0.004), (60 + batch, 0.004 + 1e-6 * batch), (200, 0.0045 + 2e-6 * batch), (500, 0.009)]


def falling(batch):
    return [(0, 0.006), (300, 0.0001), (400, 0.0000001)]


def whole_milliseconds(batch):
    return [(0, 0.005)]


def random_law(rng):
    corners = [affine, stairs, bent, falling, whole_milliseconds][rng.integers(5)]
    noise = None
    if rng.random() < 0.3:
        noise = NoiseRing(rng.integers(800, 1300, size=int(rng.integers(1, 40))).tolist())
    ties = corners is whole_milliseconds
    low, high = (0, 10**9) if rng.random() < 0.7 else (int(rng.integers(0, 100)), int(rng.integers(100, 400)))
    return Law(
        corners,
        token_s=0.001 if ties else float(rng.choice([30e-6, 1e-4])),
        pair_s=0.0 if ties else float(rng.choice([0, 1e-7])),
        noise=noise,
        low=low,
        high=high,
    )


def random_batcher(rng):
    size = int(rng.choice([1, 2, 4, 16]))
    seqs = int(rng.choice([1, 2, 4, 8, 32]))
    keys = {
        "num_gpu_blocks": max(2, int(rng.choice([60, 90, 130, 200, 2000])) // size),
        "max_num_seqs": seqs,
        "max_num_batched_tokens": max(seqs, int(rng.choice([4, 8, 32, 64, 200]))),
        "max_model_len": None if rng.random() < 0.8 else int(rng.integers(20, 80)),
        "block_size": size,
        "watermark": float(rng.choice([0, 0, 0.01, 0.1])),
    }
    if rng.random() < 0.25:
        return PrefillFirst(kind="prefill_first", **keys)
    return Continuous(
        kind="continuous",
        **keys,
        enable_prefix_caching=bool(rng.random() < 0.7),
        enable_chunked_prefill=bool(rng.random() < 0.8),
        long_prefill_token_threshold=0 if rng.random() < 0.6 else int(rng.integers(1, 20)),
        scheduler_reserve_full_isl=bool(rng.random() < 0.6),
        scheduling_policy="priority" if rng.random() < 0.3 else "fcfs",
    )


def random_crowd_batcher(rng):
    """Little memory in small blocks, and prompts that take several iterations."""
    size = int(rng.choice([1, 1, 1, 2, 4]))
    seqs = int(rng.choice([3, 4, 8]))
    return Continuous(
        kind="continuous",
        num_gpu_blocks=int(rng.integers(70, 150)) // size,
        max_num_seqs=seqs,
        max_num_batched_tokens=max(seqs, int(rng.choice([8, 16, 200]))),
        block_size=size,
        long_prefill_token_threshold=int(rng.choice([0, 1, 2, 3, 7])),
        scheduler_reserve_full_isl=bool(rng.random() < 0.7),
        scheduling_policy="priority" if rng.random() < 0.4 else "fcfs",
    )


def random_requests(rng, block_size, crowd=False):
    """crowd: they share most of their prompts and come at once, or nearly."""
    n = int(rng.integers(4, 18) if crowd else rng.integers(1, 50))
    prompt = rng.integers(1, 60, size=n)
    output = rng.integers(1, 40, size=n)
    session = rng.integers(0, rng.integers(1, 3) if crowd else max(1, n // 3), size=n)
    prefix, blocks = np.zeros(n, dtype=np.int64), None
    sharing = rng.choice(["sessions", "listed"] if crowd else ["none", "sessions", "listed"])
    if sharing == "sessions":
        prefix = np.minimum(prompt - 1, rng.integers(0, 40, size=n) if rng.random() < 0.5 else 30)
    elif sharing == "listed":
        block_tokens = block_size * int(rng.integers(1, 3))
        lists, fresh_id = [], 1000
        for i in range(n):
            count = int(prompt[i]) // block_tokens
            shared = int(rng.integers(count // 2 if crowd else 0, count + 1))
            common, own = (int(session[i]) * 50 + j for j in range(shared)), range(fresh_id, fresh_id + count - shared)
            lists.append([*common, *own])
            fresh_id += 100
        offsets = np.cumsum([0, *map(len, lists)])
        blocks = PrefixBlocks(block_tokens, np.array([each for ids in lists for each in ids], dtype=np.int64), offsets)
    gap_s = float(rng.choice([0, 0, 0.001, 0.01] if crowd else [0, 0.001, 0.01, 0.05, 0.3]))
    at_s = np.cumsum(rng.exponential(gap_s, n) if gap_s else np.zeros(n))
    if rng.random() < 0.4:
        at_s = np.round(at_s, 3)
    return Requests(
        pacing=OpenLoop(at_s),
        session_id=session.tolist(),
        prompt_tokens=prompt,
        prefix_tokens=prefix,
        output_tokens=output,
        blocks=blocks,
        priority=rng.integers(0, 3, size=n) if rng.random() < 0.5 else None,
    )


def random_cluster(rng, batcher):
    router = [
        RoundRobin(kind="round_robin"),
        LeastOutstanding(kind="least_outstanding"),
        LeastOutstanding(kind="least_outstanding", max_outstanding=int(rng.integers(1, 6))),
        SessionAffinity(kind="session_affinity"),
    ][rng.integers(4)]
    startup_s = float(rng.choice([0, 0, 0.1]))
    return Cluster(gpus=int(rng.choice([1, 1, 2, 4])), router=router, batcher=batcher, startup_s=startup_s)


def random_case(seed):
    rng = np.random.default_rng(seed)
    crowd = bool(rng.random() < 0.4)
    batcher = random_crowd_batcher(rng) if crowd else random_batcher(rng)
    return random_requests(rng, batcher.block_size, crowd), random_cluster(rng, batcher), random_law(rng)


def whole(column):
    """A column with missing values as something that can be compared."""
    return [None if math.isnan(value) else value for value in column]


def assert_same_requests(one, other):
    for name in (
        "gpu_id", "arrived_at_s", "started_at_s", "first_token_at_s", "finished_at_s", "batch_size", "cached_tokens",
        "cache_level", "status", "routed_at_s", "preemptions", "prefill_s", "others_prefill_s",
    ):  # fmt: skip
        assert whole(getattr(one.requests, name)) == whole(getattr(other.requests, name)), name
    assert np.allclose(one.requests.others_decode_s, other.requests.others_decode_s, rtol=0, atol=1e-12)
    assert stalls_of(one) == stalls_of(other)
    assert one.ended_at_s == other.ended_at_s
    assert one.outside_calls == other.outside_calls


def stalls_of(records):
    return sorted(zip(*vars(records.stalls).values(), strict=True))


def rows_of(records, gpu_id):
    columns = vars(records.segments)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True) if row[0] == gpu_id]


def assert_rows_agree(records, gpus, stepped):
    """Every row of the log is a run of the oracle's iterations."""
    for gpu in gpus:
        done = 0
        for row in rows_of(records, gpu.gpu_id):
            mine = gpu.rows[done : done + row["iterations"]]
            done += row["iterations"]
            assert row["iteration"] == mine[0][2]
            assert row["started_at_s"] == mine[0][0] / 1e15
            assert row["ended_at_s"] == mine[-1][1] / 1e15
            assert {row["decodes"]} == {each[3] for each in mine}
            assert (row["prefills"], row["prefill_tokens"], row["kv_entries"]) == mine[0][4:7]
            assert row["kv_blocks"] == mine[-1][7]
            if stepped:  # pieces of a jump that bends all keep the count of its beginning
                assert row["waiting"] == mine[0][8]
        assert done == len(gpu.rows)


def check(asked, cluster, law):
    jumped = Simulation(asked, cluster, law).run()
    law.outside_calls = 0
    stepped = Simulation(asked, cluster, law, max_jump=1).run()
    assert_same_requests(jumped, stepped)
    jobs, gpus = simulate(asked, Cluster(**(vars(cluster) | {"router": fresh(cluster.router)})), law)
    columns = jumped.requests
    for row, job in jobs.items():
        assert columns.gpu_id[row] == job.gpu
        assert columns.status[row] == (job.refused or 1)
        expected = [job.started, job.first, job.finished]
        found = whole([columns.started_at_s[row], columns.first_token_at_s[row], columns.finished_at_s[row]])
        assert found == [None if at is None else at / 1e15 for at in expected]
        assert columns.preemptions[row] == job.preemptions
        assert columns.cached_tokens[row] == (job.cached or 0)
        if not job.refused:
            parts = columns.prefill_s[row] + columns.others_prefill_s[row] + columns.others_decode_s[row]
            assert parts == pytest.approx(columns.first_token_at_s[row] - columns.started_at_s[row], abs=1e-9)
    assert_rows_agree(stepped, gpus, stepped=True)
    assert_rows_agree(jumped, gpus, stepped=False)
    return jumped


@pytest.mark.parametrize("part", range(SLICES))
def test_jump_step_and_oracle_agree(part):
    for seed in range(part, CONFIGURATIONS, SLICES):
        try:
            check(*random_case(seed))
        except Exception as error:
            raise AssertionError(f"configuration {seed}") from error


def test_of_blocks_filled_at_once_the_first_is_that_of_who_was_admitted_first():
    """The second request prefills in front of the third, which decodes; both fill the session's fourth block.

    The third is preempted and finds all it had, in blocks that the second is using: only so can it go on beside it.
    """
    asked = Requests(
        pacing=OpenLoop(np.zeros(3)),
        session_id=[0, 0, 0],
        prompt_tokens=np.array([3, 6, 2]),
        prefix_tokens=np.array([2, 5, 1]),
        output_tokens=np.array([1, 4, 11]),
    )
    batcher = Continuous(kind="continuous", num_gpu_blocks=13, block_size=1, long_prefill_token_threshold=1)
    cluster = Cluster(gpus=1, router=RoundRobin(kind="round_robin"), batcher=batcher)
    assert list(check(asked, cluster, Law(affine)).requests.preemptions) == [0, 0, 1]
