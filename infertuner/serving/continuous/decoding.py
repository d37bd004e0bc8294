"""The sequences that decode: when each is done and what blocks they need, without touching any of them.

With `tick` decode iterations done, a sequence that decodes has `tick + offset` KV entries. Whatever happens to all of
them at every iteration is therefore a matter of counting ticks.
"""

from __future__ import annotations

from heapq import heappop, heappush

from infertuner.serving.continuous.sequence import Sequence


class Decoding:
    """What a scheduler knows of its decoding sequences."""

    __slots__ = ("_block_size", "_ends", "_kv_entries", "_phases", "_tick")

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._tick = 0
        """Iterations done in which decoding sequences got a token."""
        self._forget_decoding()

    def _forget_decoding(self) -> None:
        self._ends: list[tuple[int, int, Sequence]] = []
        """A heap of the ticks at which sequences are done. Entries of those preempted or delayed since are stale; the
        first one never is."""
        self._kv_entries = 0
        """KV entries of all decoding sequences."""
        self._phases = [0] * self._block_size
        """How many decoding sequences need a new block at ticks that leave this remainder by the block size."""

    def _decode(self, sequence: Sequence) -> None:
        """From the next tick on it decodes."""
        tick = self._tick
        sequence.offset = sequence.tokens - tick
        sequence.done_at = tick + sequence.output - sequence.generated
        self._kv_entries += sequence.tokens
        self._phases[-sequence.offset % self._block_size] += 1
        heappush(self._ends, (sequence.done_at, sequence.number, sequence))

    def _stop_decoding(self, sequence: Sequence) -> int:
        """It decodes no longer; the KV entries it has."""
        entries = self._tick + sequence.offset
        self._kv_entries -= entries
        self._phases[-sequence.offset % self._block_size] -= 1
        return entries

    def _delay(self, sequence: Sequence) -> None:
        """It gets no token at the next tick."""
        self._phases[-sequence.offset % self._block_size] -= 1
        sequence.offset -= 1
        sequence.done_at += 1
        self._phases[-sequence.offset % self._block_size] += 1
        heappush(self._ends, (sequence.done_at, sequence.number, sequence))
        self._drop_stale_ends()

    def _done(self) -> list[Sequence]:
        """Those that have all their tokens, in the order of their numbers; there is at least one."""
        ends, tick = self._ends, self._tick
        done = [heappop(ends)[2]]
        self._drop_stale_ends()
        while ends and ends[0][0] <= tick:
            done.append(heappop(ends)[2])
            self._drop_stale_ends()
        return done

    def _drop_stale_ends(self) -> None:
        ends = self._ends
        while ends:
            done_at, number, sequence = ends[0]
            if sequence.done_at == done_at and sequence.number == number:
                return
            heappop(ends)

    def _growth(self, ticks: int, decodes: int) -> int:
        """Blocks that all `decodes` of them need in so many ticks after the next one."""
        size, phases = self._block_size, self._phases
        first = (self._tick + 1) % size
        last = first + ticks % size
        grown = ticks // size * decodes + sum(phases[first:last])
        return grown if last <= size else grown + sum(phases[: last - size])

    def _ticks_within(self, blocks: int, ticks: int, decodes: int) -> int:
        """How many of `ticks`, the next one included, need no more than so many blocks after the next one."""
        size = self._block_size
        turns, rest = divmod(blocks, decodes)
        first, more = self._tick + 1, 0
        while self._phases[(first + more) % size] <= rest:
            rest -= self._phases[(first + more) % size]
            more += 1
        return min(ticks, turns * size + more + 1)
