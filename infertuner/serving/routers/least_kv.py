"""The GPU whose KV cache is emptiest."""

from __future__ import annotations

from typing import Literal

from infertuner.parts import part
from infertuner.serving.request import Request
from infertuner.serving.routers.router import Fleet


@part
class LeastKv:
    """The GPU whose running requests hold the fewest KV blocks; among equals, the one with fewer requests.

    Blocks say more than requests where lengths differ widely, but a request that still waits holds none. Every decision
    asks all GPUs.
    """

    kind: Literal["least_kv"]

    looks_at_gpus = True

    def start(self, fleet: Fleet) -> None:
        """Begin without GPUs."""
        self._fleet = fleet
        self._outstanding: dict[int, int] = {}

    def join(self, gpu_id: int) -> None:
        """An idle GPU."""
        self._outstanding[gpu_id] = 0

    def leave(self, gpu_id: int) -> None:
        """One GPU fewer to choose from."""
        del self._outstanding[gpu_id]

    def choose(self, request: Request) -> int | None:
        """The emptiest GPU."""
        outstanding, kv_blocks = self._outstanding, self._fleet.kv_blocks
        if not outstanding:
            return None
        gpu_id = min(outstanding, key=lambda gpu_id: (kv_blocks(gpu_id), outstanding[gpu_id], gpu_id))
        outstanding[gpu_id] += 1
        return gpu_id

    def finished(self, gpu_id: int) -> None:
        """One request fewer on this GPU."""
        if gpu_id in self._outstanding:
            self._outstanding[gpu_id] -= 1
