"""The published sizing policies as controllers, so that all can be compared."""

from __future__ import annotations

from infertuner.cache.sizing.controller import Proposal
from infertuner.cache.sizing.policy import SizingPolicy
from infertuner.sources.requests import Key


class Published:
    """Shows a published policy every request and proposes the size it has come to.

    The policy counts entries, keeps its own bounds and begins at its own first size, whatever the tier's.
    """

    def __init__(self, policy: SizingPolicy) -> None:
        self._policy = policy
        self._entries = policy.initial_entries

    def observe(self, key: Key, size: int, hit: bool, now_s: float) -> None:
        """Pass the lookup on; the policy sees neither sizes nor hits."""
        self._entries = self._policy.observe(key, now_s)

    def propose(self, now_s: float, capacity: int) -> Proposal:
        """The policy's present size. It does not know whether its aim can be reached."""
        return Proposal(self._entries, feasible=True)
