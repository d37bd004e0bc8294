"""The clock of a GPU that nothing but its own requests concerns: no list of events, only what comes next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from infertuner.serving.request import Request

NEVER_FS: Final = 1 << 100


class OwnClock:
    """The time of one GPU: what comes next is the next request or what the GPU itself has planned."""

    def __init__(self) -> None:
        self.now_fs = 0
        self.last_end_fs = 0
        self.events = self.ended = 0
        """Boundaries passed, and requests answered or rejected."""
        self._due_fs = NEVER_FS
        self._action: Callable[[Any], None]

    def call(self, at_fs: int, rank: int, action: Callable[[Any], None]) -> OwnClock:
        """Run `action` at an instant, unless this is called again before; requests come first."""
        self._due_fs, self._action = at_fs, action
        return self

    def cancel(self) -> None:
        """Let nothing happen."""
        self._due_fs = NEVER_FS

    def pass_gpu(self, gpu_id: int, now_fs: int) -> None:
        """Nobody reacts to what a GPU does at the instant at which it does it."""

    def has_passed(self, gpu_id: int) -> bool:
        """Requests come first."""
        return False

    def answered(self, request: Request, gpu_id: int) -> None:
        """Count a request that will not go on."""
        self.ended += 1
        self.last_end_fs = self.now_fs

    def run_until(self, at_fs: int) -> None:
        """Let happen what is due before this instant, and be there."""
        while self._due_fs < at_fs:
            self.now_fs, self._due_fs = self._due_fs, NEVER_FS
            self.events += 1
            self._action(self)
        self.now_fs = at_fs
