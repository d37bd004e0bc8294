"""One run by hand: every instant of small cases worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infertuner.cache.config import TwoLevel
from infertuner.cache.sizing.static import Static
from infertuner.errors import ScenarioError
from infertuner.latency.laws import PerToken
from infertuner.records import CacheLevel
from infertuner.serving.batchers import FixedBatch, NoBatching, PublishedBatch, TimeoutBatch
from infertuner.serving.cluster import Cluster
from infertuner.serving.routers.round_robin import RoundRobin
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import ClosedLoop, OpenLoop, Requests

NONE = NoBatching(kind="none")
SECOND_PER_TOKEN = PerToken(kind="per_token", base_s=1.0, per_output_token_s=1.0)
"""Prefill, which yields the first token, takes 1 s; each further token 1 s."""


def cluster(batcher=NONE, gpus=1, startup_s=0.0) -> Cluster:
    return Cluster(gpus=gpus, router=RoundRobin(kind="round_robin"), batcher=batcher, startup_s=startup_s)


def asked(pacing, output_tokens, sessions=None, prompt_tokens=10, prefix_tokens=0) -> Requests:
    n = len(output_tokens)
    return Requests(
        pacing=pacing,
        session_id=sessions or list(range(n)),
        prompt_tokens=np.full(n, prompt_tokens),
        prefix_tokens=np.full(n, prefix_tokens),
        output_tokens=np.array(output_tokens),
    )


def arriving(*instants_s: float) -> OpenLoop:
    return OpenLoop(np.array(instants_s, dtype=float))


def run(requests, served_by, cache=None, latency=SECOND_PER_TOKEN, horizon_s=None):
    return Simulation(requests, served_by, latency, cache).run(horizon_s)


def test_one_at_a_time():
    records = run(asked(arriving(0, 1, 9), [3, 2, 1]), cluster())
    assert list(records.requests.started_at_s) == [0, 3, 9]
    assert list(records.requests.first_token_at_s) == [1, 4, 10]
    assert list(records.requests.finished_at_s) == [3, 5, 10]
    assert records.ended_at_s == 10


def test_nothing_is_served_before_startup():
    records = run(asked(arriving(0, 1), [1, 1]), cluster(startup_s=8))
    assert list(records.requests.started_at_s) == [8, 9]


def test_a_padded_batch_ends_together():
    batcher = FixedBatch(kind="fixed", max_batch_size=2)
    records = run(asked(arriving(0, 2), [2, 5]), cluster(batcher))
    assert list(records.requests.started_at_s) == [2, 2]
    assert list(records.requests.finished_at_s) == [7, 7]
    assert list(records.steps.batch_size) == [2]
    assert list(records.steps.decode_s) == [4]


def test_short_answers_leave_an_unpadded_batch_early():
    batcher = FixedBatch(kind="fixed", max_batch_size=2, padded=False)
    latency = PerToken(kind="per_token", base_s=1.0, per_output_token_s=1.0, per_sequence_s=0.5)
    records = run(asked(arriving(0, 0, 0, 0), [5, 2, 1, 3]), cluster(batcher), latency=latency)
    # First batch: prefill 1 s, one step of two for 1.5 s, then three steps of one. Second: 1 s, then two steps of one.
    assert list(records.requests.finished_at_s) == [5.5, 2.5, 6.5, 8.5]
    assert list(records.steps.decode_s) == [4.5, 2.0]


def test_the_last_partial_batch_is_not_stranded():
    batcher = FixedBatch(kind="fixed", max_batch_size=4)
    records = run(asked(arriving(0, 1, 2, 3, 4), [1] * 5), cluster(batcher))
    assert list(records.requests.started_at_s) == [3, 3, 3, 3, 4]


def test_timeout_batches_by_hand():
    batcher = TimeoutBatch(kind="timeout", max_batch_size=2, timeout_s=0.5)
    records = run(asked(arriving(0.0, 0.3, 2.0, 2.1, 2.2, 9.0), [1] * 6), cluster(batcher))
    # Full at 0.3; full at 2.1; the fifth is due at 2.7 but the GPU is busy until 3.1; the sixth drains at once.
    assert list(records.requests.started_at_s) == pytest.approx([0.3, 0.3, 2.1, 2.1, 3.1, 9.0])
    assert list(records.steps.batch_size) == [2, 2, 1, 1]


def test_a_deadline_that_floats_cannot_hit_is_kept_once():
    instants_s = np.cumsum(np.full(200, 0.1))
    batcher = TimeoutBatch(kind="timeout", max_batch_size=8, timeout_s=0.7)
    records = run(
        asked(OpenLoop(instants_s), [1] * 200),
        cluster(batcher),
        latency=PerToken(kind="per_token", per_output_token_s=0),
    )
    assert records.events < 200 * 6
    waits_s = np.array(records.requests.started_at_s) - np.array(records.requests.arrived_at_s)
    assert waits_s.max() <= 0.7 + 1e-9


def test_the_published_batcher_holds_the_gpu():
    batcher = PublishedBatch(kind="published", max_batch_size=2, delay_s=0.2)
    records = run(asked(arriving(0, 0, 0), [1, 1, 1]), cluster(batcher))
    assert list(records.requests.started_at_s) == pytest.approx([0.2, 1.2, 2.4])


def test_a_closed_loop_thinks_between_answer_and_question():
    records = run(asked(ClosedLoop(users=1, think_s=np.array([0.0, 0.5, 0.5]), start_at_s=2.0), [1, 2, 1]), cluster())
    assert list(records.requests.arrived_at_s) == [2.0, 3.5, 6.0]


def test_two_users_share_the_requests():
    records = run(asked(ClosedLoop(users=2, think_s=np.zeros(4)), [2, 1, 1, 1]), cluster(gpus=2))
    assert list(records.requests.arrived_at_s) == [0, 0, 1, 2]


def test_a_batch_that_users_cannot_fill_is_an_error():
    batcher = FixedBatch(kind="fixed", max_batch_size=4)
    with pytest.raises(ScenarioError, match=r"cluster\.batcher: 10 of 10 requests wait for ever"):
        run(asked(ClosedLoop(users=2, think_s=np.zeros(10)), [1] * 10), cluster(batcher))


def test_the_horizon_leaves_requests_unfinished():
    records = run(asked(arriving(0, 0, 5), [2, 2, 1]), cluster(), horizon_s=3.0)
    finished_at_s = list(records.requests.finished_at_s)
    assert finished_at_s[0] == 2
    assert all(math.isnan(at_s) for at_s in finished_at_s[1:])
    assert math.isnan(records.requests.arrived_at_s[2]), "never sent"
    assert records.ended_at_s == 3


def two_level(**changes) -> TwoLevel:
    keys = {"kind": "two_level", "sizing": Static(kind="static", entries=1), "remote_latency_s": 0.25}
    return TwoLevel(**(keys | changes))


PREFILL_BY_TOKEN = PerToken(kind="per_token", per_prompt_token_s=0.1, per_output_token_s=1.0)


def test_where_a_prefix_is_found_decides_what_prefill_costs():
    requests = asked(arriving(0, 10, 20, 30), [1] * 4, sessions=[7, 7, 8, 7], prompt_tokens=10, prefix_tokens=6)
    records = run(requests, cluster(), cache=two_level(), latency=PREFILL_BY_TOKEN)
    levels = [CacheLevel.MISS, CacheLevel.LOCAL, CacheLevel.MISS, CacheLevel.REMOTE]
    assert list(records.requests.cache_level) == levels
    assert list(records.requests.cached_tokens) == [0, 6, 0, 6]
    # A miss and a remote hit wait 0.25 s for the remote tier; a hit prefills 4 tokens instead of 10.
    assert list(records.requests.first_token_at_s) == pytest.approx([1.25, 10.4, 21.25, 30.65])


def test_the_gpu_serves_others_while_a_prefix_is_fetched():
    requests = asked(arriving(0, 5, 10, 20, 20), [1] * 5, sessions=[7, 8, 9, 7, 9], prompt_tokens=10, prefix_tokens=6)
    cache = two_level(sizing=Static(kind="static", entries=2))
    records = run(requests, cluster(), cache=cache, latency=PREFILL_BY_TOKEN)
    assert list(records.requests.cache_level)[3:] == [CacheLevel.REMOTE, CacheLevel.LOCAL]
    assert list(records.requests.started_at_s)[3:] == pytest.approx([20.4, 20.0])


def test_fetching_occupies_the_gpu_where_the_scenario_says_so():
    requests = asked(arriving(0, 10, 20.0, 20.0), [1] * 4, sessions=[7, 8, 7, 9], prompt_tokens=10, prefix_tokens=6)
    cache = two_level(fetch_occupies_gpu=True, miss_penalty_s=1.0, saves_prefill=False)
    records = run(requests, cluster(), cache=cache, latency=PREFILL_BY_TOKEN)
    assert list(records.requests.started_at_s)[2:] == pytest.approx([20.0, 21.25])
    assert list(records.requests.first_token_at_s)[2:] == pytest.approx([21.25, 23.5])
    assert list(records.steps.fetch_s) == pytest.approx([1.25, 1.25, 0.25, 1.25])


def test_local_tiers_are_per_gpu_and_the_remote_tier_is_shared():
    requests = asked(arriving(0, 10, 20), [1] * 3, sessions=[7, 7, 7], prefix_tokens=6)
    records = run(requests, cluster(gpus=2), cache=two_level(), latency=PREFILL_BY_TOKEN)
    assert list(records.requests.cache_level) == [CacheLevel.MISS, CacheLevel.REMOTE, CacheLevel.LOCAL]


def test_a_conversation_reuses_all_that_was_computed_before():
    """Each turn's prefix is the previous prompt and answer; what was computed last time is there this time."""
    requests = Requests(
        pacing=arriving(0, 100, 200),
        session_id=[7, 7, 7],
        prompt_tokens=np.array([50, 80, 120]),
        prefix_tokens=np.array([0, 53, 90]),
        output_tokens=np.array([4, 11, 5]),
    )
    records = run(requests, cluster(), cache=two_level(), latency=PREFILL_BY_TOKEN)
    assert list(records.requests.cache_level) == [CacheLevel.MISS, CacheLevel.LOCAL, CacheLevel.LOCAL]
    assert list(records.requests.cached_tokens) == [0, 53, 90]


def test_requests_of_a_closed_loop_are_numbered_as_they_are_sent():
    think_s = np.array([5.0, 1.0, 0.5, 9.0, 0.1, 3.0, 2.0, 0.0])
    records = run(asked(ClosedLoop(users=3, think_s=think_s), [1] * 8), cluster(gpus=3))
    arrived_at_s = list(records.requests.arrived_at_s)
    assert arrived_at_s == sorted(arrived_at_s)
    assert arrived_at_s[:2] == [0.5, 1.0]
