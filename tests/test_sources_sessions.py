"""Laws of who sends: popularity, churn and phases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from infertuner.sources.sessions import Churn, LoadPhase, OneRequestSessions, Sessions, UniformUsers, ZipfUsers

CHURN = Churn(replaced_ratio=0.1, every_requests=100)
PHASES = [LoadPhase(requests_ratio=0.25, active_users=5), LoadPhase(requests_ratio=0.75, active_users=40)]
LAWS = {
    "none": OneRequestSessions(kind="none"),
    "uniform": UniformUsers(kind="uniform", users=40),
    "zipf": ZipfUsers(kind="zipf", users=40, exponent=0.9),
    "churning": ZipfUsers(kind="zipf", users=40, exponent=0.9, churn=CHURN),
    "phased": ZipfUsers(kind="zipf", users=40, exponent=0.9, phases=PHASES),
    "both": ZipfUsers(kind="zipf", users=40, exponent=0.9, churn=CHURN, phases=PHASES),
}
every_law = pytest.mark.parametrize("sessions", LAWS.values(), ids=LAWS)


def draw(sessions, n, seed=0):
    return sessions.sample(n, np.random.default_rng(seed))


@every_law
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_one_session_number_from_zero_on_for_each_request(sessions, n):
    session = draw(sessions, n)
    assert session.shape == (n,)
    assert session.dtype == np.int64
    assert session.min() >= 0


@every_law
def test_equal_seeds_give_equal_sessions(sessions):
    assert np.array_equal(draw(sessions, 300, seed=5), draw(sessions, 300, seed=5))


def test_none_means_that_nobody_returns():
    assert draw(LAWS["none"], 4).tolist() == [0, 1, 2, 3]


def test_exponent_zero_is_uniform():
    even = ZipfUsers(kind="zipf", users=40, exponent=0)
    assert np.array_equal(draw(even, 1000), draw(LAWS["uniform"], 1000))
    assert stats.chisquare(np.bincount(draw(even, 40_000), minlength=40)).pvalue > 1e-4


@pytest.mark.parametrize("exponent", [0.6, 1, 2])
def test_popularity_falls_as_a_power_of_the_rank(exponent):
    shares = np.arange(1, 41) ** -float(exponent)
    observed = np.bincount(draw(ZipfUsers(kind="zipf", users=40, exponent=exponent), 40_000), minlength=40)
    assert stats.chisquare(observed, 40_000 * shares / shares.sum()).pvalue > 1e-4


def test_in_a_phase_only_the_most_popular_are_active():
    session = draw(LAWS["phased"], 4000)
    shares = np.arange(1, 6) ** -0.9
    assert session[:1000].max() < 5 <= session[1000:].max()
    observed = np.bincount(session[:1000], minlength=5)
    assert stats.chisquare(observed, 1000 * shares / shares.sum()).pvalue > 1e-4


def test_churn_replaces_one_by_one():
    lone = ZipfUsers(kind="zipf", users=1, churn=Churn(replaced_ratio=1, every_requests=3))
    assert draw(lone, 8).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_churn_takes_the_stated_share_of_the_users():
    """600 of 10,000 requests times 5 of 50 users per 100 requests: each original user survives (1 - 1/50)^300."""
    churning = ZipfUsers(kind="zipf", users=50, exponent=0, churn=CHURN)
    survivors = []
    for seed in range(300):
        last = draw(churning, 6001, seed)[-1]
        survivors.append(last < 50)
        assert last < 50 + 300
    assert stats.binomtest(sum(survivors), 300, (1 - 1 / 50) ** 300).pvalue > 1e-4


@given(
    users=st.integers(1, 8),
    replaced_ratio=st.floats(0, 1),
    every_requests=st.integers(1, 40),
    n=st.integers(1, 80),
    seed=st.integers(0, 99),
)
def test_churn_is_what_replaying_it_person_by_person_gives(users, replaced_ratio, every_requests, n, seed):
    place = np.random.default_rng(seed).integers(users, size=n)
    churn = Churn(replaced_ratio=replaced_ratio, every_requests=every_requests)
    leavers = iter((np.random.default_rng(1).random(n * users) * users).astype(int).tolist())
    people, newcomers, replayed = list(range(users)), 0, []
    for index, where in enumerate(place.tolist()):
        while newcomers < int(index * (replaced_ratio * users / every_requests)):
            people[next(leavers)] = users + newcomers
            newcomers += 1
        replayed.append(people[where])
    assert churn.sample(place, users, np.random.default_rng(1)).tolist() == replayed


def test_arms_with_and_without_churn_draw_the_same_places():
    still, churning = draw(LAWS["zipf"], 1000), draw(LAWS["churning"], 1000)
    original = churning < 40
    assert 0 < np.count_nonzero(original) < 1000
    assert np.array_equal(still[original], churning[original])


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (
            {"kind": "zipf", "users": 5, "phases": [{"requests_ratio": 1, "active_users": 6}]},
            "active_users is 6, must be at most users (5)",
        ),
        (
            {"kind": "zipf", "users": 5, "phases": [{"requests_ratio": 0.5, "active_users": 5}]},
            "requests_ratio values sum to 0.5, must sum to 1",
        ),
        ({"kind": "uniform", "users": 0}, "greater than or equal to 1"),
        ({"kind": "zipf", "users": 5, "exponent": -1}, "greater than or equal to 0"),
        ({"kind": "uniform", "users": 5, "exponent": 1}, "exponent"),
    ],
)
def test_impossible_sessions_are_refused(written, complaint):
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Sessions).validate_python(written)
    assert complaint in str(refused.value)
