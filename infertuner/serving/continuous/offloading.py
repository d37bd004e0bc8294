"""An engine that keeps KV in tiers of a cache too: what it does not find in its own blocks it may fetch from there.

Requests look when the iteration under way at their arrival has ended, in front of the queue: those that must fetch are
set aside until all is there, and then wait in their place. No block is held for them meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from infertuner.latency.model import LatencyModel
from infertuner.records import Records
from infertuner.serving.clock import Clock
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.continuous.engine import ContinuousGpu
from infertuner.serving.continuous.notes import Notes
from infertuner.serving.continuous.scheduler import ENDLESS
from infertuner.serving.continuous.sequence import Sequence
from infertuner.serving.request import Request
from infertuner.serving.tiers import GpuTiers


class OffloadingGpu(ContinuousGpu):
    """One GPU with tiers below its own memory."""

    __slots__ = ("_arrived", "_fetching", "_tiers")

    def __init__(
        self,
        *,
        clock: Clock,
        gpu_id: int,
        batcher: Continuous | PrefillFirst,
        latency: LatencyModel,
        records: Records,
        answered: Callable[[Request, int], None],
        tiers: GpuTiers,
        max_jump: int = ENDLESS,
    ) -> None:
        super().__init__(
            clock=clock, gpu_id=gpu_id, batcher=batcher, latency=latency, records=records, answered=answered,
            max_jump=max_jump,
        )  # fmt: skip
        self._tiers = tiers
        self._notes = Notes(records, looks=True)
        self._arrived: list[Sequence] = []
        """Those that will look at the next boundary."""
        self._fetching: dict[int, Sequence] = {}
        """Those that wait for what they have found, by row."""

    def start(self, startup_s: float) -> None:
        """Serve from `startup_s` on; the tiers are there at once."""
        self._tiers.come()
        super().start(startup_s)

    def submit(self, request: Request) -> None:
        """Let a request look for its prefix at the next boundary, or reject it if it can never run here."""
        sequence = self._accept(request)
        if sequence is None:
            return
        self._arrived.append(sequence)
        if self._call is None:
            self._end_at(self._clock.now_fs)
        elif self._jump is not None and self._jump.steps > 1:
            self._shorten(self._jump)

    def kill(self) -> list[Request]:
        """Lose everything: what runs, waits and is on its way, and the tiers that belong to this GPU."""
        self._tiers.go()
        aside = [sequence.request for sequence in [*self._fetching.values(), *self._arrived]]
        self._fetching.clear()
        self._arrived.clear()
        return super().kill() + aside

    @property
    def outstanding(self) -> int:
        """Requests that look or fetch, wait and run."""
        return len(self._arrived) + len(self._fetching) + len(self._waiting) + len(self._running)

    def _begin(self) -> None:
        arrived = self._arrived
        if arrived:
            self._arrived = []
            for sequence in arrived:
                self._look_up(sequence)
        super()._begin()

    def _look_up(self, sequence: Sequence) -> None:
        """In its own blocks first, as they are before this iteration is planned."""
        request, own_tokens = sequence.request, 0
        if self._blocks.shares:
            found, _ = self._blocks.find(sequence, self._tick)
            own_tokens = found * self._block_size
        lookup = self._tiers.look_up(request, self._began_s, own_tokens)
        if lookup.cached_tokens > own_tokens:
            sequence.fetched, sequence.fetched_from = lookup.cached_tokens, own_tokens
        if lookup.reads:
            self._fetching[sequence.row] = sequence
            self._tiers.fetch(request, lookup, lambda: self._fetched(sequence))
        else:
            self._waiting.add(sequence)

    def _fetched(self, sequence: Sequence) -> None:
        """All is there: back to its place in the queue."""
        del self._fetching[sequence.row]
        self._waiting.rejoin(sequence)
        self._wake_for(sequence)

    def _finish(self, done: list[Sequence], now_s: float) -> None:
        for sequence in done:
            self._tiers.insert(sequence.request, sequence.output)
        super()._finish(done, now_s)
