"""Queueing theory as an oracle: each mean must lie inside its own confidence interval over replications.

Intervals are at 99.9 %, so that a right simulator fails about one time in a thousand for another seed, and never for
this one; a simulator that is wrong by more than the interval's width fails.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from infertuner.latency.laws import PerToken
from infertuner.outcomes.metrics import summarise
from infertuner.outcomes.statistics import interval
from infertuner.serving.batchers import NoBatching
from infertuner.serving.cluster import Cluster
from infertuner.serving.routers.least_outstanding import LeastOutstanding
from infertuner.serving.routers.round_robin import RoundRobin
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import OpenLoop, Requests
from infertuner.streams import Streams

TOKENS = 1000
"""Mean service in tokens: 1 s at a millisecond a token, fine enough to stand for a continuous law."""
LAW = PerToken(kind="per_token", base_s=1e-3, per_output_token_s=1e-3)

SINGLE_QUEUE = LeastOutstanding(kind="least_outstanding", max_outstanding=1)


def run(replication, *, load, service, gpus=1, router=None, n=20_000):
    streams = Streams(2026, replication)
    unit = service(streams.get("service"), n)
    asked = Requests(
        pacing=OpenLoop(np.cumsum(streams.get("arrivals").exponential(1 / (load * gpus), n))),
        session_id=range(n),
        prompt_tokens=np.ones(n, dtype=int),
        prefix_tokens=np.zeros(n, dtype=int),
        output_tokens=np.maximum(1, np.rint(unit * TOKENS)).astype(int),
    )
    router = router or RoundRobin(kind="round_robin")
    served_by = Cluster(gpus=gpus, router=router, batcher=NoBatching(kind="none"))
    return Simulation(asked, served_by, LAW).run()


def exponential(rng, n):
    return rng.exponential(1.0, n)


def deterministic(rng, n):
    return np.ones(n)


def mean_wait_s(**case):
    warmup_s = 500 / case["load"] / case.get("gpus", 1)
    return interval([summarise(run(r, **case), warmup_s)["wait_mean_s"] for r in range(20)], confidence=0.999)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_m_m_1_waiting_time(load):
    found = mean_wait_s(load=load, service=exponential)
    assert found.ci_low <= load / (1 - load) <= found.ci_high


def test_m_d_1_waiting_time():
    """Pollaczek-Khinchine: half the waiting time of M/M/1."""
    found = mean_wait_s(load=0.8, service=deterministic)
    assert found.ci_low <= 0.8 / (2 * (1 - 0.8)) <= found.ci_high


def test_m_d_c_round_robin_is_as_good_as_one_queue():
    """With equal service times requests leave a single queue in turn, so round robin makes the same schedule."""
    single = run(0, load=0.8, service=deterministic, gpus=4, router=SINGLE_QUEUE)
    in_turn = run(0, load=0.8, service=deterministic, gpus=4)
    assert np.allclose(single.requests.finished_at_s, in_turn.requests.finished_at_s, rtol=0, atol=1e-6)


def test_round_robin_splits_poisson_into_erlang_arrivals():
    """Every second arrival of a Poisson process makes Erlang-2 gaps: E_2/M/1 at load 0.8.

    The waiting time of GI/M/1 is s / (1 - s) service times, with s the root of s = A*(1 - s) and A* the Laplace
    transform of the gaps in service units, here (2 load / (2 load + z))^2 (Kleinrock, Queueing Systems I, 6.4).
    """
    root = 0.5
    for _ in range(200):
        root = (2 * 0.8 / (2 * 0.8 + 1 - root)) ** 2
    found = mean_wait_s(load=0.8, service=exponential, gpus=2)
    assert found.ci_low <= root / (1 - root) <= found.ci_high


def erlang_c(servers, offered):
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.8), (5, 0.7)])
def test_m_m_c_waiting_time(servers, load):
    """One queue in front of c servers: C(c, load c) / (c (1 - load)), with Erlang's C."""
    found = mean_wait_s(load=load, service=exponential, gpus=servers, router=SINGLE_QUEUE)
    assert found.ci_low <= erlang_c(servers, servers * load) / (servers * (1 - load)) <= found.ci_high


def test_the_shortest_queue_lies_between_one_queue_and_many():
    """Join the shortest queue is worse than a single queue and better than a random one."""
    shortest = mean_wait_s(load=0.7, service=exponential, gpus=3, router=LeastOutstanding(kind="least_outstanding"))
    assert erlang_c(3, 3 * 0.7) / (3 * (1 - 0.7)) < shortest.ci_low
    assert shortest.ci_high < 0.7 / (1 - 0.7)


def test_littles_law():
    """Mean number in the system, integrated from the records, is throughput times mean time in the system."""
    records = run(0, load=0.8, service=exponential)
    arrived_at_s, finished_at_s = (
        np.array(column) for column in (records.requests.arrived_at_s, records.requests.finished_at_s)
    )
    times = np.concatenate([arrived_at_s, finished_at_s])
    steps = np.concatenate([np.ones_like(arrived_at_s), -np.ones_like(finished_at_s)])
    order = np.argsort(times, kind="stable")
    number, times = np.cumsum(steps[order]), times[order]
    mean_number = float((number[:-1] * np.diff(times)).sum() / times[-1])
    metrics = summarise(records, 0.0)
    assert mean_number == pytest.approx(metrics["throughput_per_s"] * metrics["e2e_mean_s"], rel=1e-9)


def test_utilisation_is_the_offered_load():
    found = interval(
        [summarise(run(r, load=0.6, service=exponential), 0.0)["utilization_ratio"] for r in range(20)], 0.999
    )
    assert found.ci_low <= 0.6 <= found.ci_high
