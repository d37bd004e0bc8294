"""A synthetic workload as the scenario writes it: complete, reproducible, and with streams that do not meddle."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from infertuner.sources.kinds import WorkloadKind
from infertuner.streams import Streams

WRITTEN = {
    "kind": "synthetic",
    "requests": 2000,
    "arrivals": {"kind": "poisson", "per_s": "90/min"},
    "prompt_tokens": {"kind": "lognormal", "mean_tokens": 200, "cv": 1.2},
    "output_tokens": {"kind": "uniform", "min_tokens": 50, "max_tokens": 149},
    "sessions": {"kind": "zipf", "users": 100},
    "prefix_tokens": {"kind": "uniform", "min_tokens": 0, "max_tokens": 800},
}


def read(**changes):
    return TypeAdapter(WorkloadKind).validate_python(WRITTEN | changes)


def sample(seed=1, replication=0, **changes):
    return read(**changes).sample(Streams(seed, replication))


def columns(requests):
    return {
        "arrivals": requests.pacing.arrived_at_s.tolist(),
        "sessions": list(requests.session_id),
        "prefix": requests.prefix_tokens.tolist(),
        "new": (requests.prompt_tokens - requests.prefix_tokens).tolist(),
        "output": requests.output_tokens.tolist(),
    }


def test_every_request_is_complete():
    requests = sample()
    assert len(requests) == 2000
    assert {len(column) for column in columns(requests).values()} == {2000}
    assert all(type(session) is int for session in requests.session_id)
    assert (requests.prefix_tokens >= 0).all()
    assert (requests.prefix_tokens <= requests.prompt_tokens - 1).all()
    assert (requests.output_tokens >= 1).all()


def test_equal_streams_give_equal_requests_and_replications_differ():
    assert columns(sample()) == columns(sample())
    first, second = columns(sample()), columns(sample(replication=1))
    assert not any(first[name] == second[name] for name in first)


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({"arrivals": {"kind": "gamma", "per_s": 3, "burstiness": 0.5}}, {"arrivals"}),
        ({"prompt_tokens": {"kind": "constant", "tokens": 5}}, {"new"}),
        ({"output_tokens": {"kind": "constant", "tokens": 5}}, {"output"}),
        ({"prefix_tokens": {"kind": "constant", "tokens": 5}}, {"prefix"}),
        ({"sessions": {"kind": "uniform", "users": 100}}, {"sessions", "prefix"}),
    ],
)
def test_changing_one_law_leaves_the_others_alone(changes, touched):
    before, after = columns(sample()), columns(sample(**changes))
    assert {name for name in before if before[name] != after[name]} == touched


def test_a_prefix_belongs_to_its_session_in_every_arm():
    by_session = {}
    for users in (100, 60):
        requests = sample(sessions={"kind": "zipf", "users": users})
        for session, prefix in zip(requests.session_id, requests.prefix_tokens.tolist(), strict=True):
            assert by_session.setdefault(session, prefix) == prefix
    assert len(set(by_session.values())) > 50


def test_without_sessions_or_prefix_nothing_is_reusable():
    written = {key: value for key, value in WRITTEN.items() if key not in {"sessions", "prefix_tokens"}}
    requests = TypeAdapter(WorkloadKind).validate_python(written).sample(Streams(1))
    assert list(requests.session_id) == list(range(2000))
    assert not requests.prefix_tokens.any()


def test_a_million_requests_over_a_changing_population():
    requests = sample(
        requests="1M",
        sessions={
            "kind": "zipf",
            "users": "100k",
            "exponent": 0.9,
            "churn": {"replaced_ratio": 0.01, "every_requests": "10k"},
            "phases": [
                {"requests_ratio": 0.25, "active_users": "1k"},
                {"requests_ratio": 0.5, "active_users": "100k"},
                {"requests_ratio": 0.25, "active_users": "5k"},
            ],
        },
    )
    session = np.array(requests.session_id)
    newcomers = session[session >= 100_000]
    assert len(session) == 1_000_000
    assert newcomers.max() < 100_000 + 1_000_000 * 0.01 * 100_000 / 10_000
    active = [len(np.unique(part)) for part in (session[:250_000], session[250_000:750_000], session[750_000:])]
    assert active[0] < active[2] < active[1]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompt_tokens": {"kind": "constant", "tokens": 0}}, "prompt_tokens: its smallest value is 0 tokens"),
        ({"output_tokens": {"kind": "uniform", "min_tokens": 0, "max_tokens": 9}}, "output_tokens: its smallest value"),
        ({"requests": 0}, "greater than or equal to 1"),
        ({"arrivals": {"kind": "poisson", "per_s": 0}}, "greater than 0"),
        ({"arrivals": {"kind": "on_off", "on_per_s": 1, "on_s": 1, "off_s": 1, "off_per_s": -1}}, "or equal to 0"),
        ({"speed": 2}, "speed"),
    ],
)
def test_impossible_workloads_are_refused(changes, complaint):
    with pytest.raises(ValidationError) as refused:
        read(**changes)
    assert complaint in str(refused.value)
