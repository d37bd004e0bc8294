"""The first implementation's own logs: its lookups, replayed, give its counts and its sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infertuner.cache.config import TwoLevel
from infertuner.cache.lru import Lru
from infertuner.cache.replay import replay
from infertuner.cache.sizing.fluid import Fluid
from infertuner.cache.sizing.frequency import Frequency
from infertuner.cache.sizing.static import Static
from infertuner.cache.two_level import TwoLevelCache
from infertuner.records import CacheLevel

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "upstream"
LOGS, TOTALS = FOLDER / "cache_requests.csv", FOLDER / "cache_totals.csv"
STRATEGY = dict(pd.read_csv(TOTALS)[["run", "strategy"]].to_numpy()) if TOTALS.exists() else {"absent": "FREQUENCY"}

pytestmark = pytest.mark.skipif(not TOTALS.exists(), reason=f"{TOTALS.name} of the first implementation is not here")


@pytest.fixture(params=STRATEGY)
def totals(request):
    return pd.read_csv(TOTALS).set_index("run").loc[request.param]


@pytest.fixture
def log(totals):
    rows = pd.read_csv(LOGS, parse_dates=["finished_at"])
    return rows[rows["run"] == totals.name]


def looked_up_with_logged_sizes(log):
    """The two tiers after the logged lookups, their sizes as logged, and the level of each lookup."""
    cache, levels = TwoLevelCache(Lru(), Lru()), []
    for key, entries in zip(log["key"], log["local_entries_limit"], strict=True):
        cache.resize_local(entries)
        levels.append(cache.lookup(key)[0])
        if levels[-1] is CacheLevel.MISS:
            cache.insert(key, 1)
    return cache, levels


def started_at_s(log):
    """When each lookup began, which is when FLUID looked at the clock: completion less latency.

    The reported latency leaves out the 50 ms spent on looking into the remote tier.
    """
    _, levels = looked_up_with_logged_sizes(log)
    finished_at_s = (log["finished_at"] - log["finished_at"].iloc[0]).dt.total_seconds().to_numpy()
    remote_s = np.where(np.array(levels) == CacheLevel.LOCAL, 0, 0.05)
    return finished_at_s - log["reported_latency_ms"].to_numpy() / 1000 - remote_s


def published_sizing(strategy, entries):
    if strategy == "STATIC":
        return Static(kind="static", entries=entries)
    if strategy == "FLUID":
        return Fluid(kind="fluid", initial_entries=entries)
    return Frequency(kind="frequency", initial_entries=entries)


def test_logged_sizes_give_the_logged_counts(log, totals):
    cache, levels = looked_up_with_logged_sizes(log)
    assert cache.local_hits == totals["local_hits"]
    assert cache.remote_hits == totals["remote_hits"]
    assert cache.misses == totals["misses"]
    assert [level is not CacheLevel.MISS for level in levels] == log["hit"].tolist()


def test_published_policies_give_the_logged_sizes_and_counts(log, totals):
    sizing = published_sizing(totals["strategy"], int(log["local_entries_limit"].iloc[0]))
    config = TwoLevel(kind="two_level", sizing=sizing, remote_latency_s=0.05, miss_penalty_s=1.0)
    result = replay(log["key"].tolist(), started_at_s(log), config)
    assert result.local_entries.tolist() == log["local_entries_limit"].tolist()
    assert (result.local_hits, result.remote_hits, result.misses) == tuple(
        totals[["local_hits", "remote_hits", "misses"]]
    )


@pytest.mark.parametrize("totals", [run for run, s in STRATEGY.items() if s == "FREQUENCY"], indirect=True)
def test_frequency_gives_the_logged_estimates(log, totals):
    policy, estimates = Frequency(kind="frequency"), []
    for n, key in enumerate(log["key"], start=1):
        policy.observe(key, 0.0)
        if n % policy.check_every_requests == 0:
            estimates.append(policy.covering_entries())
    assert estimates == [int(entries) for entries in totals["frequency_size_estimates"].split()]


def test_reported_latency_is_inference_plus_the_miss_penalty(log):
    config = TwoLevel(kind="two_level", sizing=Static(kind="static"), remote_latency_s=0, miss_penalty_s=1.0)
    _, levels = looked_up_with_logged_sizes(log)
    waited_ms = [1000 * config.fetch_s(level, tokens=0) for level in levels]
    assert log["reported_latency_ms"].to_numpy() == pytest.approx(log["inference_ms"] + waited_ms, abs=0.01)
