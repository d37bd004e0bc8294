"""The request sources of the first InferTuner, exactly as they were, for reproducing its published experiments.

Facts from JiGuoDing/Infertuner at commit 45ca2d2: BasicRequestSource, SimpleBatchingRequestSource and
CacheAwareRequestSource. Its prompts were short questions whose length was never recorded and did not change latency,
so each is 1 token here; its answers nearly always ran into their limit, so the limit is the number of output tokens.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from infertuner import units
from infertuner.parts import Count, Seconds, part
from infertuner.sources.requests import ClosedLoop, Floats, Ints, OpenLoop, Pacing, Requests
from infertuner.streams import Streams

_PHASE_ENDS = (0.15, 0.35, 0.55, 0.75)
"""Progress at which each load phase but the last ends."""
_ACTIVE_USERS = np.array([3, 8, 25, 40, 5])
_INTERVAL_DIVISORS = np.array([2, 2, 2, 3, 3])


@part
class PublishedBasic:
    """BasicRequestSource: equal intervals, three users drawn uniformly, 50 to 149 output tokens."""

    kind: Literal["published_basic"]
    requests: Count
    """How many requests are sent."""
    interval_s: Seconds
    """The source's sleep between two requests."""
    loop: Literal["open", "closed"]
    """`open` sends on schedule; `closed` sleeps only after the previous answer, as the published jobs did where source
    and model ran in one thread (one GPU, no rebalancing)."""
    first_at_s: Seconds = 0.0
    """When the first request is sent."""

    def sample(self, streams: Streams) -> Requests:
        """The requests of one replication; equal streams give equal requests."""
        n = self.requests
        gap_s = np.full(n, self.interval_s, dtype=np.float64)
        gap_s[0] = 0
        users = [f"user{user}" for user in 1 + _uniform_below(3, streams.get("sessions").random(n))]
        return _requests(
            _paced(self.loop, gap_s, self.first_at_s),
            users,
            50 + _uniform_below(100, streams.get("output_tokens").random(n)),
        )


@part
class PublishedBatching:
    """SimpleBatchingRequestSource: bursts of requests, a sleep of interval x burst between them, 50 output tokens."""

    kind: Literal["published_batching"]
    requests: Count
    """How many requests are sent."""
    burst_size: Count
    """Requests sent at once."""
    interval_s: Seconds
    """The source's sleep between two requests; it sleeps `burst_size` times as long after each burst."""
    loop: Literal["open", "closed"]
    """`open` sends on schedule; `closed` sleeps only after the previous answer, as the published jobs did where source
    and model ran in one thread (one GPU, no rebalancing)."""
    first_at_s: Seconds = 0.0
    """When the first request is sent."""

    def sample(self, streams: Streams) -> Requests:
        """The requests of one replication; nothing here is random."""
        index = np.arange(self.requests)
        gap_s = np.where(index % self.burst_size == 0, self.interval_s * self.burst_size, 0.0)
        gap_s[0] = 0
        return _requests(
            _paced(self.loop, gap_s, self.first_at_s),
            [f"user_{user}" for user in index % 10],
            np.full(self.requests, 50),
        )


@part
class PublishedCacheAware:
    """CacheAwareRequestSource: five phases of 3, 8, 25, 40 and 5 active users, 50 to 99 output tokens.

    With at most 5 active users, 4 of 5 requests come from the first 60 % of them; otherwise all are equally likely.
    Intervals are divided by 2 in the first three phases and by 3 in the last two, in whole milliseconds. A user has one
    session, so a session identifies its user.
    """

    kind: Literal["published_cache_aware"]
    requests: Count
    """How many requests are sent."""
    interval_s: Seconds
    """The source's sleep between two requests before the phase divides it; whole milliseconds."""
    loop: Literal["open", "closed"]
    """`open` sends on schedule; `closed` sleeps only after the previous answer, as the published jobs did where source
    and model ran in one thread (one GPU, no rebalancing)."""
    first_at_s: Seconds = 0.0
    """When the first request is sent."""

    def __post_init__(self) -> None:
        interval_ms = units.milliseconds(self.interval_s)
        if abs(interval_ms - round(interval_ms)) > 1e-6:
            raise ValueError(f"interval_s is {self.interval_s:g}, must be whole milliseconds, which the source divides")

    def sample(self, streams: Streams) -> Requests:
        """The requests of one replication; equal streams give equal requests."""
        n = self.requests
        phase = np.searchsorted(_PHASE_ENDS, np.arange(n) / n, side="right")
        interval_ms = round(units.milliseconds(self.interval_s)) // _INTERVAL_DIVISORS[phase]
        gap_s = np.append(0.0, interval_ms[:-1] * units.SECONDS["ms"])
        users = self._users(_ACTIVE_USERS[phase], streams.get("sessions"))
        keys = [f"user_{user:03d}_{_session(user)}" for user in users.tolist()]
        return _requests(
            _paced(self.loop, gap_s, self.first_at_s),
            keys,
            50 + _uniform_below(50, streams.get("output_tokens").random(n)),
        )

    def _users(self, active: Ints, rng: np.random.Generator) -> Ints:
        """Who sends, numbered from 1, given how many users are active."""
        concentrated = (rng.random(len(active)) < 0.8) & (active <= 5)
        return 1 + _uniform_below(np.where(concentrated, 3 * active // 5, active), rng.random(len(active)))


def _paced(loop: Literal["open", "closed"], gap_s: Floats, first_at_s: float) -> Pacing:
    """Requests that each follow the one before after `gap_s`, shape (n,), the first of which is 0."""
    if loop == "closed":
        return ClosedLoop(users=1, think_s=gap_s, start_at_s=first_at_s)
    return OpenLoop(first_at_s + np.cumsum(gap_s))


def _requests(pacing: Pacing, session_id: list[str], output_tokens: Ints) -> Requests:
    """Requests whose prompts do not matter."""
    return Requests(
        pacing=pacing,
        session_id=session_id,
        prompt_tokens=np.ones_like(output_tokens),
        prefix_tokens=np.zeros_like(output_tokens),
        output_tokens=output_tokens,
    )


def _session(user: int) -> int:
    """The one session number of a user."""
    return user % (2 if user <= 5 else 3 if user <= 10 else 5)


def _uniform_below(bound: int | Ints, u: Floats) -> Ints:
    """Whole numbers from 0 to bound - 1 for uniform numbers `u` in [0, 1)."""
    return np.asarray(u * bound).astype(np.int64)
