"""Tiers in the simulation by hand: who finds what, how long loading takes, and when computing again is faster."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from infertuner.cache.tiers.config import TierConfig, Tiered
from infertuner.cache.tiers.replay import replay_tiers
from infertuner.errors import InferTunerError
from infertuner.experiments.runs import run_arm
from infertuner.latency.laws import PerToken
from infertuner.records import CacheLevel
from infertuner.scenario.study import study_from
from infertuner.serving.batchers import NoBatching
from infertuner.serving.cluster import Cluster
from infertuner.serving.continuous.config import Continuous
from infertuner.serving.outages import Planned, PlannedOutages
from infertuner.serving.routers.affinity import PrefixAffinity, SessionAffinity
from infertuner.serving.routers.round_robin import RoundRobin
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import OpenLoop, PrefixBlocks, Requests
from tests.conftest import ROOT

ONE = NoBatching(kind="none")
ENGINE = Continuous(kind="continuous", num_gpu_blocks=10, max_num_batched_tokens=10_000, block_size=100)
"""Memory for 900 tokens."""
LAW = PerToken(kind="per_token", per_prompt_token_s=0.01, per_output_token_s=1.0)
"""10 ms a prompt token."""
KB = 1000
"""KV of a token is 1 kB; 100 kB/s are thus as fast as prefilling."""


def tiered(load="always", **tiers):
    parts = {name: TierConfig(**keys) for name, keys in tiers.items()}
    return Tiered(kind="tiered", tiers=parts, kv_bytes_per_token=KB, load=load)


def dram(rate=1000 * KB, **keys):
    return {"capacity_bytes": 10**9, "read_bytes_per_s": rate} | keys


HBM = {"capacity_entries": 1}


def asked(at_s, sessions, prompt=500, prefix=400, output=1):
    n = len(at_s)
    return Requests(
        pacing=OpenLoop(np.array(at_s, dtype=float)),
        session_id=sessions,
        prompt_tokens=np.full(n, prompt),
        prefix_tokens=np.full(n, prefix),
        output_tokens=np.full(n, output),
    )


def run(requests, cache, batcher=ONE, gpus=1, router=None, **keys):
    cluster = Cluster(gpus=gpus, router=router or RoundRobin(kind="round_robin"), batcher=batcher, **keys)
    return Simulation(requests, cluster, replace(LAW), cache).run()


def ttft_s(records):
    columns = records.requests
    return [b - a for a, b in zip(columns.arrived_at_s, columns.first_token_at_s, strict=True)]


def test_a_static_batch_finds_its_prefix_in_the_memory_of_its_gpu_or_over_a_link():
    """Of five seconds of prefill 400 tokens save four; from DRAM they take 0.4 s first, after 0.1 s of latency.

    The memory of the GPU has room for one session, so the third request finds only DRAM."""
    records = run(asked([0, 10, 20, 30], [1, 1, 2, 1]), tiered(hbm=HBM, dram=dram(latency_s=0.1)))
    assert ttft_s(records) == pytest.approx([5, 1, 5, 1.5])
    columns = records.requests
    assert list(columns.cache_level) == [CacheLevel.MISS, CacheLevel.LOCAL, CacheLevel.MISS, CacheLevel.REMOTE]
    assert list(columns.cache_tier) == [-1, 0, -1, 1]
    assert list(columns.cached_tokens) == [0, 400, 0, 400]
    assert list(columns.fetch_s) == pytest.approx([0, 0, 0, 0.5])
    assert list(columns.prefill_saved_s) == pytest.approx([0, 4, 0, 4])
    hbm, below = records.tiers
    assert (hbm.name, hbm.gpu_id, hbm.hits, hbm.hit_tokens) == ("hbm", 0, 1, 400)
    assert (below.hits, below.read_bytes, below.written_bytes) == (1, 400 * KB, 1000 * KB)
    assert below.link_busy_s == pytest.approx(0.4)


def test_an_engine_fetches_what_its_own_blocks_do_not_hold():
    """Of 600 tokens of blocks session 2 leaves the first 100 of session 1, so 300 of the 400 must be fetched."""
    records = run(asked([0, 10, 20, 30], [1, 1, 2, 1]), tiered(dram=dram()), replace(ENGINE, num_gpu_blocks=7))
    columns = records.requests
    assert list(columns.cache_level) == [CacheLevel.MISS, CacheLevel.LOCAL, CacheLevel.MISS, CacheLevel.REMOTE]
    assert list(columns.cached_tokens) == [0, 400, 0, 400]
    use = records.tiers[0]
    assert (use.hits, use.hit_tokens, use.read_bytes, use.written_bytes) == (1, 300, 300 * KB, 1000 * KB)
    assert ttft_s(records) == pytest.approx([5, 1, 5, 1.3])
    assert list(columns.fetch_s) == pytest.approx([0, 0, 0, 0.3])
    assert list(columns.prefill_saved_s) == pytest.approx([0, 0, 0, 3])
    assert list(columns.cache_tier) == [-1, -1, -1, 0]


@pytest.mark.parametrize("batcher", [ONE, ENGINE], ids=["static", "continuous"])
def test_a_fetch_that_the_horizon_cuts_has_taken_nothing_yet(batcher):
    away = planned({"gpu_id": 0, "at_s": 10, "down_s": 1})
    cluster = Cluster(gpus=1, router=RoundRobin(kind="round_robin"), batcher=batcher, outages=away)
    cache = tiered(remote=dram(100 * KB, shared=True))
    for horizon_s, fetch_s in [(23.9, 0), (24.1, 4)]:
        records = Simulation(asked([0, 20], [1, 1]), cluster, replace(LAW), cache).run(horizon_s)
        assert records.tiers[0].hits == 1
        assert records.requests.fetch_s[1] == pytest.approx(fetch_s)


@pytest.mark.parametrize("batcher", [ONE, ENGINE], ids=["static", "continuous"])
def test_it_computes_again_where_that_is_faster(batcher):
    """400 tokens are prefilled in 4 s, so 100 kB/s are as fast: a little less and they are computed again."""
    away = planned({"gpu_id": 0, "at_s": 10, "down_s": 1})
    for rate, ttft in [(101 * KB, 1 + 400 / 101), (99 * KB, 5.0)]:
        shared = tiered(load="faster", remote=dram(rate, shared=True))
        records = run(asked([0, 20], [1, 1]), shared, batcher, outages=away)
        assert ttft_s(records)[1] == pytest.approx(ttft)
        loaded = rate > 100 * KB
        assert records.requests.cached_tokens[1] == (400 if loaded else 0)
        use = records.tiers[0]
        assert (use.hits, use.hit_tokens, use.recomputed_tokens) == (1, 400 * loaded, 400 * (not loaded))


def planned(*events):
    return PlannedOutages(kind="planned", events=[Planned(**event) for event in events])


@pytest.mark.parametrize("batcher", [ONE, ENGINE], ids=["static", "continuous"])
@pytest.mark.parametrize(("shared", "fetch_s"), [(True, 0.8), (False, 0.4)])
def test_two_fetches_at_once_over_one_link_take_twice_as_long(batcher, shared, fetch_s):
    """Two GPUs, a session each; they lose their own memory to a third and a fourth session in between."""
    tiers = {"hbm": HBM} if batcher is ONE else {}
    requests = asked([0, 0, 10, 10, 20, 20], [1, 2, 3, 4, 1, 2], prompt=800, prefix=400)
    records = run(requests, tiered(**tiers, dram=dram(shared=shared)), batcher, gpus=2)
    if batcher is ENGINE:  # 100 tokens of blocks remain of each session
        fetch_s *= records.tiers[-1].hit_tokens / (800 if shared else 400)
    assert list(records.requests.fetch_s)[4:] == pytest.approx([fetch_s] * 2)
    assert len(records.tiers) == (len(tiers) * 2 + (1 if shared else 2))


def test_loading_counts_the_others_on_the_link():
    """At 150 kB/s one fetch is faster than the 4 s of prefill, and of two that share the link the second is not."""
    cache = tiered("faster", hbm=HBM, dram=dram(150 * KB, shared=True))
    records = run(asked([0, 0, 10, 10, 20, 20], [1, 2, 3, 4, 1, 2]), cache, gpus=2)
    assert list(records.requests.cached_tokens)[4:] == [400, 0]


@pytest.mark.parametrize("batcher", [ONE, ENGINE], ids=["static", "continuous"])
def test_a_link_without_end_is_a_local_hit_and_one_without_bandwidth_none(batcher):
    requests = asked(10.0 * np.arange(7), [1, 2, 1, 2, 3, 1, 3], output=3)
    last = {"hbm": HBM} if batcher is ONE else {}
    nothing = run(requests, None, batcher) if batcher is ENGINE else run(requests, tiered(hbm=HBM), batcher)
    slow = run(requests, tiered("faster", **last, dram=dram(1e-3)), batcher)
    fast = run(requests, tiered("faster", **last, dram=dram(1e18)), batcher)
    free = run(requests, tiered("faster", **last, dram={"capacity_bytes": 10**9}), batcher)
    assert ttft_s(slow) == pytest.approx(ttft_s(nothing))
    assert ttft_s(fast) == pytest.approx(ttft_s(free), abs=1e-9)
    assert sum(ttft_s(fast)) < sum(ttft_s(slow)) - 1


@pytest.mark.parametrize("batcher", [ONE, ENGINE], ids=["static", "continuous"])
@pytest.mark.parametrize("drained", [False, True])
def test_a_gpu_takes_its_own_tiers_with_it_and_leaves_the_shared_ones(batcher, drained):
    away = planned({"gpu_id": 0, "at_s": 10, "down_s": 1, "drained": drained})
    for shared, cached in [(False, 0), (True, 400)]:
        records = run(asked([0, 20], [1, 1]), tiered(dram=dram(shared=shared)), batcher, outages=away)
        assert records.requests.cached_tokens[1] == cached
        hours = 21 if shared else 20  # its own is not there for the second that the GPU is not
        expected = hours + records.ended_at_s - 21
        assert records.tiers[0].capacity_byte_s == pytest.approx(1e9 * expected)


@pytest.mark.parametrize("batcher", [ONE, ENGINE], ids=["static", "continuous"])
def test_what_was_on_its_way_to_a_gpu_that_dies_is_lost(batcher):
    """Both GPUs lose their memory at 10 s. At 20 s both fetch for 4 s; one dies after 1 s, and is away for a second.

    The other then has 3.5 s of work left and the link to itself; the one that died asks again at 22 s."""
    deaths = [{"gpu_id": gpu_id, "at_s": 10, "down_s": 1} for gpu_id in range(2)]
    away = planned(*deaths, {"gpu_id": 0, "at_s": 21})
    cache = tiered(remote=dram(100 * KB, shared=True))
    records = run(asked([0, 0, 20, 20], [1, 2, 1, 2]), cache, batcher, gpus=2, outages=away)
    assert list(records.requests.retries) == [0, 0, 1, 0]
    assert list(records.requests.gpu_id)[2:] == [1, 1]
    assert records.tiers[0].read_bytes == 3 * 400 * KB
    assert list(records.requests.cached_tokens)[2:] == [400, 400]
    assert records.requests.fetch_s[3] > 4


def test_autoscaled_gpus_pay_for_their_tiers_while_they_are_there(tiny):
    tiny["cluster"] |= {
        "gpus": 1, "batcher": {"kind": "continuous", "num_gpu_blocks": 100},
        "autoscaler": {"kind": "threshold", "min_gpus": 1, "max_gpus": 3, "scale_up_above": 2,
                       "scale_down_below": 0.5, "startup_s": 1, "interval_s": 1, "cooldown_s": 2},
    }  # fmt: skip
    dram_of_1_mb = {"capacity_bytes": "1MB", "read_bytes_per_s": "1GB/s"}
    tiny["cache"] = {"kind": "tiered", "kv_bytes_per_token": 1000, "tiers": {"dram": dram_of_1_mb}}
    arm = study_from(tiny, ROOT).arms[0]
    records = run_arm(arm)
    assert arm.scenario.cluster.most_gpus == len(records.tiers) == 3
    assert records.tiers[0].capacity_byte_s == pytest.approx(1e6 * records.ended_at_s)
    assert records.tiers[2].capacity_byte_s < records.tiers[1].capacity_byte_s < 1e6 * records.ended_at_s


@pytest.mark.parametrize("router", [SessionAffinity(kind="session_affinity"), PrefixAffinity(kind="prefix_affinity")])
@pytest.mark.parametrize("batcher", [ONE, ENGINE], ids=["static", "continuous"])
def test_affinity_finds_in_private_tiers_what_round_robin_finds_in_a_shared_one(router, batcher):
    n = 40
    sessions = [int(session) for session in np.random.default_rng(1).integers(0, 7, n)]
    requests = asked(20.0 * np.arange(n), sessions)
    tokens = {
        (name, shared): sum(run(requests, tiered(dram=dram(shared=shared)), batcher, 3, of).requests.cached_tokens)
        for name, of in [("affine", router), ("robin", None)]
        for shared in (False, True)
    }
    assert tokens["affine", False] == tokens["affine", True] == tokens["robin", True] > tokens["robin", False]
    assert tokens["robin", True] == 400 * (n - len(set(sessions)))


@pytest.mark.parametrize("keys", ["session", "block"])
@pytest.mark.parametrize(("placement", "write"), [("inclusive", "through"), ("inclusive", "back"),
                                                  ("inclusive", "selective"), ("exclusive", "back")])  # fmt: skip
def test_far_apart_requests_find_what_a_replay_finds(keys, placement, write):
    """One GPU and requests that never meet: each has left everything before the next one looks."""
    n, chance = 300, np.random.default_rng(3)
    requests = replace(
        asked(100.0 * np.arange(n), chance.integers(0, 40, n).tolist()),
        prompt_tokens=chance.integers(401, 600, n), output_tokens=chance.integers(1, 20, n),
    )  # fmt: skip
    elastic = {"controller": {"kind": "target_hit", "target_hit_ratio": 0.6, "min_requests": 50}, "every_s": 1500}
    raw = {
        "kind": "tiered", "keys": keys, "placement": placement, "write": write, "kv_bytes_per_token": KB,
        "load": "always", "block_tokens": 100,
        "tiers": {
            "hbm": {"capacity_bytes": 3000 * KB},
            "dram": {"capacity_bytes": 8000 * KB, "read_bytes_per_s": 10**6, "eviction": "sieve", "sizing": elastic},
        },
    }  # fmt: skip
    config = TypeAdapter(Tiered).validate_python(raw)
    records = run(requests, config)
    replayed = replay_tiers(requests, config, np.asarray(records.requests.finished_at_s), bytes_per_token=KB)
    assert list(records.requests.cache_tier) == replayed.tier.tolist()
    assert list(records.requests.cached_tokens) == replayed.tokens.tolist()
    assert vars(records.capacities) == vars(replayed.capacities)
    assert len(records.capacities.at_s) > 3
    for one, other in zip(records.tiers, replayed.tiers, strict=True):
        expected = vars(other) | {"link_busy_s": one.link_busy_s}
        for name, value in vars(one).items():
            assert value == (value if name == "link_busy_s" else pytest.approx(expected[name])), name


def test_what_tiers_cannot_do_is_refused(tiny):
    tiny["cache"] = {"kind": "tiered", "tiers": {"dram": {"capacity_bytes": "1MB"}}}
    with pytest.raises(InferTunerError, match="kv_bytes_per_token: is missing"):
        run_arm(study_from(tiny, ROOT).arms[0])
    tiny["cache"]["kv_bytes_per_token"] = 1000
    tiny["cache"]["tiers"]["dram"]["eviction"] = "belady"
    with pytest.raises(InferTunerError, match="belady knows the future"):
        run_arm(study_from(tiny, ROOT).arms[0])
    tiny["cluster"]["batcher"] = {"kind": "published", "max_batch_size": 2, "delay_s": 1}
    with pytest.raises(InferTunerError, match="cannot set it aside"):
        study_from(tiny, ROOT)


def test_listed_blocks_are_loaded_from_the_tier_that_has_each_and_only_up_to_the_first_gap():
    """Blocks of 100 tokens by name; the GPU's memory has room for two of the four, so the end comes from DRAM."""
    ids = [1, 2, 3, 4] * 2 + [1, 2, 9, 4]
    requests = replace(
        asked([0, 10, 20], [1, 2, 3], prompt=450, prefix=0),
        blocks=PrefixBlocks(100, np.array(ids, dtype=np.int64), np.array([0, 4, 8, 12])),
    )
    cache = replace(tiered(hbm={"capacity_entries": 2}, dram=dram()), keys="block")
    records = run(requests, cache)
    assert list(records.requests.cached_tokens) == [0, 400, 200]
    assert list(records.requests.cache_tier) == [-1, 1, 0]
    assert records.requests.fetch_s[1] == pytest.approx(0.2)
    assert [use.hit_tokens for use in records.tiers] == [400, 200]
    assert not math.isnan(records.requests.finished_at_s[2])
