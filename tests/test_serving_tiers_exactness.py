"""With tiers too jumping equals stepping equals the plain oracle: random engines, workloads, tiers and links.

INFERTUNER_FUZZ sets how many configurations are tried.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from infertuner.cache.tiers.config import TierConfig, Tiered
from infertuner.parts import fresh
from infertuner.records import Status
from infertuner.serving.cluster import Cluster
from infertuner.serving.continuous.scheduler import ENDLESS
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import OpenLoop
from infertuner.streams import Streams
from tests.serving_oracle import simulate
from tests.serving_oracle_tiers import Offload
from tests.test_serving_exactness import (
    CONFIGURATIONS,
    SLICES,
    assert_rows_agree,
    assert_same_requests,
    random_batcher,
    random_cluster,
    random_law,
    random_requests,
    whole,
)
from tests.test_serving_outages import random_changing_case

KV_BYTES = 100


def random_tier(rng):
    rate = [None, 1e5, 3e5, 1e6, 1e7][rng.integers(5)]
    room = {"capacity_bytes": float(rng.choice([4000, 20_000, 10**6]))}
    if rng.random() < 0.3:
        room = {"capacity_entries": int(rng.choice([2, 10, 100]))}
    return TierConfig(
        **room,
        eviction=str(rng.choice(["lru", "sieve", "arc"])),
        read_bytes_per_s=rate,
        latency_s=float(rng.choice([0, 0, 0.0005, 0.01])) if rate else 0.0,
        shared=bool(rng.random() < 0.5),
    )


def random_tiers(rng):
    names = ["dram", "nvme", "remote"][: int(rng.choice([1, 1, 2, 3]))]
    placement = str(rng.choice(["inclusive", "inclusive", "exclusive"]))
    write = "back" if placement == "exclusive" else str(rng.choice(["through", "selective", "back"]))
    return Tiered(
        kind="tiered",
        tiers={name: random_tier(rng) for name in names},
        keys=str(rng.choice(["session", "block"])),
        block_tokens=int(rng.choice([1, 2, 4, 5, 16])),
        kv_bytes_per_token=KV_BYTES,
        placement=placement,
        write=write,
        load=str(rng.choice(["always", "always", "faster"])),
    )


def assert_same_tiers(one, other):
    for name in ("fetch_s", "cache_tier", "prefill_saved_s"):
        assert whole(getattr(one.requests, name)) == whole(getattr(other.requests, name)), name
    assert [vars(use) for use in one.tiers] == [pytest.approx(vars(use), nan_ok=True) for use in other.tiers]


def random_case(seed):
    """Requests that have something to look for, most of them after others have left it."""
    rng = np.random.default_rng([1, seed])
    batcher = random_batcher(rng)
    if batcher.kind == "continuous" and rng.random() < 0.4:
        batcher = replace(batcher, enable_prefix_caching=False)
    asked = random_requests(rng, batcher.block_size)
    while len(asked) < 8 or (asked.blocks is None and not asked.prefix_tokens.any()):
        asked = random_requests(rng, batcher.block_size)
    if asked.blocks is None:
        asked = replace(asked, session_id=rng.integers(0, 1 + len(asked) // 6, len(asked)).tolist())
    at_s = np.cumsum(rng.exponential(float(rng.choice([0.02, 0.1, 0.4])), len(asked)))
    asked = replace(asked, pacing=OpenLoop(np.round(at_s, int(rng.choice([2, 3, 9])))))
    return asked, random_cluster(rng, batcher), random_law(rng), random_tiers(rng)


def check(seed):
    asked, cluster, law, tiers = random_case(seed)
    jumped = Simulation(asked, cluster, law, tiers).run()
    law.outside_calls = 0
    stepped = Simulation(asked, cluster, law, tiers, max_jump=1).run()
    assert_same_requests(jumped, stepped)
    assert_same_tiers(jumped, stepped)
    again = Cluster(**(vars(cluster) | {"router": fresh(cluster.router)}))
    jobs, gpus = simulate(asked, again, law, Offload(asked, tiers, cluster.gpus))
    columns = jumped.requests
    for row, job in jobs.items():
        assert columns.gpu_id[row] == job.gpu
        assert columns.status[row] == (job.refused or 1)
        expected = [job.started, job.first, job.finished]
        found = whole([columns.started_at_s[row], columns.first_token_at_s[row], columns.finished_at_s[row]])
        assert found == [None if at is None else at / 1e15 for at in expected]
        assert columns.preemptions[row] == job.preemptions
        assert columns.cached_tokens[row] == (job.cached or 0)
        assert columns.fetch_s[row] == pytest.approx(job.fetch_fs / 1e15, abs=1e-12)
    assert_rows_agree(stepped, gpus, stepped=True)
    assert_rows_agree(jumped, gpus, stepped=False)
    return jumped


@pytest.mark.parametrize("part", range(SLICES))
def test_jump_step_and_oracle_agree(part):
    for seed in range(part, CONFIGURATIONS, SLICES):
        try:
            check(seed)
        except Exception as error:
            raise AssertionError(f"configuration {seed}") from error


def test_the_configurations_are_worth_trying():
    """Among the first ones are fetches, fetches that overlap, recomputation, and preemption beside fetches."""
    runs = [Simulation(*random_case(seed)).run() for seed in range(60)]
    assert sum(any(run.requests.fetch_s) for run in runs) >= 12
    assert sum(any(use.recomputed_tokens for use in run.tiers) for run in runs) >= 3
    assert sum(any(run.requests.preemptions) and any(run.requests.fetch_s) for run in runs) >= 5
    together = sum(use.link_busy_s for run in runs for use in run.tiers) / sum(
        sum(run.requests.fetch_s) for run in runs
    )
    assert together < 0.8


@pytest.mark.parametrize("part", range(SLICES))
def test_jump_and_step_agree_when_gpus_come_and_go(part):
    for seed in range(part, CONFIGURATIONS // 2, SLICES):
        asked, cluster, law, horizon_s = random_changing_case(seed)
        tiers, runs = random_tiers(np.random.default_rng([2, seed])), []
        for most in (ENDLESS, 1):
            law.outside_calls = 0
            simulation = Simulation(asked, cluster, law, tiers, streams=Streams(seed), max_jump=most)
            runs.append(simulation.run(horizon_s))
        assert_same_requests(*runs)
        assert_same_tiers(*runs)
        status, finished = np.asarray(runs[0].requests.status), ~np.isnan(np.asarray(runs[0].requests.finished_at_s))
        assert np.array_equal(status == Status.FINISHED, finished)
        assert horizon_s is not None or Status.UNFINISHED not in status
