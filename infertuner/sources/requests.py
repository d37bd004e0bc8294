"""What clients will send: a table of requests and the rule that says when each is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from infertuner.streams import Streams

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Key: TypeAlias = int | str
"""What identifies a session: whose KV cache a request can reuse."""


@dataclass(frozen=True)
class OpenLoop:
    """Requests are sent at given instants, whatever the service does: shape (n,), non-decreasing."""

    arrived_at_s: Floats


@dataclass(frozen=True)
class ClosedLoop:
    """A fixed number of users each send one request, wait for its answer, think, and send the next.

    The i-th thought that any user begins lasts `think_s[i]` seconds, shape (n,); after it, the next request in order is
    sent. Thought before a user's first request counts from `start_at_s`.
    """

    users: int
    think_s: Floats
    start_at_s: float = 0.0


Pacing: TypeAlias = OpenLoop | ClosedLoop


@dataclass(frozen=True)
class Requests:
    """One row a request, in the order in which they are sent. All columns have shape (n,)."""

    pacing: Pacing
    session_id: Sequence[Key]
    prompt_tokens: Ints
    """Tokens of the whole prompt, the reusable prefix included."""
    prefix_tokens: Ints
    """Leading prompt tokens whose KV an earlier request of the session may have cached; at most prompt_tokens - 1."""
    output_tokens: Ints
    """Tokens that will be generated: known to the GPU, never to a router or batcher."""

    def __len__(self) -> int:
        return len(self.prompt_tokens)


class Workload(Protocol):
    """Anything that can say which requests come: synthetic, a trace, or one of the published sources."""

    def sample(self, streams: Streams) -> Requests:
        """The requests of one replication; equal streams give equal requests."""
        ...
