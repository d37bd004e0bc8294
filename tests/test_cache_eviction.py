"""Eviction policies: laws that all of them keep under any operations."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.analysis import lru_hit_curve
from tests.eviction_cases import NAMES, hits, made

ORDERED = ("lru", "fifo", "lfu", "sieve", "belady")
"""The policies in which who leaves next does not depend on how full any queue is, nor on chance."""

KEYS = st.integers(0, 6)
SIZES = st.integers(1, 9)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("access"), KEYS, SIZES),
        st.tuples(st.just("access"), KEYS, SIZES),
        st.tuples(st.just("touch"), KEYS),
        st.tuples(st.just("insert"), KEYS, SIZES),
        st.tuples(st.just("remove"), KEYS),
        st.tuples(st.just("resize"), st.integers(0, 25)),
        st.tuples(st.just("pin"), KEYS),
        st.tuples(st.just("unpin"), KEYS),
    ),
    max_size=120,
)
TRACES = st.lists(KEYS, min_size=1, max_size=150)

every_policy = pytest.mark.parametrize("name", NAMES)
ordered_policy = pytest.mark.parametrize("name", ORDERED)


def made_for(name, capacity, operations, renamed=lambda key: key):
    """An empty policy for a sequence of operations."""
    return made(name, capacity, [renamed(op[1]) for op in operations if op[0] in ("access", "touch")])


def contents(policy):
    return {key: policy.size_of(key) for key in policy}


def apply(policy, operation, pins, renamed=lambda key: key):
    """Do one operation that makes sense and return (whether it was a hit, who left); `pins` counts pins."""
    kind, *arguments = operation
    hit, gone = None, []
    if kind == "resize":
        return hit, list(policy.resize(arguments[0]))
    key = renamed(arguments[0])
    if kind in ("touch", "access"):
        hit = policy.touch(key)
    if kind == "insert" or (kind == "access" and not hit):
        gone = policy.insert(key, arguments[1])
    if kind == "remove" and key in policy and not pins[key]:
        policy.remove(key)
    if kind == "pin" and key in policy:
        pins[key] += 1
        policy.pin(key)
    if kind == "unpin" and pins[key]:
        pins[key] -= 1
        gone = policy.unpin(key)
    return hit, list(gone)


@every_policy
@given(operations=OPERATIONS, capacity=st.integers(0, 25))
def test_bytes_and_entries_are_conserved_and_the_capacity_is_kept(name, operations, capacity):
    policy, pins, book = made_for(name, capacity, operations), Counter(), {}
    for operation in operations:
        kind, key = operation[0], operation[1]
        if kind == "insert" or (kind == "access" and key not in policy):
            book[key] = operation[2]
        if kind == "remove" and not pins[key]:
            book.pop(key, None)
        _, gone = apply(policy, operation, pins)
        for leaver, size in gone:
            assert not pins[leaver]
            assert book.pop(leaver) == size
        assert contents(policy) == book
        assert len(policy) == len(book)
        assert policy.used == sum(book.values())
        assert policy.used <= policy.capacity or all(pins[key] for key in book)
        assert all(key in policy for key, count in pins.items() if count)


@every_policy
@given(operations=OPERATIONS, capacity=st.integers(0, 25))
def test_nobody_leaves_without_need(name, operations, capacity):
    policy, pins = made_for(name, capacity, operations), Counter()
    for operation in operations:
        _, gone = apply(policy, operation, pins)
        if gone:
            assert policy.used + gone[-1][1] > policy.capacity


@every_policy
@given(operations=OPERATIONS, capacity=st.integers(0, 25))
def test_names_of_keys_change_nothing(name, operations, capacity):
    def renamed(key):
        return f"user {key * 7 % 10}"

    one, other = made_for(name, capacity, operations), made_for(name, capacity, operations, renamed)
    pins, other_pins = Counter(), Counter()
    for operation in operations:
        hit, gone = apply(one, operation, pins)
        assert apply(other, operation, other_pins, renamed) == (hit, [(renamed(key), size) for key, size in gone])


@every_policy
@given(operations=OPERATIONS, capacity=st.integers(0, 25))
def test_access_is_touch_and_insert_on_a_miss(name, operations, capacity):
    one, other, pins = made_for(name, capacity, operations), made_for(name, capacity, operations), Counter()
    for operation in operations:
        before = Counter(pins)
        hit, _ = apply(one, operation, pins)
        if operation[0] == "access":
            assert other.access(*operation[1:]) == hit
        else:
            apply(other, operation, before)
        assert list(other) == list(one)
        assert contents(other) == contents(one)


@every_policy
@given(operations=OPERATIONS, capacity=st.integers(0, 25), more=st.integers(0, 10))
def test_the_same_capacity_is_nothing_new_and_a_larger_one_brings_nobody_back(name, operations, capacity, more):
    policy, pins = made_for(name, capacity, operations), Counter()
    for operation in operations:
        apply(policy, operation, pins)
    before = contents(policy)
    assert not policy.resize(policy.capacity)
    same = deepcopy(policy)
    assert contents(policy) == before
    assert policy.used > policy.capacity or not policy.resize(policy.capacity + more)
    assert policy.used > policy.capacity or contents(policy) == before
    assert {key for key, _ in same.resize(0)} == {key for key in before if not pins[key]}


@ordered_policy
@given(operations=OPERATIONS, capacity=st.integers(0, 25))
def test_shrinking_bit_by_bit_evicts_in_the_order_of_shrinking_at_once(name, operations, capacity):
    policy, pins = made_for(name, capacity, operations), Counter()
    for operation in operations:
        apply(policy, operation, pins)
    at_once = deepcopy(policy).resize(0)
    assert [entry for size in range(policy.capacity - 1, -1, -1) for entry in policy.resize(size)] == at_once


@ordered_policy
@given(operations=OPERATIONS, capacity=st.integers(1, 25), pinned=st.sets(KEYS))
def test_a_pin_does_not_change_the_order_of_the_others(name, operations, capacity, pinned):
    policy, pins = made_for(name, capacity, operations), Counter()
    for operation in operations:
        if operation[0] not in ("pin", "unpin"):
            apply(policy, operation, pins)
    order = deepcopy(policy).resize(0)
    pinned &= set(policy)
    for key in pinned:
        policy.pin(key)
    policy.resize(0)
    assert set(policy) == pinned
    order = [key for key, _ in order]
    again = deepcopy(policy)
    released = [key for key in order if key in pinned]
    assert [gone for key in released for gone, _ in policy.unpin(key)] == released
    assert not policy.used
    assert set(again) == pinned


@ordered_policy
@given(requests=TRACES, entries=st.integers(1, 8), pinned=st.sets(KEYS))
def test_who_leaves_around_pinned_entries_leaves_in_order(name, requests, entries, pinned):
    policy = made(name, entries, requests)
    for key in requests:
        policy.access(key, 1)
    order = [key for key, _ in deepcopy(policy).resize(0)]
    for key in pinned & set(policy):
        policy.pin(key)
    assert [key for key, _ in policy.resize(0)] == [key for key in order if key not in pinned]


@every_policy
@given(requests=TRACES, entries=st.integers(1, 10))
def test_no_policy_beats_belady_nor_belady_the_first_requests(name, requests, entries):
    assert hits(name, entries, requests) <= hits("belady", entries, requests) <= len(requests) - len(set(requests))


@every_policy
@given(requests=TRACES)
def test_room_for_all_leaves_only_first_requests_to_miss(name, requests):
    assert hits(name, 200, requests) == len(requests) - len(set(requests))


@pytest.mark.parametrize("name", ["lru", "belady"])
@given(requests=TRACES)
def test_more_room_is_never_worse_for_stack_policies(name, requests):
    found = [hits(name, entries, requests) for entries in range(11)]
    assert found == sorted(found)


@given(requests=TRACES)
def test_lru_hits_are_what_stack_distances_say_at_every_size(requests):
    curve = lru_hit_curve(requests).tolist()
    assert [hits("lru", entries, requests) for entries in range(len(curve))] == curve
