"""Eviction policies: what each decides, on plain values."""

from __future__ import annotations

from collections import Counter

import pytest

from infertuner.cache.eviction.kinds import policy_of
from infertuner.errors import ScenarioError
from tests.eviction_cases import NAMES, left, made

every_policy = pytest.mark.parametrize("name", NAMES)


def test_lru_evicts_whom_nobody_asked_for_the_longest():
    policy = made("lru", 3)
    assert left(policy, "abc") == []
    assert policy.touch("a")
    assert not policy.touch("x")
    assert left(policy, "de") == ["b", "c"]


def test_fifo_ignores_requests():
    policy = made("fifo", 3)
    left(policy, "abc")
    policy.touch("a")
    assert left(policy, "de") == ["a", "b"]


def test_lfu_evicts_the_least_used_and_among_equals_the_one_used_longest_ago():
    policy = made("lfu", 3)
    left(policy, "abc")
    for key in "bacac":
        policy.touch(key)
    assert left(policy, "d") == ["b"]
    assert left(policy, "e") == ["d"]
    policy.touch("e")
    policy.touch("e")
    assert left(policy, "f") == ["a"], "a, c and e all have three, a came to it first"


def test_sieve_spares_once_whoever_was_asked_for_and_goes_on_from_where_it_stood():
    policy = made("sieve", 3)
    left(policy, "abc")
    policy.touch("a")
    assert left(policy, "d") == ["b"]
    policy.touch("d")
    assert left(policy, "e") == ["c"], "the hand is past a, which is the oldest"
    assert left(policy, "f") == ["e"], "d was spared"
    assert left(policy, "g") == ["a"], "the hand was past the newest, and f came after that"


def test_s3fifo_keeps_new_keys_apart_until_they_come_back():
    policy = made("s3fifo", 10)
    assert left(policy, "abcdefghij") == [], "a waits, the others fill the main queue"
    assert left(policy, "k") == ["a"]
    assert left(policy, "a") == ["k"], "a has a ghost and joins the main queue"
    policy.touch("b")
    assert left(policy, "lm") == ["c", "l"], "the main queue had too much, and b was spared"


def test_s3fifo_promotes_with_the_second_request_after_the_first():
    policy = made("s3fifo", 10)
    left(policy, "abcdefghij")
    policy.touch("a")
    assert left(policy, "k") == ["a"]
    policy.touch("k")
    policy.touch("k")
    assert left(policy, "l") == ["b"], "k was promoted instead of leaving, which made the main queue too long"
    assert "k" in policy


def test_s3fifo_spares_nobody_more_than_three_times():
    policy = made("s3fifo", 10)
    left(policy, "abcdefghij")
    for key in "bbbbbccc":
        policy.touch(key)
    assert "".join(key for key, _ in policy.resize(0)) == "defghijbca", "five requests count as three"


def test_arc_learns_from_ghosts_whom_to_evict():
    policy = made("arc", 2)
    left(policy, "a")
    policy.touch("a")
    assert left(policy, "bc") == ["b"], "a was asked for twice"
    assert left(policy, "b") == ["a"], "b came back, so those asked for once deserve more"


def test_wtinylfu_lets_in_only_who_is_asked_for_more_often():
    policy = made("wtinylfu", 100)
    for key in range(100):
        policy.access(key, 1)
        policy.access(key, 1)
    for key in range(1000, 1050):
        policy.access(key, 1)
    assert sum(key in policy for key in range(99)) == 99, "keys asked for once displace nobody but each other"
    for _ in range(3):
        policy.access("popular", 1)
    policy.access("next", 1)
    assert "popular" in policy
    assert sum(key in policy for key in range(99)) == 98


