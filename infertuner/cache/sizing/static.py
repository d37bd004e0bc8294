"""A size that never changes."""

from __future__ import annotations

from typing import Literal

from infertuner.parts import Count, part
from infertuner.sources.requests import Key


@part
class Static:
    """The same number of entries throughout: the baseline, and the fair comparison at equal mean memory."""

    kind: Literal["static"]
    """A size that never changes."""
    entries: Count = 5
    """Entries of the local tier."""

    @property
    def initial_entries(self) -> int:
        """The size before the first lookup."""
        return self.entries

    def observe(self, key: Key, now_s: float) -> int:
        """The configured size, whatever is looked up."""
        return self.entries
