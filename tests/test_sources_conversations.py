"""Conversations: what they know of before, how long they last, and that nothing else moves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from infertuner.sources.conversations import Conversations
from infertuner.sources.kinds import WorkloadKind
from infertuner.streams import Streams

WRITTEN = {
    "kind": "synthetic",
    "requests": 4000,
    "arrivals": {"kind": "diurnal", "per_s": 2, "amplitude_ratio": 0.5, "period_s": 600},
    "prompt_tokens": {"kind": "uniform", "min_tokens": 10, "max_tokens": 90},
    "output_tokens": {"kind": "uniform", "min_tokens": 5, "max_tokens": 55},
    "sessions": {"kind": "zipf", "users": 300, "churn": {"replaced_ratio": 0.05, "every_requests": 500}},
    "conversations": {"mean_turns": 4, "max_context_tokens": 1000},
}


def read(**changes):
    return TypeAdapter(WorkloadKind).validate_python(WRITTEN | changes)


def sample(seed=1, **changes):
    return read(**changes).sample(Streams(seed))


def told(user, said, last, most):
    """Sessions and prefixes, request by request: the definition."""
    going, session, prefix = {}, [], []
    for request, (who, tokens, ends) in enumerate(zip(user, said, last, strict=True)):
        opened, before = going.get(who, (request, 0))
        if most is not None and before and before + tokens > most:
            opened, before = request, 0
        session.append(opened)
        prefix.append(before)
        going[who] = (opened, before + tokens)
        if ends:
            del going[who]
    return session, prefix


@given(
    turns=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=60),
    mean_turns=st.floats(1, 30),
    most=st.none() | st.integers(9, 40),
    seed=st.integers(0, 99),
)
def test_prefixes_are_the_sums_of_the_earlier_turns(turns, mean_turns, most, seed):
    user, said = (np.array(column) for column in zip(*turns, strict=True))
    talks = Conversations(mean_turns=mean_turns, max_context_tokens=most)
    session, prefix = talks.sample(user, said, np.random.default_rng(seed))
    last = np.random.default_rng(seed).random(len(user)) * mean_turns < 1
    assert (session.tolist(), prefix.tolist()) == told(user.tolist(), said.tolist(), last, most)


@pytest.mark.parametrize("mean_turns", [1, 1.5, 6])
def test_the_number_of_turns_is_geometric(mean_turns):
    """Of 2000 users with 50 requests each, the conversations that end before the last request count."""
    user = np.tile(np.arange(2000), 50)
    session, _ = Conversations(mean_turns=mean_turns).sample(
        user, np.ones(len(user), np.int64), np.random.default_rng(5)
    )
    first_of_each_user = np.bincount(session[user[session] == session], minlength=2000)
    turns = np.minimum(first_of_each_user, 6)
    p = 1 / mean_turns
    chances = [p * (1 - p) ** (k - 1) for k in range(1, 6)]
    expected = 2000 * np.array([*chances, 1 - sum(chances)])
    seen = np.bincount(turns, minlength=7)[1:7]
    if mean_turns == 1:
        assert seen[0] == 2000
    else:
        assert stats.chisquare(seen, expected).pvalue > 1e-4


def test_no_context_exceeds_its_cap_and_some_come_close():
    requests = sample()
    whole = requests.prompt_tokens + requests.output_tokens
    assert 900 < whole.max() <= 1000
    assert (requests.prefix_tokens < requests.prompt_tokens).all()


def test_a_session_belongs_to_one_person():
    with_talks = sample()
    people = np.array(sample(conversations=None).session_id)
    session = np.array(with_talks.session_id)
    assert (people[session] == people).all(), "the request that opened it was sent by the same person"
    assert (session <= np.arange(len(session))).all()


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"arrivals": {"kind": "fixed", "interval_s": 1}}, {"session", "prefix", "new", "output"}),
        ({"conversations": {"mean_turns": 2}}, {"new", "output", "arrivals"}),
        ({"sessions": {"kind": "uniform", "users": 9}}, {"new", "output", "arrivals"}),
    ],
)
def test_arms_that_differ_in_one_law_share_the_others(changes, same):
    def columns(requests):
        return {
            "arrivals": requests.pacing.arrived_at_s.tolist(),
            "session": list(requests.session_id),
            "prefix": requests.prefix_tokens.tolist(),
            "new": (requests.prompt_tokens - requests.prefix_tokens).tolist(),
            "output": requests.output_tokens.tolist(),
        }

    before, after = columns(sample()), columns(sample(**changes))
    assert {name for name in before if before[name] == after[name]} == same


def test_longer_conversations_only_join_what_shorter_ones_part():
    short = np.array(sample(conversations={"mean_turns": 2}).session_id)
    long = np.array(sample(conversations={"mean_turns": 8}).session_id)
    assert len(set(long.tolist())) < len(set(short.tolist()))
    assert (long[short] == long).all()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prefix_tokens": {"kind": "constant", "tokens": 5}}, "a turn's prefix is what was said before"),
        ({"conversations": {"mean_turns": 4, "max_context_tokens": 144}}, "must be at least the longest turn"),
        ({"conversations": {"mean_turns": 0.5}}, "greater than or equal to 1"),
    ],
)
def test_impossible_conversations_are_refused(changes, complaint):
    with pytest.raises(ValidationError) as refused:
        read(**changes)
    assert complaint in str(refused.value)
