"""Curves of a trace, each against a naive cache at every size or against published numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.analysis import (
    aet_hit_curve,
    lru_hit_curve,
    lru_hits_in_bytes,
    next_uses,
    previous_uses,
    shards_hit_curve,
    stack_distances,
)
from infertuner.cache.analysis.inversions import greater_before
from infertuner.cache.replay import lru_hits

short_traces = st.lists(st.integers(0, 12), max_size=80)


@given(short_traces)
def test_the_curve_equals_an_lru_at_every_size(keys):
    distinct = len(set(keys))
    assert lru_hit_curve(keys).tolist() == [lru_hits(keys, entries) for entries in range(distinct + 1)]


def test_the_curve_of_a_long_trace_equals_an_lru():
    rng = np.random.default_rng(5)
    keys = (rng.pareto(1.0, 20_000) * 10).astype(int).tolist()
    curve = lru_hit_curve(keys)
    assert curve[-1] == len(keys) - len(set(keys))
    for entries in (1, 10, 100, 500):
        assert curve[entries] == lru_hits(keys, entries)


def test_a_loop_one_key_longer_than_the_cache_never_hits():
    assert lru_hit_curve(["a", "b", "c"] * 4).tolist() == [0, 0, 0, 9]


@given(short_traces)
def test_names_of_keys_do_not_matter(keys):
    for renamed in (
        [f"user-{key}" for key in keys],
        np.array(keys, dtype=np.int64) * -7919,
        [key << 70 for key in keys],
    ):
        assert lru_hit_curve(renamed).tolist() == lru_hit_curve(keys).tolist()
        assert aet_hit_curve(renamed).tolist() == aet_hit_curve(keys).tolist()
        assert next_uses(renamed).tolist() == next_uses(keys).tolist()


def test_keys_of_different_types_are_different_keys():
    assert lru_hit_curve([1, "1", 1, "1"]).tolist() == [0, 0, 2]


@pytest.mark.parametrize("n", [0, 1, 2, 255, 256, 257, 512, 700, 1025])
def test_inversions_are_counted_within_and_across_blocks(n):
    rng = np.random.default_rng(n)
    values, weights, places = rng.permutation(n), rng.integers(0, 1000, n), np.arange(n)
    greater = (values[:, None] > values[None, :]) & (places[:, None] < places[None, :])
    assert greater_before(values).tolist() == greater.sum(axis=0).tolist()
    assert greater_before(values, weights).tolist() == (weights @ greater).tolist()


def test_inversions_of_a_long_shuffle():
    n = 200_000
    rng = np.random.default_rng(9)
    values, weights = rng.permutation(n), rng.integers(0, 10**9, n)
    counted, weighed = greater_before(values), greater_before(values, weights)
    for place in [*rng.integers(0, n, 200).tolist(), n - 1]:
        greater = values[:place] > values[place]
        assert counted[place] == np.count_nonzero(greater)
        assert weighed[place] == weights[:place][greater].sum()


def test_inversions_beyond_the_largest_chunk():
    """A reversed order has every pair inverted, a rotated one those across the cut; three digits are needed."""
    n = 3 * 2**16 + 17
    ascending = np.arange(n)
    assert greater_before(ascending).sum() == 0
    assert greater_before(ascending[::-1]).tolist() == ascending.tolist()
    rotated = np.roll(ascending, 1000)
    assert greater_before(rotated).tolist() == [0] * 1000 + [1000] * (n - 1000)
    assert greater_before(rotated, np.full(n, 3)).tolist() == [0] * 1000 + [3000] * (n - 1000)


def naive_hits_in_bytes(requests, capacity):
    stack: dict[int, int] = {}
    hits = 0
    for key, size in requests:
        hits += key in stack
        stack.pop(key, None)
        while sum(stack.values()) + size > capacity:
            del stack[next(iter(stack))]
        stack[key] = size
    return hits


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=60), st.booleans())
def test_in_bytes_the_curve_equals_an_lru_whose_entries_never_shrink(requests, growing):
    now: dict[int, int] = {}
    sized = []
    for key, growth in requests:
        now[key] = now.get(key, key % 4) + (growth if growing else 0)
        sized.append((key, now[key]))
    capacities = list(range(max(now.values(), default=0), sum(now.values()) + 2))
    keys, sizes = [key for key, _ in sized], [size for _, size in sized]
    expected = [naive_hits_in_bytes(sized, capacity) for capacity in capacities]
    assert lru_hits_in_bytes(keys, sizes, capacities).tolist() == expected


def test_bytes_of_equal_entries_are_entries_times_their_size():
    keys = np.random.default_rng(2).zipf(1.3, 3000) % 400
    assert stack_distances(keys, np.full(3000, 7)).tolist() == (7 * stack_distances(keys)).tolist()


@given(short_traces)
def test_next_and_previous_uses_are_each_other_read_backwards(keys):
    n = len(keys)
    expected = [next((j for j in range(i + 1, n) if keys[j] == keys[i]), n) for i in range(n)]
    assert next_uses(keys).tolist() == expected
    assert previous_uses(keys).tolist() == [n - 1 - i for i in next_uses(keys[::-1])[::-1]]


@pytest.fixture
def conversation(shared_data):
    """The blocks of Mooncake's conversation trace in the order asked for."""
    with (shared_data / "traces" / "mooncake_conversation_trace.jsonl").open(encoding="utf-8") as rows:
        return np.array([block for row in rows for block in json.loads(row)["hash_ids"]])


