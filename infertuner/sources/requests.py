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
class PrefixBlocks:
    """What prefix caching sees of prompts: an id for each full block, chained.

    Equal ids mean equal tokens from the start of the prompt to the end of that block.
    """

    block_tokens: int
    """Tokens behind one id."""
    ids: Ints
    """Ids of all requests one after the other."""
    offsets: Ints
    """Request i has `ids[offsets[i] : offsets[i + 1]]`, shape (n + 1,)."""


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
    blocks: PrefixBlocks | None = None
    """Block ids of every prompt where the workload knows them; without, sharing is what `prefix_tokens` says."""
    priority: Ints | None = None
    """Lower runs first where the scheduler goes by priority; without, all are equal."""

    def __len__(self) -> int:
        return len(self.prompt_tokens)


class Workload(Protocol):
    """Anything that can say which requests come: synthetic, a trace, or one of the published sources."""

    def sample(self, streams: Streams) -> Requests:
        """The requests of one replication; equal streams give equal requests."""
        ...
