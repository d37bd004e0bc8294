"""What a GPU is to the rest of the cluster, whatever the way it batches."""

from __future__ import annotations

from typing import Protocol

from infertuner.serving.request import Request


class Gpu(Protocol):
    """What serves: static batches or iterations."""

    @property
    def outstanding(self) -> int:
        """Requests it holds, waiting and running."""
        ...

    @property
    def kv_blocks(self) -> int:
        """KV blocks in use by running requests now; 0 where they are not counted."""
        ...

    def start(self, startup_s: float) -> None:
        """Serve from `startup_s` on; requests may queue meanwhile."""
        ...

    def submit(self, request: Request) -> None:
        """Put a request at the end of the queue."""
        ...

    def drain(self) -> None:
        """Learn that no further request will come before the next start."""
        ...

    def kill(self) -> list[Request]:
        """Lose everything and return the requests it held; it serves again after another start."""
        ...

    def stop(self) -> None:
        """Learn that the clock stands still from now on."""
        ...
