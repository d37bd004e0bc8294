"""Exact and approximate hit ratios of LRU, each against something computed another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.analysis import che_hit_ratio, lru_hit_curve
from infertuner.cache.replay import lru_hits


@given(st.lists(st.integers(0, 12), max_size=80))
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


def zipf(num_keys, exponent):
    return np.arange(1, num_keys + 1) ** -exponent


@pytest.mark.parametrize("exponent", [0.8, 1.0])
def test_che_agrees_with_simulated_lru_from_an_empty_cache(exponent):
    popularity, requests = zipf(3000, exponent), 20_000
    share = np.cumsum(popularity / popularity.sum())
    rng = np.random.default_rng(20)
    curves = [lru_hit_curve(np.searchsorted(share, rng.random(requests)).tolist()) for _ in range(10)]
    for entries in (10, 100, 500, 1500):
        ratios = [curve[entries] / requests for curve in curves]
        interval = 4.8 * np.std(ratios, ddof=1) / np.sqrt(10)  # Student's t, 9 degrees of freedom, 99.9 %
        approximation = 0.002  # what Che's formula itself is worth on thousands of keys
        assert np.mean(ratios) == pytest.approx(
            che_hit_ratio(popularity, entries, requests), abs=interval + approximation
        )


def test_che_over_a_run_is_the_mean_over_its_requests_and_tends_to_the_steady_ratio():
    popularity, entries = zipf(200, 0.9), 40
    p = popularity / popularity.sum()
    steady = che_hit_ratio(popularity, entries)
    lifetimes = np.linspace(1, 500, 100_001)
    filled = np.array([np.sum(-np.expm1(-p * t)) for t in lifetimes[::100]])
    lifetime = np.interp(entries, filled, lifetimes[::100])
    k = np.arange(2000) + 0.5
    mean = np.mean([p @ -np.expm1(-p * min(at, lifetime)) for at in k])
    assert che_hit_ratio(popularity, entries, 2000) == pytest.approx(mean, abs=1e-4)
    assert che_hit_ratio(popularity, entries, 10**9) == pytest.approx(steady, abs=1e-6)
    assert che_hit_ratio(popularity, entries, 2000) < steady


def test_che_of_equal_popularities_is_the_share_of_keys_held():
    assert che_hit_ratio(np.ones(50), 20) == pytest.approx(0.4)


def test_che_at_the_edges():
    popularity = [3.0, 2.0, 1.0, 0.0]
    assert che_hit_ratio(popularity, 0) == pytest.approx(0)
    assert che_hit_ratio(popularity, 3) == 1  # the fourth key is never asked for
    assert che_hit_ratio(popularity, 3, requests=10**6) == pytest.approx(1 - 3 / 10**6)


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=30), st.data())
def test_che_grows_with_the_cache_and_never_beats_the_most_popular_keys(popularity, data):
    entries = data.draw(st.integers(1, len(popularity) - 1))
    ratio = che_hit_ratio(popularity, entries)
    best = sum(sorted(popularity, reverse=True)[:entries]) / sum(popularity)
    assert che_hit_ratio(popularity, entries - 1) < ratio <= best + 1e-9
