"""Laws of every arrival process, and what theory says about each."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from infertuner.sources.arrivals import (
    Diurnal,
    FixedInterval,
    Gamma,
    OnOff,
    Phase,
    Phases,
    Poisson,
    Surge,
    ThinkingUsers,
)
from infertuner.sources.requests import ClosedLoop, OpenLoop

OPEN = {
    "fixed": FixedInterval(kind="fixed", interval_s=0.25),
    "poisson": Poisson(kind="poisson", per_s=4),
    "bursty gamma": Gamma(kind="gamma", per_s=4, burstiness=0.3),
    "calm gamma": Gamma(kind="gamma", per_s=4, burstiness=5),
    "interrupted": OnOff(kind="on_off", on_per_s=16, on_s=1, off_s=3),
    "two rates": OnOff(kind="on_off", on_per_s=10, off_per_s=2, on_s=1, off_s=3),
    "one phase": Phases(kind="phases", phases=[Phase(per_s=4, duration_s=1)]),
    "diurnal": Diurnal(kind="diurnal", per_s=4, amplitude_ratio=0.6, period_s=50),
    "dry at low tide": Diurnal(kind="diurnal", per_s=4, amplitude_ratio=1, period_s=50),
}
"""Every open process, all with a mean of 4 requests per second."""

every_open = pytest.mark.parametrize("arrivals", OPEN.values(), ids=OPEN)


def instants(arrivals, n, seed=0):
    pacing = arrivals.sample(n, np.random.default_rng(seed))
    assert isinstance(pacing, OpenLoop)
    return pacing.arrived_at_s


def assert_mean(values, expected):
    """The mean of independent values agrees with theory within 4 standard errors (missed once in 16,000)."""
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error + 1e-12


@every_open
@pytest.mark.parametrize("n", [1, 2, 1000])
def test_instants_are_n_and_in_order_from_zero_on(arrivals, n):
    at_s = instants(arrivals, n)
    assert at_s.shape == (n,)
    assert at_s.dtype == np.float64
    assert at_s[0] >= 0
    assert np.isfinite(at_s).all()
    assert (np.diff(at_s) >= 0).all()


@every_open
def test_equal_seeds_give_equal_instants(arrivals):
    assert np.array_equal(instants(arrivals, 500, seed=3), instants(arrivals, 500, seed=3))


@every_open
def test_counts_over_whole_periods_have_the_mean_rate(arrivals):
    counts = [np.count_nonzero(instants(arrivals, 900, seed) < 100) for seed in range(200)]
    assert max(counts) < 900, "the horizon must not be cut by n"
    # A renewal process that starts with a full gap counts (cv^2 - 1) / 2 more in the long run (Cox, Renewal Theory).
    extra = (1 / arrivals.burstiness - 1) / 2 if isinstance(arrivals, Gamma) else 0
    assert_mean(counts, 400 + extra)


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        (FixedInterval(kind="fixed", interval_s=1), FixedInterval(kind="fixed", interval_s=0.5)),
        (Poisson(kind="poisson", per_s=1), Poisson(kind="poisson", per_s=2)),
        (Gamma(kind="gamma", per_s=1, burstiness=0.5), Gamma(kind="gamma", per_s=2, burstiness=0.5)),
    ],
)
def test_twice_the_rate_is_the_same_randomness_in_half_the_time(slow, fast):
    assert instants(fast, 300) == pytest.approx(instants(slow, 300) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        (OnOff(kind="on_off", on_per_s=5, on_s=2, off_s=3), OnOff(kind="on_off", on_per_s=7, on_s=2, off_s=3)),
        (Diurnal(kind="diurnal", per_s=1, amplitude_ratio=0.9), Diurnal(kind="diurnal", per_s=3, amplitude_ratio=0.9)),
    ],
)
def test_a_higher_rate_sends_each_request_earlier(slow, fast):
    assert (instants(fast, 2000) < instants(slow, 2000)).all()


def test_fixed_is_a_metronome():
    at_s = instants(FixedInterval(kind="fixed", interval_s=0.5, first_at_s=2), 4)
    assert at_s.tolist() == [2, 2.5, 3, 3.5]


def test_poisson_gaps_are_exponential_and_counts_have_their_mean_as_variance():
    at_s = instants(OPEN["poisson"], 20_000)
    gaps_s = np.diff(at_s, prepend=0)
    assert stats.kstest(gaps_s, stats.expon(scale=0.25).cdf).pvalue > 1e-4
    counts = np.bincount(at_s.astype(int))[:-1]
    dispersion = counts.var(ddof=1) / counts.mean()
    low, high = stats.chi2(len(counts) - 1).ppf([1e-4, 1 - 1e-4]) / (len(counts) - 1)
    assert low < dispersion < high


@pytest.mark.parametrize("burstiness", [0.2, 0.5, 1, 4])
def test_gamma_gaps_have_cv_of_one_over_root_burstiness(burstiness):
    gaps_s = np.diff(instants(Gamma(kind="gamma", per_s=8, burstiness=burstiness), 50_000), prepend=0)
    assert_mean(gaps_s, 1 / 8)
    assert_mean((8 * gaps_s) ** 2, 1 + 1 / burstiness)


@pytest.mark.parametrize("name", ["interrupted", "two rates"])
def test_on_off_counts_are_as_overdispersed_as_theory_says(name):
    """Variance of counts of a two-state MMPP (Fischer and Meier-Hellstern, Performance Evaluation 18, 1993)."""
    source, window_s = OPEN[name], 10
    counts = np.array([np.count_nonzero(instants(source, 250, seed) < window_s) for seed in range(3000)])
    assert counts.max() < 250
    leave_on, leave_off = 1 / source.on_s, 1 / source.off_s
    switching = leave_on + leave_off
    swing = (source.on_per_s - source.off_per_s) ** 2 * leave_on * leave_off / switching**3
    settled = 1 - (1 - math.exp(-switching * window_s)) / (switching * window_s)
    variance = 4 * window_s + 2 * swing * window_s * settled
    assert variance > 1.5 * 4 * window_s
    assert_mean((counts - 4 * window_s) ** 2, variance)


def test_on_off_with_equal_rates_is_poisson():
    same = OnOff(kind="on_off", on_per_s=4, off_per_s=4, on_s=1, off_s=3)
    assert instants(same, 500) == pytest.approx(instants(OPEN["poisson"], 500), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    per_s=st.floats(0.01, 1000),
    amplitude_ratio=st.one_of(st.floats(0, 1), st.just(1.0)),
    period_s=st.floats(0.1, 1e6),
    seed=st.integers(0, 1000),
)
def test_diurnal_instants_have_the_expected_counts_of_a_unit_poisson_process(per_s, amplitude_ratio, period_s, seed):
    tide = Diurnal(kind="diurnal", per_s=per_s, amplitude_ratio=amplitude_ratio, period_s=period_s)
    at_s = instants(tide, 200, seed)
    angle = 2 * math.pi * at_s / period_s
    swing = amplitude_ratio * period_s / (2 * math.pi) * (1 - np.cos(angle))
    unit = instants(Poisson(kind="poisson", per_s=1), 200, seed)
    assert per_s * (at_s + swing) == pytest.approx(unit, rel=1e-9, abs=1e-9 * per_s * period_s)


def test_phases_have_their_rates_and_the_last_one_stays():
    crowd = Phases(
        kind="phases",
        phases=[Phase(per_s=10, duration_s=100), Phase(per_s=100, duration_s=20), Phase(per_s=5, duration_s=1)],
    )
    at_s = instants(crowd, 6000)
    for since_s, until_s, per_s in ((0, 100, 10), (100, 120, 100), (120, at_s[-1], 5)):
        expected = per_s * (until_s - since_s)
        assert abs(np.sum((at_s >= since_s) & (at_s < until_s)) - expected) < 4 * math.sqrt(expected) + 1
        gaps = np.diff(at_s[(at_s >= since_s) & (at_s < until_s)])
        assert_mean(gaps, 1 / per_s)


@pytest.mark.parametrize("factor", [0.25, 3])
def test_a_surge_multiplies_the_rate_while_it_lasts_and_moves_nothing_before_it(factor):
    tide = {"kind": "diurnal", "per_s": 50, "amplitude_ratio": 0.8, "period_s": 100}
    surge = Surge(at_s=30, duration_s=20, factor=factor)
    calm, surging = instants(Diurnal(**tide), 40_000), instants(Diurnal(**tide, surges=[surge]), 40_000)
    assert np.allclose(surging[surging < 30], calm[calm < 30], rtol=0, atol=1e-9)

    def count(at_s, start, end):
        return int(((at_s >= start) & (at_s < end)).sum())

    for start, end in ((30, 40), (40, 50)):
        lower, upper = stats.poisson.interval(1 - 1e-5, factor * count(calm, start, end))
        slack = 5 * factor * count(calm, start, end) ** 0.5
        assert lower - slack < count(surging, start, end) < upper + slack
    assert count(surging, 100, 200) == pytest.approx(5000, abs=5 * 100)


def test_surges_come_one_after_the_other():
    with pytest.raises(ValueError, match="before the one given before it has ended"):
        Diurnal(
            kind="diurnal",
            per_s=1,
            amplitude_ratio=0.5,
            surges=[Surge(at_s=5, duration_s=10, factor=2), Surge(at_s=14, duration_s=1, factor=2)],
        )


def test_diurnal_high_tide_is_in_the_first_half():
    at_s = instants(Diurnal(kind="diurnal", per_s=100, amplitude_ratio=0.5, period_s=10), 10_000)
    at_s = at_s[at_s < 100 - 100 % 10]
    first_half = np.count_nonzero(at_s % 10 < 5)
    expected = 0.5 + 0.5 / math.pi
    assert stats.binomtest(first_half, len(at_s), expected).pvalue > 1e-4


def test_thinking_users_pause_as_told():
    fixed = ThinkingUsers(kind="closed_loop", users=3, think_s=2, start_at_s=8).sample(5, np.random.default_rng(0))
    assert isinstance(fixed, ClosedLoop)
    assert (fixed.users, fixed.start_at_s, fixed.think_s.tolist()) == (3, 8, [2.0] * 5)
    varied = ThinkingUsers(kind="closed_loop", users=3, think_s=2, think_law="exponential")
    think_s = varied.sample(20_000, np.random.default_rng(0)).think_s
    assert stats.kstest(think_s, stats.expon(scale=2).cdf).pvalue > 1e-4
