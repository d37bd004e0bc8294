"""What travels through the cluster: a request as routers and batchers may see it."""

from __future__ import annotations

from dataclasses import dataclass

from infertuner.sources.requests import Key


@dataclass(slots=True)
class Request:
    """What a client sent. It carries no output length: only the GPU that generates the tokens learns it."""

    request_id: int
    arrived_at_s: float
    session_id: Key
    prompt_tokens: int
    prefix_tokens: int
    """Leading prompt tokens that an earlier request of the session may have left in a KV cache."""
