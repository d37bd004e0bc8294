"""The GPU that is likely to hold a request's prefix already."""

from __future__ import annotations

import zlib
from bisect import insort
from collections.abc import Sequence
from typing import Literal

from infertuner.parts import Count, part
from infertuner.serving.request import Request
from infertuner.serving.routers.least_outstanding import Outstanding
from infertuner.serving.routers.router import Fleet
from infertuner.sources.requests import Key


@part
class SessionAffinity:
    """Every request of a session to the same GPU, by a hash of the session id, so that its KV cache is found there.

    While that GPU is away its sessions spread over the others, and those of the others stay where they are.
    """

    kind: Literal["session_affinity"]

    looks_at_gpus = False

    def start(self, fleet: Fleet) -> None:
        """Begin without GPUs."""
        self._places = 0
        self._here: list[int] = []

    def join(self, gpu_id: int) -> None:
        """Sessions may live here; the places of a cluster are counted up to its highest GPU."""
        insort(self._here, gpu_id)
        self._places = max(self._places, gpu_id + 1)

    def leave(self, gpu_id: int) -> None:
        """Its sessions live elsewhere until it is back."""
        self._here.remove(gpu_id)

    def choose(self, request: Request) -> int | None:
        """The GPU this session belongs to, or one of those that are there."""
        here = self._here
        if not here:
            return None
        number = zlib.crc32(str(request.session_id).encode())
        home = number % self._places
        if len(here) == self._places or home in here:
            return home
        return here[number // self._places % len(here)]

    def finished(self, gpu_id: int) -> None:
        """Completions do not move a session."""


@part
class PrefixAffinity:
    """The GPU that last computed the longest part of this prompt, unless it is far busier than the idlest one.

    What a cache-aware router does: follow the cache until the load is too uneven, then spread. It remembers where each
    piece of a prompt was last sent, not what the GPU has evicted since.
    """

    kind: Literal["prefix_affinity"]
    max_imbalance: Count = 32
    """Requests by which that GPU may be ahead of the idlest before the request goes to the idlest instead."""

    looks_at_gpus = True

    def start(self, fleet: Fleet) -> None:
        """Begin without GPUs and without memory."""
        self._fleet = fleet
        self._outstanding = Outstanding()
        self._seen_on: dict[Key, int] = {}

    def join(self, gpu_id: int) -> None:
        """An idle GPU with an empty cache."""
        self._outstanding.join(gpu_id)

    def leave(self, gpu_id: int) -> None:
        """One GPU fewer; what it remembered is lost with it."""
        self._outstanding.leave(gpu_id)
        self._seen_on = {piece: place for piece, place in self._seen_on.items() if place != gpu_id}

    def choose(self, request: Request) -> int | None:
        """Follow the deepest known piece, or take the idlest GPU."""
        outstanding = self._outstanding
        if not outstanding:
            return None
        pieces = self._fleet.prefix(request)
        gpu_id = self._holder(pieces)
        if gpu_id is None or outstanding[gpu_id] - outstanding.least > self.max_imbalance:
            gpu_id = outstanding.first()
        outstanding.add(gpu_id)
        for piece in pieces:
            self._seen_on[piece] = gpu_id
        return gpu_id

    def finished(self, gpu_id: int) -> None:
        """One request fewer on this GPU."""
        self._outstanding.remove(gpu_id)

    def _holder(self, pieces: Sequence[Key]) -> int | None:
        """Where the longest known start of the prompt was last computed."""
        holder = None
        for piece in pieces:
            seen = self._seen_on.get(piece)
            if seen is None:
                break
            holder = seen
        return holder
