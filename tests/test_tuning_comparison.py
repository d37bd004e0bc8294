"""The published optimisers pick what they picked; at steady state all keep the same promise."""

from __future__ import annotations

import csv
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infertuner.tuning.comparison import conttune, ds2, joint, published
from infertuner.tuning.comparison.steady import SteadyState
from infertuner.tuning.comparison.targets import BATCH_SIZES, MOST_GPUS, TARGETS, Choice, Outcome, Target, keeps
from tests.conftest import ROOT

COLUMNS = ("DS2", "ContTune", "InferTuner")


def picks_of(line, name):
    gpus = line[f"{name}_p"]
    return Choice(int(float(gpus)), int(float(line[f"{name}_b"]))) if gpus else None


def test_all_thirty_published_picks_come_out_of_the_published_measurements(shared_data):
    pytest.importorskip("sklearn")
    table = published.PublishedTable(shared_data / "upstream/falcon3_7b_p_by_b.csv")
    with (shared_data / "upstream/optimiser_comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    for target, line in zip(TARGETS, lines, strict=True):
        assert (line["Scenario"], float(line["Target_Throughput(req/s)"])) == (target.name, target.throughput_per_s)
        found = published.ds2(table, target), published.conttune(table, target), published.joint(table, target)
        assert found == tuple(picks_of(line, name) for name in COLUMNS), target.name


def test_three_of_the_published_joint_picks_miss_their_own_target_in_the_measurements(shared_data):
    pytest.importorskip("sklearn")
    table = published.PublishedTable(shared_data / "upstream/falcon3_7b_p_by_b.csv")
    missed = []
    for target in TARGETS:
        measured = table.measured(published.joint(table, target))
        if not keeps(target, measured):
            missed.append(target.name)
    assert missed == ["Ultra Low", "Low", "Medium Low"]


def queue(batch_rate):
    """A cluster without noise: capacity grows with GPUs and batch size, latency explodes near it."""

    def measure_for(target):
        def measure(gpus, batch_size):
            capacity = gpus * batch_rate * batch_size**0.8
            load = target.throughput_per_s / capacity
            if load >= 1:
                return Outcome(capacity, math.inf)
            return Outcome(target.throughput_per_s, batch_size**0.2 / batch_rate * (1 + load / (1 - load) / gpus), load)

        return measure

    return measure_for


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.05, 4.0), st.floats(1.0, 30.0))
def test_joint_search_finds_what_trying_everything_finds(batch_rate, rate, stretch):
    target = Target("any", rate, stretch / batch_rate)
    measure = queue(batch_rate)(target)
    found, oracle = joint.joint(target, measure), joint.exhaustive(target, measure)
    assert (found and found.gpus) == (oracle and oracle.gpus)
    assert found is None or keeps(target, measure(*found))


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.05, 4.0), st.floats(1.0, 30.0), st.sampled_from(BATCH_SIZES))
def test_no_optimiser_breaks_the_promise_or_beats_the_oracle_of_its_batch_size(batch_rate, rate, stretch, batch_size):
    pytest.importorskip("sklearn")
    target = Target("any", rate, stretch / batch_rate)
    measure = queue(batch_rate)(target)
    oracle = joint.exhaustive(target, measure, [batch_size])
    for choice in (ds2.ds2(target, measure, batch_size), conttune.conttune(target, measure, batch_size)):
        if oracle is None:
            assert choice is None
        else:
            assert choice is not None
            assert keeps(target, measure(*choice))
            assert choice.gpus >= oracle.gpus


def test_ds2_asks_for_the_rate_over_the_true_rate():
    target = Target("any", 1.0, 100.0)
    measured = []

    def measure(gpus, batch_size):
        measured.append(gpus)
        return Outcome(min(1.0, gpus * 0.3), 3.0, min(1.0, 1.0 / (gpus * 0.3)))

    assert ds2.ds2(target, measure) == Choice(4, 1)
    assert measured[:2] == [1, 4]


def test_conttune_is_generous_first_and_comes_down():
    pytest.importorskip("sklearn")
    measured = []
    measure_of = queue(0.2)
    target = Target("any", 1.9, 50.0)

    def measure(gpus, batch_size):
        measured.append(gpus)
        return measure_of(target)(gpus, batch_size)

    choice = conttune.conttune(target, measure)
    assert list(dict.fromkeys(measured))[:5] == [1, 2, 4, 8, 16]
    assert choice == joint.exhaustive(target, measure_of(target), [1])


def test_an_impossible_promise_has_no_answer():
    pytest.importorskip("sklearn")
    target = Target("any", 1.0, 1.0)
    measure = queue(0.2)(target)
    for choose in (ds2.ds2, conttune.conttune, joint.joint, joint.exhaustive):
        assert choose(target, measure) is None


def test_the_steady_service_keeps_up_exactly_where_capacity_says_so():
    service = SteadyState(ROOT / "scenarios/optimisers.yaml")
    measure = service.under(Target("any", 1.0, 20.0))
    enough, short = measure(10, 1), measure(7, 1)
    assert enough.throughput_per_s == pytest.approx(1.0, rel=0.06)
    assert short.throughput_per_s == pytest.approx(7 / (8.03 + 0.377), rel=0.02)
    assert measure(MOST_GPUS, 1).latency_s == pytest.approx(8.407, rel=0.03)
