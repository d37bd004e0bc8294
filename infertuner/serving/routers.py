"""Where a request goes: one decision per request, in constant time at any number of GPUs."""

from __future__ import annotations

import zlib
from typing import Annotated, Literal, Protocol

from pydantic import Field

from infertuner.parts import Count, part
from infertuner.serving.request import Request


class Router(Protocol):
    """Chooses a GPU for each request; sees requests and completions, never output lengths."""

    def start(self, num_gpus: int) -> None:
        """Forget everything and route among GPUs 0 .. num_gpus - 1 from now on."""
        ...

    def choose(self, request: Request) -> int | None:
        """The GPU for this request, or None to hold it at the router until the next completion."""
        ...

    def finished(self, gpu_id: int) -> None:
        """Learn that one request on this GPU was answered."""
        ...


@part
class RoundRobin:
    """Each GPU in turn, whatever its load."""

    kind: Literal["round_robin"]

    def start(self, num_gpus: int) -> None:
        """Begin again at GPU 0."""
        self._num_gpus = num_gpus
        self._next = 0

    def choose(self, request: Request) -> int:
        """The next GPU in the circle."""
        gpu_id = self._next
        self._next = (gpu_id + 1) % self._num_gpus
        return gpu_id

    def finished(self, gpu_id: int) -> None:
        """Completions do not matter to a circle."""


@part
class LeastOutstanding:
    """The GPU with the fewest requests waiting or running; among equals, the one whose count changed longest ago.

    Counts move by one, so GPUs live in one ordered set per count and every decision is O(1) (a bucket queue).
    """

    kind: Literal["least_outstanding"]
    max_outstanding: Count | None = None
    """Requests a GPU may hold, waiting and running; others wait at the router, first come first served. 1 is a single
    queue for all GPUs. Without it every request goes to a GPU at once."""

    def start(self, num_gpus: int) -> None:
        """Begin with every GPU idle."""
        self._outstanding = [0] * num_gpus
        self._with_count: list[dict[int, None]] = [dict.fromkeys(range(num_gpus))]
        self._least = 0

    def choose(self, request: Request) -> int | None:
        """The first GPU of the lowest non-empty count, unless even that one has all it may hold."""
        if self._least == self.max_outstanding:
            return None
        gpu_id = next(iter(self._with_count[self._least]))
        self._move(gpu_id, self._least + 1)
        return gpu_id

    def finished(self, gpu_id: int) -> None:
        """One request fewer on this GPU."""
        self._move(gpu_id, self._outstanding[gpu_id] - 1)

    def _move(self, gpu_id: int, count: int) -> None:
        old = self._outstanding[gpu_id]
        del self._with_count[old][gpu_id]
        if count == len(self._with_count):
            self._with_count.append({})
        self._with_count[count][gpu_id] = None
        self._outstanding[gpu_id] = count
        if count < self._least or not self._with_count[self._least]:
            self._least = count


@part
class SessionAffinity:
    """Every request of a session to the same GPU, by a hash of the session id, so that its KV cache is found there."""

    kind: Literal["session_affinity"]

    def start(self, num_gpus: int) -> None:
        """Spread sessions over this many GPUs."""
        self._num_gpus = num_gpus

    def choose(self, request: Request) -> int:
        """The GPU this session belongs to."""
        return zlib.crc32(str(request.session_id).encode()) % self._num_gpus

    def finished(self, gpu_id: int) -> None:
        """Completions do not move a session."""


AnyRouter = Annotated[RoundRobin | LeastOutstanding | SessionAffinity, Field(discriminator="kind")]
