"""Laws of every token length, and the exact distribution of each."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from infertuner.sources.lengths import ChosenTokens, ConstantTokens, LogNormalTokens, TokenLengths, UniformTokens

LAWS = {
    "constant": (ConstantTokens(kind="constant", tokens=7), 7, 7),
    "uniform": (UniformTokens(kind="uniform", min_tokens=3, max_tokens=9), 3, 9),
    "lognormal": (LogNormalTokens(kind="lognormal", mean_tokens=300, cv=1), 1, math.inf),
    "cut lognormal": (LogNormalTokens(kind="lognormal", mean_tokens=20, cv=2, min_tokens=4, max_tokens=40), 4, 40),
    "choice": (ChosenTokens(kind="choice", tokens=[100, 1, 10], weights=[1, 5, 2]), 1, 100),
}
"""Every law, with its smallest and largest value."""

every_law = pytest.mark.parametrize(("law", "smallest", "largest"), LAWS.values(), ids=LAWS)
ALMOST_ONE = 1 - 2**-53


def draw(law, n, seed=0):
    return law.quantile(np.random.default_rng(seed).random(n))


@every_law
def test_whole_tokens_between_the_bounds(law, smallest, largest):
    tokens = law.quantile(np.append([0, ALMOST_ONE], np.random.default_rng(0).random(10_000)))
    assert tokens.dtype == np.int64
    assert tokens[0] == tokens.min() == smallest
    assert tokens.max() <= largest


@every_law
def test_more_chance_never_means_fewer_tokens(law, smallest, largest):
    tokens = law.quantile(np.linspace(0, ALMOST_ONE, 5000))
    assert (np.diff(tokens) >= 0).all()
    assert tokens[-1] == largest or largest == math.inf


def exact_shares(name):
    """The probability of each number of tokens, by an independent formula."""
    if name == "uniform":
        return dict.fromkeys(range(3, 10), 1 / 7)
    if name == "choice":
        return {1: 5 / 8, 10: 2 / 8, 100: 1 / 8}
    law = stats.lognorm(s=math.sqrt(math.log(5)), scale=20 / math.sqrt(5))  # cv 2, mean 20
    inside = law.cdf(40.5) - law.cdf(3.5)
    return {tokens: (law.cdf(tokens + 0.5) - law.cdf(tokens - 0.5)) / inside for tokens in range(4, 41)}


@pytest.mark.parametrize("name", ["uniform", "cut lognormal", "choice"])
def test_shares_are_exact_and_truncation_piles_nothing_up(name):
    shares = exact_shares(name)
    tokens = draw(LAWS[name][0], 50_000)
    observed = [np.count_nonzero(tokens == value) for value in shares]
    expected = 50_000 * np.array(list(shares.values()))
    assert sum(observed) == 50_000
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > 1e-4


@pytest.mark.parametrize("cv", [0.1, 1, 2])
def test_lognormal_has_its_mean_and_cv(cv):
    tokens = draw(LogNormalTokens(kind="lognormal", mean_tokens=5000, cv=cv), 100_000)
    log = np.log(tokens)
    variance = math.log(1 + cv**2)
    assert abs(log.mean() - (math.log(5000) - variance / 2)) < 4 * math.sqrt(variance / 100_000)
    assert abs(log.var() / variance - 1) < 4 * math.sqrt(2 / 100_000)
    assert abs(tokens.mean() - 5000) < 4 * tokens.std() / math.sqrt(100_000)


@given(
    mean_tokens=st.floats(0.5, 1e5),
    cv=st.floats(0.05, 5),
    min_tokens=st.integers(0, 1000),
    width=st.integers(0, 10_000),
    u=st.lists(st.floats(0, ALMOST_ONE), min_size=1, max_size=20),
)
def test_a_lognormal_stays_in_its_window_or_is_refused(mean_tokens, cv, min_tokens, width, u):
    max_tokens = max(1, min_tokens + width)
    bounds = {"min_tokens": min_tokens, "max_tokens": max_tokens}
    sigma = math.sqrt(math.log(1 + cv**2))
    exact = stats.lognorm(s=sigma, scale=mean_tokens * math.exp(-(sigma**2) / 2))
    share = exact.cdf(max_tokens + 0.5) - exact.cdf(min_tokens - 0.5)
    try:
        law = LogNormalTokens(kind="lognormal", mean_tokens=mean_tokens, cv=cv, **bounds)
    except ValueError:
        assert share < 1.001e-6
        return
    assert share > 0.999e-6
    tokens = law.quantile(np.array(u))
    assert (tokens >= min_tokens).all()
    assert (tokens <= max_tokens).all()


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({"kind": "uniform", "min_tokens": 9, "max_tokens": 3}, "max_tokens is 3, must be at least min_tokens (9)"),
        (
            {"kind": "lognormal", "mean_tokens": 10, "cv": 0.1, "min_tokens": 900},
            "min_tokens (900) to max_tokens (unbounded) must hold",
        ),
        ({"kind": "choice", "tokens": [1, 2], "weights": [1]}, "weights has 1 entries, must have one for each of 2"),
        ({"kind": "choice", "tokens": []}, "at least 1 item"),
        ({"kind": "constant", "tokens": -1}, "greater than or equal to 0"),
        ({"kind": "lognormal", "mean_tokens": 10, "cv": 0}, "greater than 0"),
    ],
)
def test_impossible_laws_are_refused(written, complaint):
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(TokenLengths).validate_python(written)
    assert complaint in str(refused.value)
