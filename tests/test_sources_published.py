"""The published sources, by plain value and by the exact expectation of the published hit count."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from infertuner.sources.kinds import WorkloadKind
from infertuner.sources.requests import ClosedLoop, OpenLoop
from infertuner.streams import Streams

PUBLISHED_RUNS = Path(__file__).resolve().parents[2] / "shared" / "data" / "upstream" / "cache_requests.csv"

WORKLOAD = TypeAdapter(WorkloadKind)
CACHE_AWARE = {"kind": "published_cache_aware", "requests": 80, "interval_s": "300ms", "loop": "open"}
PHASES = [(0, 12, 3), (12, 28, 8), (28, 44, 25), (44, 60, 40), (60, 80, 5)]
"""First and last request and active users of each phase, for 80 requests."""


def sample(replication=0, **written):
    return WORKLOAD.validate_python(written).sample(Streams(1, replication))


def user_of(key):
    return int(key.split("_")[1])


@pytest.mark.parametrize(
    "written",
    [
        {"kind": "published_basic", "requests": 50, "interval_s": 0.5},
        {"kind": "published_batching", "requests": 50, "interval_s": 0.2, "burst_size": 4},
        CACHE_AWARE,
    ],
    ids=lambda written: written["kind"],
)
def test_open_and_closed_loop_keep_the_same_gaps(written):
    sent = sample(**written | {"loop": "open", "first_at_s": 8})
    chained = sample(**written | {"loop": "closed", "first_at_s": 8})
    assert isinstance(sent.pacing, OpenLoop)
    assert isinstance(chained.pacing, ClosedLoop)
    assert (chained.pacing.users, chained.pacing.start_at_s, chained.pacing.think_s[0]) == (1, 8, 0)
    assert sent.pacing.arrived_at_s[0] == 8
    assert np.diff(sent.pacing.arrived_at_s) == pytest.approx(chained.pacing.think_s[1:])
    assert list(sent.session_id) == list(chained.session_id)
    assert np.array_equal(sent.output_tokens, chained.output_tokens)


@pytest.mark.parametrize(
    ("written", "least", "most", "n"),
    [
        ({"kind": "published_basic", "interval_s": 0, "loop": "open"}, 50, 149, 20_000),
        ({"kind": "published_batching", "interval_s": 0, "loop": "open", "burst_size": 2}, 50, 50, 100),
        ({"kind": "published_cache_aware", "interval_s": 0, "loop": "open"}, 50, 99, 20_000),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_output_tokens_are_the_published_limits(written, least, most, n):
    tokens = sample(**written, requests=n).output_tokens
    assert (tokens.min(), tokens.max()) == (least, most)
    error = math.sqrt(((most - least + 1) ** 2 - 1) / 12 / n)
    assert abs(tokens.mean() - (least + most) / 2) <= 4 * error


def test_basic_draws_three_users():
    users = sample(kind="published_basic", requests=3000, interval_s=0.5, loop="open").session_id
    counts = np.array([users.count(f"user{i}") for i in (1, 2, 3)])
    assert counts.sum() == 3000
    assert (abs(counts - 1000) < 4 * math.sqrt(3000 * 2 / 9)).all()


def test_batching_sleeps_after_each_burst():
    requests = sample(kind="published_batching", requests=7, interval_s=0.2, burst_size=3, loop="open")
    assert requests.pacing.arrived_at_s.tolist() == pytest.approx([0, 0, 0, 0.6, 0.6, 0.6, 1.2])
    assert requests.session_id[:2] == ["user_0", "user_1"]


@pytest.mark.parametrize(("interval_s", "early_s", "late_s"), [(0.3, 0.15, 0.1), (2, 1, 0.666), (0.005, 0.002, 0.001)])
def test_cache_aware_intervals_are_divided_in_whole_milliseconds(interval_s, early_s, late_s):
    requests = sample(**CACHE_AWARE | {"interval_s": interval_s})
    gaps_s = np.diff(requests.pacing.arrived_at_s)
    assert gaps_s == pytest.approx([early_s] * 44 + [late_s] * 35)


def test_cache_aware_phases_have_their_users():
    runs = [[user_of(key) for key in sample(replication, **CACHE_AWARE).session_id] for replication in range(300)]
    users = np.array(runs)
    for first, end, active in PHASES:
        in_phase = users[:, first:end]
        assert (in_phase.min(), in_phase.max()) == (1, active)
        favourites = {3: 1, 5: 3}.get(active)
        if favourites:
            expected = 0.8 + 0.2 * favourites / active
            error = math.sqrt(expected * (1 - expected) / in_phase.size)
            assert abs(np.mean(in_phase <= favourites) - expected) < 4 * error


def test_cache_aware_keys_are_the_published_ones():
    seen = {key for replication in range(50) for key in sample(replication, **CACHE_AWARE).session_id}
    assert {"user_001_1", "user_004_0", "user_005_1", "user_008_2", "user_010_1", "user_023_3", "user_040_0"} <= seen
    assert len(seen) == 40
    if not PUBLISHED_RUNS.exists():
        pytest.skip(f"{PUBLISHED_RUNS.name} is not here")
    with PUBLISHED_RUNS.open() as file:
        assert {row["key"] for row in csv.DictReader(file)} <= seen


def expected_distinct_users():
    """The exact expectation: each user misses every request with the product of the phases' probabilities."""
    total = 0.0
    for user in range(1, 41):
        never = 1.0
        for first, end, active in PHASES:
            chance = (user <= active) / active
            if active <= 5:
                favourites = 3 * active // 5
                chance = 0.2 * chance + 0.8 * (user <= favourites) / favourites
            never *= (1 - chance) ** (end - first)
        total += 1 - never
    return total


def test_cache_aware_hits_if_every_return_is_a_hit():
    """The published 55, 56 and 56 hits of 80 are draws of this distribution, whose mean is 56.06 and deviation 1.94."""
    hits = np.array([80 - len(set(sample(replication, **CACHE_AWARE).session_id)) for replication in range(2000)])
    error = hits.std(ddof=1) / math.sqrt(len(hits))
    assert abs(hits.mean() - (80 - expected_distinct_users())) < 4 * error
    assert abs(hits.mean() - 56.06) < 4 * error
    assert abs(hits.std(ddof=1) - 1.94) < 4 * 1.94 / math.sqrt(2 * len(hits))


def test_equal_streams_give_equal_requests():
    assert sample(**CACHE_AWARE).session_id == sample(**CACHE_AWARE).session_id
    assert sample(**CACHE_AWARE).session_id != sample(1, **CACHE_AWARE).session_id


def test_cache_aware_refuses_what_its_clock_cannot_divide():
    with pytest.raises(ValidationError, match=r"interval_s is 0\.0005, must be whole milliseconds"):
        sample(**CACHE_AWARE | {"interval_s": 0.0005})
