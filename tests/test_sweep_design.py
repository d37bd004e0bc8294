"""Domains and designs: which points become arms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.errors import ScenarioError
from infertuner.scenario.domains import DomainSpec, LogRange, Range, full_grid, is_domain
from infertuner.scenario.overrides import with_settings
from infertuner.scenario.study import study_from
from infertuner.sweeping.design import latin_hypercube, one_at_a_time

DOMAINS = {
    "a": DomainSpec(choices=["x", "y"]),
    "b": DomainSpec(range=Range(min=1, max=3, step=1)),
}


def test_grid_is_every_combination():
    points = list(full_grid(DOMAINS))
    assert len(points) == 6
    assert points[:4] == [{"a": "x", "b": 1}, {"a": "x", "b": 2}, {"a": "x", "b": 3}, {"a": "y", "b": 1}]


def test_one_at_a_time_begins_with_the_file_itself():
    assert list(one_at_a_time(DOMAINS)) == [{}, {"a": "x"}, {"a": "y"}, {"b": 1}, {"b": 2}, {"b": 3}]


@given(st.integers(1, 200))
def test_a_hypercube_has_one_point_in_every_part(points):
    """Its law: sorted by any one key, the i-th of n values lies in the i-th of n equal parts of the scale."""
    domains = {"linear": DomainSpec(range=Range(min=-1, max=1)), "log": DomainSpec(log_range=LogRange(min=1, max=1000))}
    found = list(latin_hypercube(points)(domains))
    assert len(found) == points
    for place, value in enumerate(sorted(point["linear"] for point in found)):
        assert place / points - 1e-4 <= (value + 1) / 2 <= (place + 1) / points + 1e-4
    for place, value in enumerate(sorted(point["log"] for point in found)):
        assert 1000 ** (place / points) * (1 - 1e-4) <= value <= 1000 ** ((place + 1) / points) * (1 + 1e-4)


def test_a_hypercube_takes_listed_values_equally_often_and_whole_ones_whole():
    domains = {
        "choice": DomainSpec(choices=["x", "y", "z"]),
        "count": DomainSpec(log_range=LogRange(min=1, max=64), whole=True),
    }
    points = list(latin_hypercube(12)(domains))
    assert sorted(point["choice"] for point in points) == ["x"] * 4 + ["y"] * 4 + ["z"] * 4
    assert all(type(point["count"]) is int for point in points)
    assert len({point["count"] for point in points}) > 6


def test_keys_of_a_hypercube_are_independent_of_each_other():
    """A key more leaves the others' values alone, and no two keys go through their ranges in the same order."""
    one = {"a": DomainSpec(range=Range(min=0, max=1))}
    two = {"b": DomainSpec(range=Range(min=0, max=1)), **one}
    found = list(latin_hypercube(20)(two))
    assert [point["a"] for point in found] == [point["a"] for point in latin_hypercube(20)(one)]
    assert sorted(found, key=lambda point: point["a"]) != sorted(found, key=lambda point: point["b"])


def test_whole_numbers_that_become_equal_are_listed_once():
    domain = DomainSpec(log_range=LogRange(min=1, max=4, count=6), whole=True)
    assert domain.values() == [1, 2, 3, 4]


@pytest.mark.parametrize("design", [full_grid, one_at_a_time])
def test_every_number_between_two_cannot_be_listed(design):
    with pytest.raises(ScenarioError, match=r"sweep\.a: has no step or count.*--design lhs"):
        list(design({"a": DomainSpec(range=Range(min=0, max=1))}))


def test_nothing_to_vary_is_said():
    with pytest.raises(ScenarioError, match="nothing to vary"):
        list(latin_hypercube(3)({}))


@pytest.mark.parametrize("value", [{"choices": [1]}, {"range": {"min": 1}}, {"log_range": {}, "whole": True}])
def test_domains_are_known_by_their_words(value):
    assert is_domain(value)


@pytest.mark.parametrize("value", [3, "x", [1, 2], {}, {"kind": "choice", "choices": [1]}])
def test_values_are_no_domains(value):
    assert not is_domain(value)


def test_a_key_set_to_a_domain_is_varied_by_that(tiny):
    tiny["sweep"] = {"cluster.gpus": [1, 2, 3], "workload.requests": [5, 6]}
    raw = with_settings(tiny, {"cluster.gpus": {"choices": [4, 8]}, "seed": 7})
    arms = study_from(raw).arms
    assert [arm.parameters["cluster.gpus"] for arm in arms] == [4, 8, 4, 8]
    assert {arm.scenario.seed for arm in arms} == {7}
