"""One iteration of a real engine: how long it took and what was in it."""

from __future__ import annotations

from typing import Any, NamedTuple

from infertuner.latency.model import Chunk


class Iteration(NamedTuple):
    """One iteration that really ran."""

    seconds: float
    """Wall seconds of the whole turn of the engine's loop: scheduling, inputs, forward pass, sampling, book-keeping."""
    forward_s: float
    """Of those, the forward pass and the choice of tokens."""
    chunks: tuple[Chunk, ...]
    decodes: int
    kv_entries: int
    """Entries those decodes attended to, each one's own new token included."""


def iteration_from(plain: list[Any]) -> Iteration:
    """What JSON made of an iteration, as an iteration again."""
    seconds, forward_s, chunks, decodes, kv_entries = plain
    return Iteration(seconds, forward_s, tuple(Chunk(*chunk) for chunk in chunks), decodes, kv_entries)
