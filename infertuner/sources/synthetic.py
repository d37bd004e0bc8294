"""A workload made of laws: when requests come, how long they are and who sends them."""

from __future__ import annotations

from array import array
from dataclasses import field
from typing import Literal

import numpy as np

from infertuner.parts import Count, part
from infertuner.sources.arrivals import Arrivals
from infertuner.sources.conversations import Conversations
from infertuner.sources.lengths import TokenLengths
from infertuner.sources.requests import Ints, Requests
from infertuner.sources.sessions import OneRequestSessions, Sessions
from infertuner.streams import Streams


@part
class Synthetic:
    """Requests drawn from laws, each law with a random stream of its own."""

    kind: Literal["synthetic"]
    requests: Count
    """How many requests are sent."""
    arrivals: Arrivals
    """When they are sent."""
    prompt_tokens: TokenLengths
    """New tokens of each prompt: what follows its session's prefix; 1 or more."""
    output_tokens: TokenLengths
    """Tokens of each answer; 1 or more."""
    sessions: Sessions = field(default_factory=lambda: OneRequestSessions(kind="none"))
    """Who sends; without it every request is a session of its own."""
    prefix_tokens: TokenLengths | None = None
    """Tokens that begin every prompt of a session and whose KV can be reused: drawn once for each session, put before
    the new tokens. Without it, and without `conversations`, nothing can be reused."""
    conversations: Conversations | None = None
    """Whether the requests of a sender of `sessions` are turns of conversations, each with a session of its own: a
    prompt is then all that was said before, its prefix, and the new tokens."""

    def __post_init__(self) -> None:
        for key, law in (("prompt_tokens", self.prompt_tokens), ("output_tokens", self.output_tokens)):
            smallest = law.quantile(np.zeros(1))[0]
            if smallest < 1:
                raise ValueError(f"{key}: its smallest value is {smallest} tokens, must be 1 or more")
        if self.conversations is not None:
            self._check(self.conversations)

    def sample(self, streams: Streams) -> Requests:
        """The requests of one replication; equal streams give equal requests."""
        n = self.requests
        session = self.sessions.sample(n, streams.get("sessions"))
        new_tokens = self.prompt_tokens.quantile(streams.get("prompt_tokens").random(n))
        output_tokens = self.output_tokens.quantile(streams.get("output_tokens").random(n))
        if self.conversations is not None:
            session, prefix_tokens = self.conversations.sample(
                session, new_tokens + output_tokens, streams.get("conversations")
            )
        else:
            prefix_tokens = self._prefix_tokens(session, streams)
        return Requests(
            pacing=self.arrivals.sample(n, streams.get("arrivals")),
            session_id=array("q", session.tobytes()),
            prompt_tokens=prefix_tokens + new_tokens,
            prefix_tokens=prefix_tokens,
            output_tokens=output_tokens,
        )

    def _check(self, conversations: Conversations) -> None:
        if self.prefix_tokens is not None:
            raise ValueError("prefix_tokens: a turn's prefix is what was said before; remove it or conversations")
        most = conversations.max_context_tokens
        longest = sum(int(law.quantile(np.array([1 - 2**-53]))[0]) for law in (self.prompt_tokens, self.output_tokens))
        if most is not None and longest > most:
            raise ValueError(
                f"conversations.max_context_tokens is {most}, must be at least the longest turn, prompt_tokens and "
                f"output_tokens together ({longest}); raise it, or give those a max_tokens"
            )

    def _prefix_tokens(self, session: Ints, streams: Streams) -> Ints:
        """The prefix of each request, one length a session."""
        if self.prefix_tokens is None:
            return np.zeros_like(session)
        by_session = self.prefix_tokens.quantile(streams.get("prefix_tokens").random(session.max() + 1))
        return by_session[session]