def test_wtinylfu_forgets_what_was_popular():
    policy = made("wtinylfu", 10)
    for key in range(10):
        for _ in range(8):
            policy.access(key, 1)
    for at in range(400):
        policy.access(100 + at // 4 % 9, 1)
    assert sum(key in policy for key in range(9)) < 5


def test_random_evicts_by_its_seed_and_everybody_alike():
    leavers = Counter()
    for seed in range(2000):
        policy = made("random", 4, seed=seed)
        leavers.update(left(policy, "abcde"))
    assert [made("random", 4, seed=1).insert(key, 1) for key in "abcde"] == [
        made("random", 4, seed=1).insert(key, 1) for key in "abcde"
    ]
    # 500 each, with a binomial deviation of 19.4
    assert all(abs(leavers[key] - 500) < 4 * 19.4 for key in "abcd")


def test_belady_evicts_whoever_is_asked_for_last_and_first_who_never_is():
    requests = list("abcdaxbc")
    policy = made("belady", 3, requests)
    found = [policy.access(key, 1) for key in requests]
    assert found == [False, False, False, False, True, False, True, False], "c left for d, then a or d for x"


def test_belady_counts_an_entry_that_was_moved_in_without_a_request():
    requests = list("abab")
    policy = made("belady", 1, requests)
    assert [policy.touch(key) for key in "ab"] == [False, False]
    assert policy.insert("b", 1) == []
    assert policy.insert("a", 1) == [("b", 1)]
    assert policy.touch("a")


@every_policy
def test_a_large_entry_takes_the_room_of_several_and_one_that_is_too_large_disturbs_nobody(name):
    policy = made(name, 100, [*range(10), "large"])
    for key in range(10):
        policy.access(key, 10)
    assert policy.insert("too large", 101) == [("too large", 101)]
    assert len(policy) == 10
    policy.touch("large")
    gone = dict(policy.insert("large", 35))
    assert sum(gone.values()) in (35, 40)
    assert policy.used <= 100


@every_policy
@pytest.mark.parametrize("key", range(10))
def test_an_entry_grows_at_the_cost_of_others(name, key):
    policy = made(name, 100, range(10))
    for each in range(10):
        policy.access(each, 10)
    assert len(policy.insert(key, 30)) == 2
    assert policy.size_of(key) == 30
    assert policy.used == 100
    assert policy.insert(key, 101) == [(key, 101)]
    assert key not in policy
    policy.insert("small", 1)
    assert policy.used == 71


@every_policy
def test_what_does_not_fit_beside_pinned_entries_stays_out(name):
    policy = made(name, 3, "abcd")
    for key in "abc":
        policy.access(key, 1)
    policy.pin("a")
    policy.pin("b")
    policy.pin("a")
    assert policy.insert("two", 2) == [("two", 2)]
    assert len(policy) == 3
    assert list(policy.resize(1)) == [("c", 1)]
    assert policy.insert("d", 1) == [("d", 1)]
    assert not policy.unpin("a"), "it has another pin"
    assert list(policy.unpin("a")) == [("a", 1)]
    assert list(policy.unpin("b")) == []
    assert policy.used == 1


@every_policy
def test_an_entry_that_outgrows_what_is_not_pinned_leaves_alone(name):
    policy = made(name, 10, "abc")
    for key, size in (("a", 6), ("b", 2), ("c", 2)):
        policy.access(key, size)
    policy.pin("a")
    assert list(policy.insert("b", 5)) == [("b", 5)]
    assert set(policy) == {"a", "c"}
    assert policy.used == 8
    assert list(policy.insert("a", 9)) == [("c", 2)], "what is pinned may grow, even over the capacity"
    assert list(policy.insert("a", 12)) == []
    assert policy.insert("b", 1) == [("b", 1)]
    assert policy.unpin("a") == [("a", 12)]


@every_policy
def test_ghosts_are_not_held(name):
    policy = made(name, 2, [*range(20), *range(20)])
    for key in range(20):
        policy.access(key, 1)
    assert sum(key in policy for key in range(20)) == 2
    assert sum(policy.size_of(key) for key in range(20)) == 2
    assert sum(policy.touch(key) for key in range(20)) == 2


def test_names_that_do_not_exist_and_a_future_that_is_not_known():
    with pytest.raises(ScenarioError, match="one of lru, fifo, lfu"):
        policy_of("mru", 1)
    with pytest.raises(ScenarioError, match="replay a trace"):
        policy_of("belady", 1)
