"""What a router is: one decision per request, on what a router can see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from infertuner.serving.request import Request
from infertuner.sources.requests import Key


class Fleet(Protocol):
    """What a router may ask: the state of GPUs as they report it, and prompts as their tokens show them."""

    def kv_blocks(self, gpu_id: int) -> int:
        """KV blocks that the running requests of this GPU hold now."""
        ...

    def prefix(self, request: Request) -> Sequence[Key]:
        """Names of the reusable pieces of the prompt, from its start on; equal names mean equal tokens up to there."""
        ...


class Router(Protocol):
    """Chooses a GPU for each request; sees requests and completions, never output lengths.

    GPUs join and leave: they fail, are drained, and an autoscaler adds some. A GPU that left may still answer what it
    held.
    """

    looks_at_gpus: bool
    """Whether anything but requests decides: how busy GPUs are, or which of them answered."""

    def start(self, fleet: Fleet) -> None:
        """Forget everything; there is no GPU yet."""
        ...

    def join(self, gpu_id: int) -> None:
        """This GPU takes requests from now on; it holds none."""
        ...

    def leave(self, gpu_id: int) -> None:
        """This GPU takes no requests any more."""
        ...

    def choose(self, request: Request) -> int | None:
        """The GPU for this request, or None to hold it until the next completion or joining."""
        ...

    def finished(self, gpu_id: int) -> None:
        """Learn that one request on this GPU was answered."""
        ...
