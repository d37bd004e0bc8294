"""Routers: plain decisions, and the laws that every router keeps."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.parts import fresh
from infertuner.serving.request import Request
from infertuner.serving.routers import LeastOutstanding, RoundRobin, SessionAffinity

ROUTERS = [
    RoundRobin(kind="round_robin"),
    LeastOutstanding(kind="least_outstanding"),
    SessionAffinity(kind="session_affinity"),
]


def request(number: int = 0, session: int | str = 0) -> Request:
    return Request(number, 0.0, session, 10, 0)


def started(router, num_gpus):
    router = fresh(router)
    router.start(num_gpus)
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
