"""A request inside an engine: how much of it is computed, and when it will be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infertuner.serving.request import Request

if TYPE_CHECKING:
    from infertuner.serving.continuous.blocks import Kept
    from infertuner.serving.continuous.prefix_blocks import Block


class Sequence:
    """A request waiting for, prefilling or decoding on one GPU.

    While it decodes, nothing of it is touched: with `tick` decode iterations done by its GPU, it has
    `tick + offset` KV entries and is done when `tick` reaches `done_at`.
    """

    computed = 0
    """Of `tokens`, those computed so far; while it prefills."""
    generated = 0
    """Output tokens when it last began to wait or to decode."""
    number = -1
    """Its place in the order of admissions; new at each admission."""
    done_at = 0
    """0 while it does not decode."""
    offset = 0
    said_at_s = 0.0
    """When its last prefill was complete and it said a token."""
    lost_at_s: float | None = None
    """Of one that was preempted, when it said its last token, until its next (before its first one: when it was
    preempted, until its next admission)."""
    full_blocks = 0
    """Full blocks: those it had when it was preempted, or will have after the iteration that prefills it."""
    fetched = 0
    """Leading tokens that tiers of a cache have given it, those in front of `fetched_from` being the GPU's own; once
    it was admitted, 0 if that was of no use."""
    fetched_from = 0
    kept: Kept | None = None
    """What is left of its blocks since it was preempted, where nothing else is shared."""
    blocks: list[Block]
    """Its blocks that can be found, where requests share some."""

    def __init__(self, request: Request, output: int, urgency: int) -> None:
        self.request, self.row, self.output, self.urgency = request, request.request_id, output, urgency
        self.tokens = request.prompt_tokens
        """Tokens whose KV it must have before its next token: the prompt, and after a preemption what it had said."""

    def __lt__(self, other: Sequence) -> bool:
        """Whether it goes first where the scheduler goes by priority."""
        return self._order() < other._order()

    def _order(self) -> tuple[int, float, int]:
        return self.urgency, self.request.arrived_at_s, self.row
