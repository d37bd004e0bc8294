"""KV blocks of a GPU, counted. No block has a face as long as no two requests share one.

Without prefix caching a freed block is simply free. With it, and with nothing shared, the only request that can find
old blocks again is a preempted one, its own; so only those are remembered, in runs, in the order of eviction.
"""

from __future__ import annotations

from collections import deque

from infertuner.serving.continuous.sequence import Sequence


class Blocks:
    """What an engine asks of its KV memory."""

    free = 0
    """Blocks that nobody runs on; some may hold what could be found again."""
    shares = False
    """Whether a request can find what others computed; if not, only `Sequence.kept` can be found, its own."""

    def find(self, sequence: Sequence, tick: int) -> tuple[int, int]:
        """How many leading blocks of this waiting sequence are there, and how many of those are free at present.

        tick: decode iterations done when the iteration that is being planned has ended.
        """
        raise NotImplementedError

    def claim(self, sequence: Sequence, found: int) -> None:
        """Give it what `find` found."""
        raise NotImplementedError

    def take(self, count: int) -> None:
        """Hand out so many free blocks, least recently used first; what they held is forgotten."""
        raise NotImplementedError

    def fill(self, sequence: Sequence, tick: int) -> None:
        """Learn that `sequence.full_blocks` blocks of it are full after the iteration being planned."""
        raise NotImplementedError

    def shift(self, sequence: Sequence, tick: int) -> None:
        """Learn that a decoding sequence is about to stand still, `tick` decode iterations being done."""
        raise NotImplementedError

    def release(self, sequence: Sequence, entries: int, extra: int, tick: int, preempted: bool) -> None:
        """Take back all blocks of a sequence that has `entries` KV entries, and `extra` blocks it did not use."""
        raise NotImplementedError

    def may_find_more(self, sequence: Sequence) -> bool:
        """Whether plain decoding of others can let this waiting sequence find more."""
        raise NotImplementedError

    def clear(self) -> None:
        """Forget everything: all blocks are free."""
        raise NotImplementedError


class PlainBlocks(Blocks):
    """Blocks that remember nothing: prefix caching is off."""

    def __init__(self, blocks: int, block_size: int) -> None:
        self.free, self._all, self._block_size = blocks, blocks, block_size

    def find(self, sequence: Sequence, tick: int) -> tuple[int, int]:
        """Nothing."""
        return 0, 0

    def claim(self, sequence: Sequence, found: int) -> None:
        """Nothing was found."""

    def take(self, count: int) -> None:
        """Hand out so many."""
        self.free -= count

    def fill(self, sequence: Sequence, tick: int) -> None:
        """Nobody will look for it."""

    def shift(self, sequence: Sequence, tick: int) -> None:
        """Blocks are counted, not dated."""

    def release(self, sequence: Sequence, entries: int, extra: int, tick: int, preempted: bool) -> None:
        """Count them as free."""
        self.free += -(-entries // self._block_size) + extra

    def may_find_more(self, sequence: Sequence) -> bool:
        """There is nothing to find."""
        return False

    def clear(self) -> None:
        """All are free."""
        self.free = self._all


class Kept:
    """A run of free blocks in the order of eviction: those of one preempted sequence, or of nobody."""

    __slots__ = ("count", "sequence")

    def __init__(self, count: int, sequence: Sequence | None) -> None:
        self.count, self.sequence = count, sequence


class OwnBlocks(PlainBlocks):
    """Blocks with prefix caching in a workload that shares nothing.

    Blocks are freed from a sequence's tail, so what is left of a run is always its head.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        super().__init__(blocks, block_size)
        self._runs: deque[Kept] = deque()
        """All free blocks, next victim first; empty while no preempted sequence has any, which is the usual case."""
        self._owned = 0
        """Runs that belong to somebody."""

    def find(self, sequence: Sequence, tick: int) -> tuple[int, int]:
        """What is left of its own."""
        found = min(sequence.kept.count, sequence.full_blocks) if sequence.kept else 0
        return found, found

    def claim(self, sequence: Sequence, found: int) -> None:
        """Its own are its own again; the rest of the run is nobody's."""
        run = sequence.kept
        if run is not None:
            run.count -= found
            self.free -= found
            self._disown(run)

    def take(self, count: int) -> None:
        """From the front of the runs."""
        self.free -= count
        runs = self._runs
        while count and runs:
            run = runs[0]
            taken = min(run.count, count)
            run.count -= taken
            count -= taken
            if not run.count:
                runs.popleft()
                self._disown(run)

    def release(self, sequence: Sequence, entries: int, extra: int, tick: int, preempted: bool) -> None:
        """Put them at the end, as its own if it will come back."""
        count = -(-entries // self._block_size) + extra
        sequence.full_blocks = entries // self._block_size
        if preempted and sequence.full_blocks:
            if not self._runs:
                self._runs.append(Kept(self.free, None))
            sequence.kept = Kept(count, sequence)
            self._runs.append(sequence.kept)
            self._owned += 1
        elif self._runs:
            self._runs.append(Kept(count, None))
        self.free += count

    def clear(self) -> None:
        """All are free and nobody's."""
        super().clear()
        self._runs.clear()
        self._owned = 0

    def _disown(self, run: Kept) -> None:
        if run.sequence is not None:
            run.sequence.kept = None
            run.sequence = None
            self._owned -= 1
            if not self._owned:
                self._runs.clear()
