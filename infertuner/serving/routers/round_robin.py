"""Each GPU in turn."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Literal

from infertuner.parts import part
from infertuner.serving.request import Request
from infertuner.serving.routers.router import Fleet


@part
class RoundRobin:
    """Each GPU in turn, whatever its load."""

    kind: Literal["round_robin"]

    looks_at_gpus = False

    def start(self, fleet: Fleet) -> None:
        """Begin before the first GPU."""
        self._gpus: list[int] = []
        self._next = 0

    def join(self, gpu_id: int) -> None:
        """Take its place in the circle; whose turn it is does not change."""
        if self._gpus and gpu_id < self._gpus[self._next]:
            self._next += 1
        insort(self._gpus, gpu_id)

    def leave(self, gpu_id: int) -> None:
        """Close the gap; if it was its turn, it is the next one's."""
        place = bisect_right(self._gpus, gpu_id) - 1
        self._gpus.remove(gpu_id)
        if place < self._next:
            self._next -= 1
        if self._next >= len(self._gpus):
            self._next = 0

    def choose(self, request: Request) -> int | None:
        """The next GPU in the circle."""
        if not self._gpus:
            return None
        gpu_id = self._gpus[self._next]
        self._next += 1
        if self._next == len(self._gpus):
            self._next = 0
        return gpu_id

    def finished(self, gpu_id: int) -> None:
        """Completions do not matter to a circle."""