def test_lru_on_the_conversation_trace(conversation):
    ratios = lru_hit_curve(conversation)[[1000, 5000, 10_000, 20_000, 50_000]] / len(conversation)
    assert ratios.round(4).tolist() == [0.0445, 0.1104, 0.2112, 0.2875, 0.3546]


def test_aet_on_the_conversation_trace(conversation):
    error = np.abs(aet_hit_curve(conversation) - lru_hit_curve(conversation) / len(conversation))
    assert error[[1000, 5000, 10_000, 20_000, 50_000]].max() < 0.001
    assert error.mean() < 0.0005
    assert error.max() < 0.003


def skewed(requests, num_keys=20_000, exponent=0.9, seed=0):
    popularity = np.arange(1, num_keys + 1) ** -exponent
    return np.random.default_rng(seed).choice(num_keys, requests, p=popularity / popularity.sum())


def test_aet_is_close_to_the_exact_curve():
    keys = skewed(300_000)
    exact, estimated = lru_hit_curve(keys) / len(keys), aet_hit_curve(keys)
    up_to = len(exact) // 10
    assert estimated.shape == exact.shape
    assert np.abs(estimated - exact)[:up_to].mean() < 0.0015
    assert np.abs(estimated - exact).max() < 0.02


def test_aet_where_reuse_times_say_everything():
    """In a loop every reuse takes as long, so the cache holds all keys or hits nothing."""
    keys = list(range(50)) * 40
    assert aet_hit_curve(keys)[[10, 40, 50]] == pytest.approx([0, 0, 1 - 1 / 40], abs=0.3)
    assert aet_hit_curve([1] * 10).tolist() == [0, 0.9]
    assert aet_hit_curve([]).tolist() == [0]


def test_shards_of_all_keys_is_the_exact_curve():
    keys = skewed(5000)
    assert shards_hit_curve(keys, 1.0) == pytest.approx(lru_hit_curve(keys) / 5000)


def test_shards_depend_on_the_seed_and_are_right_on_average():
    """Unadjusted, a sample that lacks the hottest keys is far off; adjusted, it is not."""
    keys = skewed(100_000)
    sizes = [100, 500, 2000, 5000]
    exact = lru_hit_curve(keys)[sizes] / len(keys)
    curves = [shards_hit_curve(keys, 0.1, seed=seed)[sizes] for seed in range(12)]
    assert not np.array_equal(curves[0], curves[1])
    assert np.array_equal(curves[0], shards_hit_curve(keys, 0.1, seed=0)[sizes])
    error = np.std(curves, axis=0, ddof=1) / np.sqrt(12)
    assert np.all(np.abs(np.mean(curves, axis=0) - exact) < 4.4 * error + 0.002)  # Student's t, 11 degrees, 99.9 %
    plain = [shards_hit_curve(keys, 0.1, adjusted=False, seed=seed)[sizes] for seed in range(12)]
    assert np.abs(np.array(curves) - exact).mean() < np.abs(np.array(plain) - exact).mean() / 2


def test_shards_of_text_sample_by_first_use():
    keys = skewed(20_000).tolist()
    assert np.abs(shards_hit_curve([str(key) for key in keys], 0.5)[1000] - lru_hit_curve(keys)[1000] / 20_000) < 0.1


@pytest.mark.parametrize("rate", [0, -0.1, 1.5])
def test_a_rate_that_samples_nothing_or_too_much_is_refused(rate):
    with pytest.raises(ValueError, match=f"rate is {rate}"):
        shards_hit_curve([1, 2], rate)
