"""KV blocks that requests share: found again by what they hold, reference counted, evicted least recently used first.

A block is known by a key that stands for its tokens and all before them. Freed blocks go to the end of the queue of
free ones, a sequence's last block first, and stay findable until they are handed out again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

from infertuner.serving.continuous.blocks import Blocks
from infertuner.serving.continuous.sequence import Sequence
from infertuner.sources.requests import Key, PrefixBlocks

BlockKey: TypeAlias = int | tuple[Key, int]


class Block:
    """One block: what it is known by, if anything, and how many running sequences use it."""

    __slots__ = ("key", "refs")

    def __init__(self, key: BlockKey | None, refs: int) -> None:
        self.key, self.refs = key, refs


class SharedBlocks(Blocks):
    """The memory itself; how blocks are named is up to its two kinds.

    A sequence's `blocks` are its findable ones from the start of its prompt; those behind them are only counted until
    somebody could look for them.
    """

    shares = True

    def __init__(self, blocks: int, block_size: int) -> None:
        self._all, self._block_size = blocks, block_size
        self.clear()

    def clear(self) -> None:
        """All are free, none was ever used."""
        self.free = self._unused = self._all
        self._idle: OrderedDict[Block, None] = OrderedDict()
        self._copies: dict[BlockKey, list[Block]] = {}

    def find(self, sequence: Sequence, tick: int) -> tuple[int, int]:
        """Leading blocks that are there without a gap; at least one token is always left to compute."""
        found = idle = 0
        for i in range(min(self._limit(sequence), (sequence.tokens - 1) // self._block_size)):
            copies = self._copies.get(self._key(sequence, i))
            if copies is None:
                break
            found += 1
            idle += not copies[0].refs
        return found, idle

    def claim(self, sequence: Sequence, found: int) -> None:
        """Use them; of equal blocks the one that was there first."""
        sequence.blocks = []
        for i in range(found):
            block = self._copies[self._key(sequence, i)][0]
            if not block.refs:
                del self._idle[block]
                self.free -= 1
            block.refs += 1
            sequence.blocks.append(block)

    def take(self, count: int) -> None:
        """Hand out blocks never used, then the least recently used, which are forgotten."""
        self.free -= count
        unused = min(count, self._unused)
        self._unused -= unused
        for _ in range(count - unused):
            block, _ = self._idle.popitem(last=False)
            if block.key is not None:
                copies = self._copies[block.key]
                copies.remove(block)
                if not copies:
                    del self._copies[block.key]

    def fill(self, sequence: Sequence, tick: int) -> None:
        """Make the full blocks of a prompt findable; its chunk is computed in the iteration that finds them."""
        raise NotImplementedError

    def shift(self, sequence: Sequence, tick: int) -> None:
        """Nothing depends on when its blocks were filled."""

    def may_find_more(self, sequence: Sequence) -> bool:
        """Decoding fills blocks that nobody else looks for."""
        return False

    def release(self, sequence: Sequence, entries: int, extra: int, tick: int, preempted: bool) -> None:
        """Free them from the tail."""
        sequence.full_blocks = entries // self._block_size
        held = -(-entries // self._block_size) + extra
        freed = held - len(sequence.blocks)
        for _ in range(freed):
            self._idle[Block(None, 0)] = None
        for block in reversed(sequence.blocks):
            block.refs -= 1
            if not block.refs:
                self._idle[block] = None
                freed += 1
        self.free += freed
        sequence.blocks = []

    def _append(self, sequence: Sequence) -> None:
        """Give the sequence's next block its key."""
        key = self._key(sequence, len(sequence.blocks))
        block = Block(key, 1)
        self._copies.setdefault(key, []).append(block)
        sequence.blocks.append(block)

    def _limit(self, sequence: Sequence) -> int:
        raise NotImplementedError

    def _key(self, sequence: Sequence, index: int) -> BlockKey:
        raise NotImplementedError


class ListedBlocks(SharedBlocks):
    """Blocks named by the workload; what it does not name (a prompt's end, an answer) only its own request can find."""

    def __init__(self, blocks: int, block_size: int, named: PrefixBlocks) -> None:
        super().__init__(blocks, block_size)
        self._ids, self._offsets = named.ids.data, named.offsets.data
        self._parts = named.block_tokens // block_size

    def fill(self, sequence: Sequence, tick: int) -> None:
        """Full blocks with a name."""
        named = (self._offsets[sequence.row + 1] - self._offsets[sequence.row]) * self._parts
        for _ in range(len(sequence.blocks), min(sequence.full_blocks, named)):
            self._append(sequence)

    def release(self, sequence: Sequence, entries: int, extra: int, tick: int, preempted: bool) -> None:
        """A preempted request may come back for every full block."""
        if preempted:
            for _ in range(len(sequence.blocks), entries // self._block_size):
                self._append(sequence)
        super().release(sequence, entries, extra, tick, preempted)

    def _limit(self, sequence: Sequence) -> int:
        return sequence.tokens

    def _key(self, sequence: Sequence, index: int) -> BlockKey:
        name, part = divmod(index, self._parts)
        at = self._offsets[sequence.row] + name
        if at < self._offsets[sequence.row + 1]:
            return int(self._ids[at]) * self._parts + part
        return sequence.row, index


class SessionBlocks(SharedBlocks):
    """Blocks named by session and place: request and answer are what the session's next request may build on.

    How much of its prompt a request shares with earlier ones of its session is what the workload says it is.
    """

    def clear(self) -> None:
        """Nobody runs either."""
        super().clear()
        self._running: dict[Key, list[Sequence]] = {}

    def find(self, sequence: Sequence, tick: int) -> tuple[int, int]:
        """With what is computed in the iteration being planned."""
        self._settle(sequence.request.session_id, tick)
        return super().find(sequence, tick)

    def fill(self, sequence: Sequence, tick: int) -> None:
        """From now on this sequence makes blocks for its session."""
        running = self._running.setdefault(sequence.request.session_id, [])
        if sequence not in running:
            running.append(sequence)
        self._settle(sequence.request.session_id, tick)

    def shift(self, sequence: Sequence, tick: int) -> None:
        """Before its blocks seem to have been filled later than they were."""
        self._settle(sequence.request.session_id, tick)

    def may_find_more(self, sequence: Sequence) -> bool:
        """Its session is decoding."""
        return sequence.request.session_id in self._running

    def release(self, sequence: Sequence, entries: int, extra: int, tick: int, preempted: bool) -> None:
        """Leave the session with all blocks it filled."""
        session = sequence.request.session_id
        self._settle(session, tick)
        running = self._running[session]
        running.remove(sequence)
        if not running:
            del self._running[session]
        super().release(sequence, entries, extra, tick, preempted)

    def _settle(self, session: Key, tick: int) -> None:
        """Make what its running sequences have filled findable, in the order in which it was filled."""
        filled = []
        for sequence in self._running.get(session, ()):
            size, offset, decodes = self._block_size, sequence.offset, bool(sequence.done_at)
            full = (tick + offset) // size if decodes else sequence.full_blocks
            for i in range(len(sequence.blocks), full):
                filled_at = (i + 1) * size - offset - 1 if decodes else tick - 1
                filled.append((filled_at, sequence.number, i, sequence))
        for _, _, _, sequence in sorted(filled):
            self._append(sequence)

    def _limit(self, sequence: Sequence) -> int:
        return max(sequence.request.prefix_tokens // self._block_size, sequence.full_blocks)

    def _key(self, sequence: Sequence, index: int) -> BlockKey:
        return sequence.request.session_id, index
