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
from infertuner.serving.links import Link
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
    random_crowd_batcher,
    random_law,
    random_requests,
    whole,
)
from tests.test_serving_outages import random_changing_case

KV_BYTES = 100


def random_tier(rng, load):
    """With links slow enough for reads to meet, and some fast enough to be worth more than to prefill."""
    rates = [None, 2e4, 2e4, 1e5, 1e5, 3e5, 1e6, 1e7] if load == "always" else [None, 1e6, 3e6, 1e7, 1e7]
    rate = rates[rng.integers(len(rates))]
    room = {"capacity_bytes": float(rng.choice([4000, 20_000, 10**6, 10**6]))}
    if rng.random() < 0.3:
        room = {"capacity_entries": int(rng.choice([2, 10, 100]))}
    return TierConfig(
        **room,
        eviction=str(rng.choice(["lru", "sieve", "arc"])),
        read_bytes_per_s=rate,
        latency_s=float(rng.choice([0, 0, 0.0005, 0.01])) if rate else 0.0,
        shared=bool(rng.random() < 0.7),
    )


def random_tiers(rng, asked):
    names = ["dram", "nvme", "remote"][: int(rng.choice([1, 1, 2, 3]))]
    placement = str(rng.choice(["inclusive", "inclusive", "exclusive"]))
    load = str(rng.choice(["always", "always", "always", "faster"]))
    write = "back" if placement == "exclusive" else str(rng.choice(["through", "selective", "back"]))
    return Tiered(
        kind="tiered",
        tiers={name: random_tier(rng, load) for name in names},
        keys="block" if asked.blocks is not None else str(rng.choice(["session", "block"])),
        block_tokens=int(rng.choice([1, 2, 4, 5, 16])),
        kv_bytes_per_token=KV_BYTES,
        placement=placement,
        write=write,
        load=load,
    )


def assert_same_tiers(one, other):
    for name in ("fetch_s", "cache_tier", "prefill_saved_s"):
        assert whole(getattr(one.requests, name)) == whole(getattr(other.requests, name)), name
    assert [vars(use) for use in one.tiers] == [pytest.approx(vars(use), nan_ok=True) for use in other.tiers]


def random_case(seed):
    """Requests that have something to look for, most of them after others have left it, and often many at once."""
    rng = np.random.default_rng([1, seed])
    crowd = bool(rng.random() < 0.4)
    batcher = random_crowd_batcher(rng) if crowd else random_batcher(rng)
    if batcher.kind == "continuous" and rng.random() < 0.6:
        batcher = replace(batcher, enable_prefix_caching=False)
    if not batcher.enable_chunked_prefill:
        batcher = replace(batcher, max_num_batched_tokens=200)  # where few would run at all
    asked = random_requests(rng, batcher.block_size, crowd)
    while len(asked) < 8 or (asked.blocks is None and not asked.prefix_tokens.any()):
        asked = random_requests(rng, batcher.block_size, crowd)
    if asked.blocks is None and not crowd:
        asked = replace(asked, session_id=rng.integers(0, 1 + len(asked) // 6, len(asked)).tolist())
    gap_s = float(rng.choice([0.05, 0.2, 0.5]))
    at_s = np.cumsum(rng.exponential(gap_s, len(asked)))
    if rng.random() < 0.9:
        at_s = at_s // (5 * gap_s) * (5 * gap_s)  # waves
    asked = replace(asked, pacing=OpenLoop(np.round(at_s, int(rng.choice([2, 3, 9])))))
    return asked, random_cluster(rng, batcher), random_law(rng), random_tiers(rng, asked)


def check(asked, cluster, law, tiers):
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
            check(*random_case(seed))
        except Exception as error:
            raise AssertionError(f"configuration {seed}") from error


def test_the_configurations_are_worth_trying(monkeypatch):
    """In more than half of them something is fetched, in more than a quarter reads meet on a link, and so on."""
    begin, met = Link.read, set()

    def read(link, num_bytes, done):
        if link.reads:
            met.add(seed)
        return begin(link, num_bytes, done)

    monkeypatch.setattr(Link, "read", read)
    runs = []
    for seed in range(80):
        runs.append(Simulation(*random_case(seed)).run())
    fetching = [run for run in runs if any(run.requests.fetch_s)]
    assert len(fetching) > len(runs) / 2
    assert len(met) > len(runs) / 4
    assert sum(any(run.requests.preemptions) for run in fetching) >= 15
    assert sum(any(use.recomputed_tokens for use in run.tiers) for run in runs) >= 3


@pytest.mark.parametrize("part", range(SLICES))
def test_jump_and_step_agree_when_gpus_come_and_go(part):
    for seed in range(part, CONFIGURATIONS // 2, SLICES):
        asked, cluster, law, horizon_s = random_changing_case(seed)
        tiers, runs = random_tiers(np.random.default_rng([2, seed]), asked), []
        for most in (ENDLESS, 1):
            law.outside_calls = 0
            simulation = Simulation(asked, cluster, law, tiers, streams=Streams(seed), max_jump=most)
            runs.append(simulation.run(horizon_s))
        assert_same_requests(*runs)
        assert_same_tiers(*runs)
        status, finished = np.asarray(runs[0].requests.status), ~np.isnan(np.asarray(runs[0].requests.finished_at_s))
        assert np.array_equal(status == Status.FINISHED, finished)
        assert horizon_s is not None or Status.UNFINISHED not in status
