"""Batchers on plain values, and the laws that every batcher keeps."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.parts import fresh
from infertuner.serving.batchers import FixedBatch, NoBatching, Plan, PublishedBatch, TimeoutBatch
from infertuner.serving.request import Request

BATCHERS = [
    NoBatching(kind="none"),
    FixedBatch(kind="fixed", max_batch_size=4),
    TimeoutBatch(kind="timeout", max_batch_size=4, timeout_s=0.5),
    PublishedBatch(kind="published", max_batch_size=4, delay_s=0.2),
]


def queue(*arrivals_s: float) -> deque[Request]:
    return deque(Request(number, at_s, number, 10, 0) for number, at_s in enumerate(arrivals_s))


@pytest.mark.parametrize("batcher", BATCHERS, ids=lambda batcher: batcher.kind)
@given(gaps_s=st.lists(st.floats(0, 2), min_size=1, max_size=12), later_s=st.floats(0, 3), draining=st.booleans())
def test_laws(batcher, gaps_s, later_s, draining):
    arrivals_s = [sum(gaps_s[: index + 1]) for index in range(len(gaps_s))]
    now_s = arrivals_s[-1] + later_s
    plan = fresh(batcher).plan(queue(*arrivals_s), now_s, draining)
    assert 0 <= plan.take <= min(len(arrivals_s), getattr(batcher, "max_batch_size", 1))
    assert plan.hold_s >= 0
    if plan.take == 0:
        assert not draining, "a draining queue must move"
        assert plan.wait_until_s > now_s


def test_fixed_waits_for_a_whole_batch_and_runs_the_rest_when_draining():
    batcher = fresh(BATCHERS[1])
    assert batcher.plan(queue(0, 0, 0), 99.0, draining=False) == Plan(0)
    assert batcher.plan(queue(0, 0, 0, 1, 1), 1.0, draining=False) == Plan(4)
    assert batcher.plan(queue(0, 0, 0), 99.0, draining=True) == Plan(3)


def test_timeout_waits_until_the_oldest_request_is_due():
    batcher = fresh(BATCHERS[2])
    assert batcher.plan(queue(1.0, 1.2), 1.2, draining=False) == Plan(0, wait_until_s=1.5)
    assert batcher.plan(queue(1.0, 1.2), 1.5, draining=False) == Plan(2)
    assert batcher.plan(queue(1.0, 1.1, 1.2, 1.2, 1.2), 1.2, draining=False) == Plan(4)


def test_published_holds_by_position_and_runs_alone():
    batcher = fresh(BATCHERS[3])
    plans = [batcher.plan(queue(0.0), 0.0, draining=False) for _ in range(5)]
    assert [plan.take for plan in plans] == [1] * 5
    assert [plan.hold_s for plan in plans] == pytest.approx([0.6, 0.4, 0.2, 0.0, 0.6])
    assert fresh(batcher).plan(queue(0.0), 0.0, draining=False).hold_s == pytest.approx(0.6), "fresh starts over"
