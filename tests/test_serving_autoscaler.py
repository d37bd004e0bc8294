"""The autoscaler's decisions and the plans of outages: plain values, no clock."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.parts import fresh
from infertuner.serving.autoscaler import Threshold
from infertuner.serving.outages import Planned, PlannedOutages, RandomOutages
from infertuner.streams import Streams


def threshold(**changed):
    keys = {
        "min_gpus": 1,
        "max_gpus": 8,
        "scale_up_above": 10,
        "scale_down_below": 2,
        "startup_s": 0.0,
        "cooldown_s": 60.0,
    }
    return Threshold(kind="threshold", **{**keys, **changed})


def test_it_adds_as_many_as_bring_the_load_back():
    assert threshold().decide(gpus=2, outstanding=20, now_s=0.0) == 2
    assert threshold().decide(gpus=2, outstanding=21, now_s=0.0) == 3
    assert threshold().decide(gpus=2, outstanding=55, now_s=0.0) == 6
    assert threshold().decide(gpus=2, outstanding=1000, now_s=0.0) == 8


def test_it_drains_one_at_a_time_after_the_cooldown():
    policy = threshold()
    assert policy.decide(gpus=2, outstanding=55, now_s=0.0) == 6
    assert policy.decide(gpus=6, outstanding=0, now_s=59.0) == 6
    assert policy.decide(gpus=6, outstanding=0, now_s=60.0) == 5
    assert policy.decide(gpus=5, outstanding=0, now_s=61.0) == 5


def test_between_the_thresholds_nothing_moves():
    assert threshold().decide(gpus=3, outstanding=15, now_s=1e6) == 3


def test_a_cluster_below_its_minimum_is_filled_up():
    assert threshold(min_gpus=2).decide(gpus=1, outstanding=0, now_s=0.0) == 2


def test_fresh_forgets_the_last_change():
    policy = threshold()
    policy.decide(gpus=1, outstanding=50, now_s=100.0)
    assert fresh(policy).decide(gpus=5, outstanding=0, now_s=101.0) == 4


@given(gpus=st.integers(0, 20), outstanding=st.integers(0, 1000), now_s=st.floats(0, 1e6))
def test_the_answer_is_within_bounds(gpus, outstanding, now_s):
    assert 1 <= threshold().decide(gpus=gpus, outstanding=outstanding, now_s=now_s) <= 8


@pytest.mark.parametrize("changed", [{"max_gpus": 0}, {"scale_down_below": 10}])
def test_contradictions_are_refused(changed):
    with pytest.raises(ValueError, match="must be"):
        threshold(**{"min_gpus": 1, **changed})


def test_planned_outages_come_in_order_of_time():
    plan = PlannedOutages(
        kind="planned", events=[Planned(gpu_id=1, at_s=9.0, drained=True), Planned(gpu_id=0, at_s=3.0, down_s=2.0)]
    )
    assert list(plan.begin(2, Streams(0, 0))) == [(3.0, 0, 2.0, False), (9.0, 1, math.inf, True)]


def test_random_outages_have_the_means_asked_for():
    plan = RandomOutages(kind="random", mean_uptime_s=100.0, mean_down_s=10.0)
    outages = list(islice(plan.begin(3, Streams(1, 0)), 6000))
    assert [outage.at_s for outage in outages] == sorted(outage.at_s for outage in outages)
    for gpu_id in range(3):
        own = [outage for outage in outages if outage.gpu_id == gpu_id]
        up_s = np.diff([outage.at_s for outage in own]) - [outage.down_s for outage in own][:-1]
        assert np.all(up_s > 0)
        assert up_s.mean() == pytest.approx(100.0, abs=4 * 100 / math.sqrt(len(up_s)))
    down_s = [outage.down_s for outage in outages]
    assert np.mean(down_s) == pytest.approx(10.0, abs=4 * 10 / math.sqrt(len(down_s)))
    assert outages[:50] == list(islice(plan.begin(3, Streams(1, 0)), 50))
