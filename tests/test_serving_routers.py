"""Routers: plain decisions, and the laws that every router keeps."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.parts import fresh
from infertuner.serving.request import Request
from infertuner.serving.routers.affinity import PrefixAffinity, SessionAffinity
from infertuner.serving.routers.least_kv import LeastKv
from infertuner.serving.routers.least_outstanding import LeastOutstanding
from infertuner.serving.routers.round_robin import RoundRobin

ROUTERS = [
    RoundRobin(kind="round_robin"),
    LeastOutstanding(kind="least_outstanding"),
    SessionAffinity(kind="session_affinity"),
    LeastKv(kind="least_kv"),
    PrefixAffinity(kind="prefix_affinity", max_imbalance=4),
]


def request(number: int = 0, session: int | str = 0) -> Request:
    return Request(number, 0.0, session, 10, 0)


class Reports:
    """What the GPUs report: KV blocks as a test sets them, prompts that consist of their session."""

    def __init__(self, blocks=None, prefixes=None):
        self.blocks, self.prefixes = blocks or {}, prefixes or {}

    def kv_blocks(self, gpu_id):
        return self.blocks.get(gpu_id, 0)

    def prefix(self, asked):
        return self.prefixes.get(asked.session_id, (asked.session_id,))


def started(router, num_gpus, fleet=None):
    router = fresh(router)
    router.start(fleet or Reports())
    for gpu_id in range(num_gpus):
        router.join(gpu_id)
    return router


@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: router.kind)
@given(num_gpus=st.integers(1, 20), moves=st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=60))
def test_every_choice_is_a_gpu_and_repeats_from_the_start(router, num_gpus, moves):
    def play() -> list[int]:
        playing, outstanding, choices = started(router, num_gpus), Counter(), []
        for finishes, session in moves:
            busy = sorted(gpu for gpu, count in outstanding.items() if count)
            if finishes and busy:
                gpu = busy[session % len(busy)]
                playing.finished(gpu)
                outstanding[gpu] -= 1
            else:
                gpu = playing.choose(request(len(choices), session))
                outstanding[gpu] += 1
                choices.append(gpu)
        return choices

    choices = play()
    assert all(0 <= gpu < num_gpus for gpu in choices)
    assert choices == play()


@given(num_gpus=st.integers(1, 12), moves=st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=80))
def test_least_outstanding_chooses_a_minimum(num_gpus, moves):
    router, outstanding = started(ROUTERS[1], num_gpus), [0] * num_gpus
    for finishes, pick in moves:
        busy = [gpu for gpu in range(num_gpus) if outstanding[gpu]]
        if finishes and busy:
            gpu = busy[pick % len(busy)]
            router.finished(gpu)
            outstanding[gpu] -= 1
        else:
            gpu = router.choose(request())
            assert outstanding[gpu] == min(outstanding)
            outstanding[gpu] += 1


def test_least_outstanding_breaks_ties_in_turn():
    router = started(ROUTERS[1], 3)
    first = [router.choose(request()) for _ in range(3)]
    for gpu in first:
        router.finished(gpu)
    assert first == [0, 1, 2]
    assert [router.choose(request()) for _ in range(3)] == [0, 1, 2]


def test_least_outstanding_holds_requests_that_no_gpu_may_take():
    router = started(LeastOutstanding(kind="least_outstanding", max_outstanding=2), 2)
    assert [router.choose(request()) for _ in range(5)] == [0, 1, 0, 1, None]
    router.finished(1)
    assert router.choose(request()) == 1


def test_round_robin_goes_round():
    router = started(ROUTERS[0], 3)
    assert [router.choose(request()) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_sessions_stay_and_spread():
    router = started(ROUTERS[2], 8)
    homes = {session: router.choose(request(0, session)) for session in range(4000)}
    assert all(router.choose(request(1, session)) == gpu for session, gpu in homes.items())
    counts = Counter(homes.values())
    assert all(abs(count - 500) < 5 * 500**0.5 for count in counts.values())


def test_a_router_cannot_see_output_lengths():
    assert "output_tokens" not in Request.__dataclass_fields__


@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: router.kind)
@given(moves=st.lists(st.tuples(st.sampled_from(["send", "finish", "join", "leave"]), st.integers(0, 7)), max_size=80))
def test_only_gpus_that_are_there_are_chosen(router, moves):
    """GPUs come and go, with requests on them; only an empty cluster holds requests."""
    playing, here, outstanding = started(router, 0), set(), Counter()
    for move, pick in moves:
        if move == "join" and pick not in here:
            playing.join(pick)
            here.add(pick)
        elif move == "leave" and pick in here:
            playing.leave(pick)
            here.discard(pick)
        elif move == "finish" and outstanding[pick]:
            playing.finished(pick)
            outstanding[pick] -= 1
        elif move == "send":
            chosen = playing.choose(request(0, pick))
            assert chosen in here if here else chosen is None
            if chosen is not None:
                outstanding[chosen] += 1


def test_round_robin_keeps_the_turn_when_gpus_come_and_go():
    router = started(ROUTERS[0], 4)
    assert [router.choose(request()) for _ in range(2)] == [0, 1]
    router.leave(2)
    assert [router.choose(request()) for _ in range(4)] == [3, 0, 1, 3]
    router.join(2)
    assert [router.choose(request()) for _ in range(4)] == [0, 1, 2, 3]
    router.leave(0)
    assert [router.choose(request()) for _ in range(3)] == [1, 2, 3]


def test_sessions_of_a_gpu_that_is_away_spread_and_come_home():
    router = started(ROUTERS[2], 4)
    homes = {session: router.choose(request(0, session)) for session in range(400)}
    router.leave(1)
    away = {session: router.choose(request(0, session)) for session in homes}
    assert all(away[session] == home for session, home in homes.items() if home != 1)
    assert {away[session] for session, home in homes.items() if home == 1} == {0, 2, 3}
    router.join(1)
    assert homes == {session: router.choose(request(0, session)) for session in homes}


def test_least_kv_compares_blocks_then_requests():
    reports = Reports({0: 9, 1: 5, 2: 5})
    router = started(LeastKv(kind="least_kv"), 3, reports)
    assert [router.choose(request()) for _ in range(3)] == [1, 2, 1]
    reports.blocks[0] = 0
    assert router.choose(request()) == 0


def test_prefix_affinity_follows_the_longest_known_prefix():
    reports = Reports(prefixes={"a": (1, 2, 3), "b": (1, 2, 4), "c": (1, 9)})
    router = started(PrefixAffinity(kind="prefix_affinity"), 3, reports)
    first = router.choose(request(0, "a"))
    assert router.choose(request(1, "b")) == first
    assert router.choose(request(2, "c")) == first
    assert router.choose(request(3, "other")) != first


def test_prefix_affinity_spreads_when_the_load_is_too_uneven():
    router = started(PrefixAffinity(kind="prefix_affinity", max_imbalance=2), 2)
    assert [router.choose(request(0, "same")) for _ in range(6)] == [0, 0, 0, 1, 1, 1]
