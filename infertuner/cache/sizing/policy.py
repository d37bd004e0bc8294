"""The question every sizing policy answers: how many entries should the local tier have now?"""

from __future__ import annotations

from typing import Protocol

from infertuner.sources.requests import Key


class SizingPolicy(Protocol):
    """Watches the lookups of one GPU and sizes its local tier; it sees neither the tier's content nor its hits."""

    @property
    def initial_entries(self) -> int:
        """The size before the first lookup."""
        ...

    def observe(self, key: Key, now_s: float) -> int:
        """Note a lookup of `key` at `now_s` and say how many entries the tier should have for it.

        Called once for each lookup and before it, with `now_s` never decreasing.
        """
        ...


def check_order(*, min_entries: int, initial_entries: int, max_entries: int) -> None:
    """Refuse an initial size outside the bounds between which a policy moves."""
    if not min_entries <= initial_entries <= max_entries:
        raise ValueError(
            f"initial_entries ({initial_entries}) must lie between min_entries ({min_entries}) "
            f"and max_entries ({max_entries})"
        )
