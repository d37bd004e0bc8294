"""Laws of every run, whatever the scenario: conservation, causality, one batch at a time, limits, determinism."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infertuner.experiments.cache import static_local_hits
from infertuner.experiments.runs import run_arm
from infertuner.outcomes.frames import requests_frame, steps_frame
from infertuner.outcomes.metrics import summarise
from infertuner.records import CacheLevel
from infertuner.scenario.study import study_from

arrivals = st.sampled_from(
    [
        {"kind": "fixed", "interval_s": 0.1},
        {"kind": "fixed", "interval_s": 0},
        {"kind": "poisson", "per_s": 5},
        {"kind": "gamma", "per_s": 5, "burstiness": 0.3},
        {"kind": "closed_loop", "users": 8, "think_s": 0.2},
    ]
)
batchers = st.sampled_from(
    [
        {"kind": "none"},
        {"kind": "fixed", "max_batch_size": 2},
        {"kind": "fixed", "max_batch_size": 2, "padded": False},
        {"kind": "timeout", "max_batch_size": 5, "timeout_s": 0.3},
        {"kind": "timeout", "max_batch_size": 5, "timeout_s": 0, "padded": False},
        {"kind": "published", "max_batch_size": 3, "delay_s": 0.1},
    ]
)
sizings = st.sampled_from([{"kind": "static", "entries": 3}, {"kind": "fluid"}, {"kind": "frequency"}])
caches = st.none() | st.fixed_dictionaries(
    {
        "kind": st.just("two_level"),
        "sizing": sizings,
        "remote_latency_s": st.sampled_from([0, 0.05]),
        "remote_entries": st.none() | st.integers(1, 10),
        "fetch_occupies_gpu": st.booleans(),
    }
)
scenarios = st.fixed_dictionaries(
    {
        "name": st.just("law"),
        "seed": st.integers(0, 1000),
        "horizon_s": st.none() | st.floats(0.5, 30),
        "workload": st.fixed_dictionaries(
            {
                "kind": st.just("synthetic"),
                "requests": st.integers(1, 60),
                "arrivals": arrivals,
                "prompt_tokens": st.just({"kind": "uniform", "min_tokens": 1, "max_tokens": 50}),
                "prefix_tokens": st.just({"kind": "uniform", "min_tokens": 0, "max_tokens": 50}),
                "output_tokens": st.just({"kind": "uniform", "min_tokens": 1, "max_tokens": 9}),
                "sessions": st.just({"kind": "zipf", "users": 12, "exponent": 1.0}),
            }
        ),
        "cluster": st.fixed_dictionaries(
            {
                "gpus": st.integers(1, 4),
                "router": st.sampled_from(
                    [
                        {"kind": "round_robin"},
                        {"kind": "least_outstanding"},
                        {"kind": "least_outstanding", "max_outstanding": 5},
                        {"kind": "session_affinity"},
                    ]
                ),
                "batcher": batchers,
                "startup_s": st.sampled_from([0, 1.5]),
            }
        ),
        "latency": st.just(
            {
                "kind": "per_token",
                "base_s": 0.02,
                "per_prompt_token_s": 0.001,
                "per_output_token_s": 0.03,
                "per_sequence_s": 0.01,
            }
        ),
        "cache": caches,
    }
)


def runnable(raw):
    """Without the combinations that are refused: closed loops that cannot fill fixed batches spread by a hash, and the
    published batcher with a cache that sets requests aside."""
    if raw["cache"] and raw["cluster"]["batcher"]["kind"] == "published":
        raw = raw | {"cache": raw["cache"] | {"fetch_occupies_gpu": True}}
    closed = raw["workload"]["arrivals"]["kind"] == "closed_loop"
    if closed and raw["cluster"]["batcher"]["kind"] == "fixed":
        return raw | {"horizon_s": 10.0}
    return raw


@settings(max_examples=200, deadline=None)
@given(raw=scenarios.map(runnable))
def test_laws_of_a_run(raw):
    arm = study_from(raw).arms[0]
    records = run_arm(arm)
    frame, steps = requests_frame(records), steps_frame(records)
    metrics = summarise(records, 0.0)
    n, done = len(frame), frame[frame.status == "finished"]

    assert metrics["finished"] + metrics["unfinished"] == n == raw["workload"]["requests"]
    if raw["horizon_s"] is None:
        assert len(done) == n, "without a horizon every request is answered"
    assert (done.arrived_at_s <= done.started_at_s).all()
    assert (done.started_at_s <= done.first_token_at_s).all()
    assert (done.first_token_at_s <= done.finished_at_s + 1e-9).all()
    assert (frame.finished_at_s.dropna() <= records.ended_at_s + 1e-9).all()
    assert (frame.started_at_s.dropna() >= raw["cluster"]["startup_s"]).all()
    assert frame.batch_size.dropna().le(getattr(arm.scenario.cluster.batcher, "max_batch_size", 1)).all()

    lasted_s = steps.fetch_s + steps.prefill_s + steps.decode_s
    for _, mine in steps.assign(ended_at_s=steps.started_at_s + lasted_s).groupby("gpu_id"):
        in_order = mine.sort_values("started_at_s")
        for (_, one), (_, other) in itertools.pairwise(in_order.iterrows()):
            assert one.ended_at_s <= other.started_at_s + 1e-9, "a GPU worked on two batches at once"

    level = np.array(records.requests.cache_level)
    if raw["cache"] is None:
        assert (level == CacheLevel.NONE).all()
    else:
        assert (level[done.index] != CacheLevel.NONE).all()
        assert (frame.cached_tokens.fillna(0) <= frame.prefix_tokens).all()
        assert (frame.cached_tokens.fillna(0) < frame.prompt_tokens).all()
    if metrics["utilization_ratio"] is not None:
        assert 0 <= metrics["utilization_ratio"] <= 1 + 1e-9


@settings(max_examples=40, deadline=None)
@given(raw=scenarios.map(runnable))
def test_the_same_seed_gives_the_same_bytes(raw):
    first, second = (requests_frame(run_arm(study_from(raw).arms[0])).to_csv() for _ in range(2))
    assert first == second


@settings(max_examples=40, deadline=None)
@given(raw=scenarios.map(runnable))
def test_a_timeout_is_never_exceeded_by_an_idle_gpu(raw):
    raw = raw | {
        "cache": None,
        "horizon_s": None,
        "cluster": raw["cluster"]
        | {"startup_s": 0, "gpus": 1, "batcher": {"kind": "timeout", "max_batch_size": 4, "timeout_s": 0.3}},
    }
    records = run_arm(study_from(raw).arms[0])
    frame, steps = requests_frame(records), steps_frame(records)
    ended_at_s = (steps.started_at_s + steps.prefill_s + steps.decode_s).to_numpy()
    for request in frame.itertuples():
        free_at_s = max([end for end in ended_at_s if end <= request.started_at_s + 1e-9], default=0.0)
        assert request.started_at_s <= max(free_at_s, request.arrived_at_s + 0.3) + 1e-6


@settings(max_examples=60, deadline=None)
@given(raw=scenarios.map(runnable), entries=st.integers(1, 6), remote_entries=st.none() | st.integers(6, 12))
def test_the_reference_of_equal_memory_is_exact_for_a_static_cache(raw, entries, remote_entries):
    cache = {"kind": "two_level", "sizing": {"kind": "static", "entries": entries}, "remote_latency_s": 0.05}
    raw = runnable(raw | {"cache": cache | {"remote_entries": remote_entries}})
    records = run_arm(study_from(raw).arms[0])
    local_hits = sum(level == CacheLevel.LOCAL for level in records.requests.cache_level)
    assert static_local_hits(records, entries) == local_hits


def test_arms_see_the_same_requests(tiny):
    tiny["sweep"] = {"cluster.gpus": [1, 4], "workload.arrivals.per_s": [1, 2]}
    frames = [requests_frame(run_arm(arm)) for arm in study_from(tiny).arms]
    for frame in frames[1:]:
        assert (frame.output_tokens == frames[0].output_tokens).all()
    slow, fast = frames[0].arrived_at_s, frames[1].arrived_at_s
    assert np.allclose(slow, 2 * fast)


def test_replications_differ(tiny):
    arm = study_from(tiny).arms[0]
    assert not requests_frame(run_arm(arm, 0)).equals(requests_frame(run_arm(arm, 1)))
