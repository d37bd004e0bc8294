"""The question every sizing controller answers: how large should this tier be from now on?

Controllers see requests and decide at ticks of the simulated clock; they never touch what a tier holds.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from infertuner.sources.requests import Key


class Proposal(NamedTuple):
    """A wanted capacity, and whether the aim can be reached at all."""

    capacity: float
    """In the unit of the tier, before bounds."""
    feasible: bool
    """False when no capacity reaches the aim on what was seen; the capacity is then what is worth having."""


class SizingController(Protocol):
    """Watches one tier's requests and proposes its capacity at every tick."""

    def observe(self, key: Key, size: int, hit: bool, now_s: float) -> None:
        """Note a request for `key` of `size`, in the unit of the tier, and whether this tier held it."""
        ...

    def propose(self, now_s: float, capacity: int) -> Proposal:
        """The capacity wanted at a tick, given the present one."""
        ...
