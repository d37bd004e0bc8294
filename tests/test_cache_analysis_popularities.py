"""Hit ratios from popularities, each against something computed another way."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.analysis import (
    a0_hit_ratio,
    che_capacity,
    che_fifo_hit_ratio,
    che_hit_ratio,
    gelenbe_hit_ratio,
    king_hit_ratio,
    lru_hit_curve,
    lru_hits_in_bytes,
    static_optimum,
    ttl_hit_ratios,
)


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


@pytest.mark.parametrize("exponent", [0.8, 1.0])
def test_che_is_within_a_thousandth_of_lru_up_to_a_twentieth_of_the_keys(exponent):
    popularity, requests, sizes = zipf(100_000, exponent), 1_000_000, [100, 1000, 5000]
    share = np.cumsum(popularity / popularity.sum())
    rng = np.random.default_rng(7)
    curves = [lru_hit_curve(np.searchsorted(share, rng.random(requests)))[sizes] / requests for _ in range(3)]
    expected = [che_hit_ratio(popularity, entries, requests) for entries in sizes]
    assert np.mean(curves, axis=0) == pytest.approx(expected, abs=0.001)


def test_che_in_bytes_agrees_with_simulated_lru():
    rng = np.random.default_rng(11)
    popularity, sizes, requests = zipf(3000, 0.9), rng.integers(1, 200, 3000), 40_000
    share = np.cumsum(popularity / popularity.sum())
    capacities = [2000, 20_000, 100_000]
    traces = [np.searchsorted(share, rng.random(requests)) for _ in range(10)]
    ratios = [lru_hits_in_bytes(keys, sizes[keys], capacities) / requests for keys in traces]
    interval = 4.8 * np.std(ratios, axis=0, ddof=1) / np.sqrt(10)
    expected = [che_hit_ratio(popularity, capacity, requests, sizes=sizes) for capacity in capacities]
    assert np.all(np.abs(np.mean(ratios, axis=0) - expected) < interval + 0.002)


def test_che_of_sizes_in_another_unit_is_the_same():
    popularity, sizes = zipf(50, 1.0), np.arange(50) + 1
    assert che_hit_ratio(popularity, 300, sizes=sizes) == pytest.approx(
        che_hit_ratio(popularity * 9, 300 * 1024, sizes=sizes * 1024)
    )
    assert che_hit_ratio(popularity, sizes.sum(), sizes=sizes) == 1


@given(st.floats(0.01, 0.99), st.booleans())
def test_che_read_backwards_gives_the_hit_ratio_asked_for(hit_ratio, in_bytes):
    popularity = zipf(500, 0.8)
    sizes = np.arange(500) % 7 + 1 if in_bytes else None
    capacity = che_capacity(popularity, hit_ratio, sizes=sizes)
    assert che_hit_ratio(popularity, capacity, sizes=sizes) == pytest.approx(hit_ratio, abs=1e-6)


def test_capacity_for_everything_nothing_and_more():
    assert che_capacity([1, 2, 0], 1) == 2
    assert che_capacity([1, 2, 0], 0) == 0
    with pytest.raises(ValueError, match=r"hit_ratio is 1\.1"):
        che_capacity([1, 2], 1.1)


def test_published_sizes_for_a_target():
    """Zipf of 100,000 keys: 0.5 and 0.7 at exponent 1.0, 0.5 at 0.8."""
    assert round(che_capacity(zipf(100_000, 1.0), 0.5)) == 938
    assert round(che_capacity(zipf(100_000, 1.0), 0.7)) == 7002
    assert round(che_capacity(zipf(100_000, 0.8), 0.5)) == 12_098


def test_seven_keys_of_which_two_fit():
    popularity = zipf(7, 1.0)
    assert king_hit_ratio(popularity, 2) == pytest.approx(0.41764, abs=5e-6)
    assert che_hit_ratio(popularity, 2) == pytest.approx(0.409, abs=5e-4)
    assert gelenbe_hit_ratio(popularity, 2) == pytest.approx(0.40360, abs=5e-6)
    assert che_fifo_hit_ratio(popularity, 2) == pytest.approx(0.385, abs=5e-4)
    assert a0_hit_ratio(popularity, 2) == pytest.approx(0.50960, abs=5e-6)
    assert static_optimum(popularity, 2) == pytest.approx(0.57851, abs=5e-6)


def test_fifo_of_two_hundred_keys():
    assert che_fifo_hit_ratio(zipf(200, 0.8), 50) == pytest.approx(0.47468, abs=5e-6)
    assert gelenbe_hit_ratio(zipf(200, 0.8), 50) == pytest.approx(0.47570, abs=5e-6)


small = st.lists(st.floats(0.01, 1), min_size=2, max_size=6)


@given(small, st.data())
def test_king_is_the_sum_over_all_orders(popularity, data):
    """The formula as King wrote it: every ordered set of keys, each drawn from what is left."""
    entries = data.draw(st.integers(0, len(popularity) - 1))
    p = np.array(popularity) / sum(popularity)
    total = 0.0
    for order in permutations(range(len(p)), entries):
        likely = np.prod([p[i] / (1 - p[list(order[:k])].sum()) for k, i in enumerate(order)])
        total += likely * p[list(order)].sum()
    assert king_hit_ratio(popularity, entries) == pytest.approx(total)


@given(small, st.data())
def test_gelenbe_is_the_sum_over_all_sets(popularity, data):
    """A set of keys is held in proportion to the product of their popularities."""
    entries = data.draw(st.integers(1, len(popularity) - 1))
    p = np.array(popularity) / sum(popularity)
    sets = [list(held) for held in combinations(range(len(p)), entries)]
    likely = np.array([np.prod(p[held]) for held in sets])
    expected = likely @ [p[held].sum() for held in sets] / likely.sum()
    assert gelenbe_hit_ratio(popularity, entries) == pytest.approx(expected)


@given(small, st.data())
def test_fifo_is_below_lru_below_a0_below_the_static_optimum(popularity, data):
    entries = data.draw(st.integers(0, len(popularity)))
    ratios = [
        formula(popularity, entries) for formula in (gelenbe_hit_ratio, king_hit_ratio, a0_hit_ratio, static_optimum)
    ]
    assert np.all(np.diff(ratios) >= -1e-12)


def test_gelenbe_neither_overflows_nor_vanishes_for_many_keys():
    popularity = zipf(700, 1.5)  # e_300 of these is below 1e-300
    assert gelenbe_hit_ratio(popularity, 300) == pytest.approx(che_fifo_hit_ratio(popularity, 300), abs=1e-3)
    assert gelenbe_hit_ratio(np.ones(700), 699) == pytest.approx(699 / 700)


def test_a0_on_a_simulated_cache():
    p = zipf(30, 0.7) / zipf(30, 0.7).sum()
    keys = np.random.default_rng(1).choice(30, 100_000, p=p)
    others = keys[keys >= 9]
    hits = np.count_nonzero(keys < 9) + np.count_nonzero(others[1:] == others[:-1])
    assert a0_hit_ratio(p, 10) == pytest.approx(hits / 100_000, abs=4 * np.sqrt(0.25 / 100_000))


def test_king_refuses_what_would_take_for_ever():
    for entries in (50, 99):
        with pytest.raises(ValueError, match=f"{entries} of 100 keys"):
            king_hit_ratio(np.ones(100), entries)


def simulated_ttl_hits(instants, ttl_s, reset):
    hits, leaves_at_s = 0, -1.0
    for at_s in instants:
        hit = at_s < leaves_at_s
        hits += hit
        if reset or not hit:
            leaves_at_s = at_s + ttl_s
    return hits


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("rate_per_s", [0.2, 3.0])
def test_ttl_hits_of_poisson_arrivals(reset, rate_per_s):
    n = 50_000
    instants = np.cumsum(np.random.default_rng(4).exponential(1 / rate_per_s, n))
    expected = float(ttl_hit_ratios(rate_per_s, 0.5, reset=reset))
    within = 4 * np.sqrt(expected * (1 - expected) / n)
    assert simulated_ttl_hits(instants.tolist(), 0.5, reset) / n == pytest.approx(expected, abs=within)


def test_only_rate_times_ttl_matters():
    rates = np.array([0.1, 1, 10])
    for reset in (True, False):
        assert ttl_hit_ratios(rates, 2, reset=reset) == pytest.approx(ttl_hit_ratios(rates * 60, 2 / 60, reset=reset))
    assert np.all(ttl_hit_ratios(rates, 2) > ttl_hit_ratios(rates, 2, reset=False))
