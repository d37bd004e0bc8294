"""The GPU with the fewest requests."""

from __future__ import annotations

from typing import Literal

from infertuner.parts import Count, part
from infertuner.serving.request import Request
from infertuner.serving.routers.router import Fleet


class Outstanding:
    """Requests sent to each GPU and not yet answered, with the GPUs of every count in the order they got there.

    Counts move by one, so every answer takes constant time (a bucket queue).
    """

    def __init__(self) -> None:
        self.least = 0
        self._count: dict[int, int] = {}
        self._with_count: list[dict[int, None]] = [{}]

    def __bool__(self) -> bool:
        return bool(self._count)

    def __getitem__(self, gpu_id: int) -> int:
        return self._count[gpu_id]

    def __contains__(self, gpu_id: int) -> bool:
        return gpu_id in self._count

    def join(self, gpu_id: int) -> None:
        """A GPU that holds nothing."""
        self._count[gpu_id] = 0
        self._with_count[0][gpu_id] = None
        self.least = 0

    def leave(self, gpu_id: int) -> None:
        """Forget this GPU and what it holds."""
        del self._with_count[self._count.pop(gpu_id)][gpu_id]
        while self._count and not self._with_count[self.least]:
            self.least += 1

    def first(self) -> int:
        """The GPU with the lowest count; among equals, the one whose count changed longest ago."""
        return next(iter(self._with_count[self.least]))

    def add(self, gpu_id: int) -> None:
        """One request more."""
        self._move(gpu_id, self._count[gpu_id] + 1)

    def remove(self, gpu_id: int) -> None:
        """One request fewer; a GPU that left is nobody's business any more."""
        if gpu_id in self._count:
            self._move(gpu_id, self._count[gpu_id] - 1)

    def _move(self, gpu_id: int, count: int) -> None:
        del self._with_count[self._count[gpu_id]][gpu_id]
        if count == len(self._with_count):
            self._with_count.append({})
        self._with_count[count][gpu_id] = None
        self._count[gpu_id] = count
        if count < self.least or not self._with_count[self.least]:
            self.least = count


@part
class LeastOutstanding:
    """The GPU with the fewest requests waiting or running; among equals, the one whose count changed longest ago."""

    kind: Literal["least_outstanding"]
    max_outstanding: Count | None = None
    """Requests a GPU may hold, waiting and running; others wait at the router, first come first served. 1 is a single
    queue for all GPUs. Without it every request goes to a GPU at once."""

    looks_at_gpus = True

    def start(self, fleet: Fleet) -> None:
        """Begin without GPUs."""
        self._outstanding = Outstanding()

    def join(self, gpu_id: int) -> None:
        """An idle GPU."""
        self._outstanding.join(gpu_id)

    def leave(self, gpu_id: int) -> None:
        """One GPU fewer to choose from."""
        self._outstanding.leave(gpu_id)

    def choose(self, request: Request) -> int | None:
        """The first GPU of the lowest count, unless even that one has all it may hold."""
        outstanding = self._outstanding
        if not outstanding or outstanding.least == self.max_outstanding:
            return None
        gpu_id = outstanding.first()
        outstanding.add(gpu_id)
        return gpu_id

    def finished(self, gpu_id: int) -> None:
        """One request fewer on this GPU."""
        self._outstanding.remove(gpu_id)
