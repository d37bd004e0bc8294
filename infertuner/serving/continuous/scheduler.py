"""What an engine computes next: the decisions of vLLM's scheduler, on sequences and blocks, without a clock.

Running sequences are served in the order of their admission, a token for each that decodes and a chunk of the prompt
for one that prefills; then waiting ones are admitted while tokens, places and blocks last.
"""

from __future__ import annotations

from typing import ClassVar, Final

from infertuner.records import Status
from infertuner.serving.continuous.blocks import Blocks
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.continuous.decoding import Decoding
from infertuner.serving.continuous.sequence import Sequence
from infertuner.serving.continuous.waiting import ByPriority, FirstCome

ENDLESS: Final = 1 << 60


class Scheduler(Decoding):
    """The state of one engine between two iterations, and the plan for the next one."""

    __slots__ = (
        "_admissions", "_admitted", "_batcher", "_blocks", "_budget", "_chunk_limit", "_chunked", "_chunks", "_decodes",
        "_kv_read", "_max_num_seqs", "_most_entries", "_most_tokens", "_prefill_first", "_prefilling", "_reserve",
        "_reserve_full", "_running", "_usable", "_victims", "_waiting",
    )  # fmt: skip
    _queues: ClassVar = {"fcfs": FirstCome, "priority": ByPriority}

    def __init__(self, batcher: Continuous | PrefillFirst, blocks: Blocks) -> None:
        super().__init__(batcher.block_size)
        self._batcher, self._blocks = batcher, blocks
        self._budget, self._max_num_seqs = batcher.max_num_batched_tokens, batcher.max_num_seqs
        self._chunk_limit = batcher.long_prefill_token_threshold or ENDLESS
        self._chunked, self._prefill_first = batcher.enable_chunked_prefill, batcher.prefill_first
        self._reserve_full = batcher.scheduler_reserve_full_isl
        self._usable, self._reserve = batcher.usable_blocks, int(batcher.watermark * batcher.usable_blocks)
        self._most_tokens = min(batcher.max_model_len or ENDLESS, ENDLESS if self._chunked else self._budget)
        self._most_entries = (self._usable - self._reserve) * self._block_size
        self._admissions = 0
        self._clear()

    def _clear(self) -> None:
        """Hold nothing."""
        self._blocks.clear()
        self._forget_decoding()
        self._waiting: FirstCome | ByPriority = self._queues[self._batcher.scheduling_policy]()
        self._running: dict[int, Sequence] = {}
        """Admitted sequences by number, which is their order."""
        self._prefilling: list[Sequence] = []
        """Those of them whose prompts are not complete."""
        self._chunks: list[tuple[Sequence, int]] = []
        """The plan: prompt tokens to compute for each prefilling sequence, 0 for one that must stand still."""
        self._decodes = 0
        """The plan: sequences that decode a token."""
        self._kv_read = 0
        """The plan: KV entries they read, each one's new one included."""
        self._admitted = 0
        """How many of the chunks, the last ones, are of newly admitted sequences; whoever begins them resets it."""
        self._victims: list[Sequence] = []
        """Whom this plan preempted."""

    def _refuses(self, prompt: int, output: int) -> Status | None:
        """Why a request can never run here, if it cannot."""
        if prompt + output > self._most_tokens:
            return Status.REJECTED_LENGTH
        return Status.REJECTED_KV if prompt + output - 1 > self._most_entries else None

    def _schedule(self) -> None:
        """Plan one iteration; the chunks of the one before are gone.

        Nobody is admitted in one that preempts. V0 serves running sequences only where it can admit none.
        Where tokens and blocks suffice for all that run, nobody needs to be looked at. Without a limit on chunks one
        sequence at most is prefilling, and it was admitted last.
        """
        if self._victims:
            self._victims = []
        if self._prefill_first:
            self._decodes = self._kv_read = 0
            self._admit(self._budget)
            if self._chunks:
                return
        prefilling, blocks = self._prefilling, self._blocks
        self._decodes = decodes = len(self._running) - len(prefilling)
        self._kv_read = self._kv_entries + decodes
        needed = self._phases[self._tick % self._block_size]
        left = self._budget - decodes
        if prefilling:
            sequence = prefilling[0]
            tokens = min(sequence.tokens - sequence.computed, left)
            needed += self._new_blocks(sequence.computed, tokens)
            self._chunks = [(sequence, tokens)]
            left -= tokens
            if self._chunk_limit < ENDLESS or needed > blocks.free:
                left, needed = self._walk()
            self._fill_blocks()
        elif needed > blocks.free:
            left, needed = self._walk()
        if needed:
            blocks.take(needed)
        if self._waiting and not self._victims and not self._prefill_first:
            self._admit(left)

    def _fill_blocks(self) -> None:
        """Let others find what the planned chunks will have filled, all of it before any is put in order."""
        if self._blocks.shares:
            for sequence, tokens in self._chunks:
                sequence.full_blocks = (sequence.computed + tokens) // self._block_size
            for sequence, _ in self._chunks:
                self._blocks.fill(sequence, self._tick + 1)

    def _admit(self, left: int) -> None:
        """Admit waiting sequences in their order while tokens, places and blocks last."""
        waiting, running, blocks, size = self._waiting, self._running, self._blocks, self._block_size
        shares = blocks.shares
        while waiting and left > 0 and len(running) < self._max_num_seqs:
            sequence = waiting[0]
            found = idle = computed = 0
            if shares or sequence.kept is not None:
                found, idle = blocks.find(sequence, self._tick + 1)
                computed = found * size
            if sequence.fetched_from <= computed < sequence.fetched:
                computed = sequence.fetched
            whole = sequence.tokens
            tokens = whole - computed
            tokens = min(tokens, self._chunk_limit)
            if tokens > left:
                if not self._chunked:
                    break
                tokens = left
            needed = -(-(computed + tokens) // size) - found
            wanted = -(-whole // size) - found if self._reserve_full else needed
            if wanted + idle + self._reserve > blocks.free:
                break
            waiting.take()
            if shares or found:
                blocks.claim(sequence, found)
            blocks.take(needed)
            if sequence.fetched and computed == found * size:
                sequence.fetched = 0
            sequence.computed = computed
            sequence.number = number = self._admissions
            self._admissions = number + 1
            running[number] = sequence
            self._prefilling.append(sequence)
            self._chunks.append((sequence, tokens))
            self._admitted += 1
            if shares:
                sequence.full_blocks = (computed + tokens) // size
                blocks.fill(sequence, self._tick + 1)
            left -= tokens

    def _walk(self) -> tuple[int, int]:
        """Go through the running sequences one by one, as the engine does: tokens left and blocks needed.

        Sequences behind the last token, or behind one that had to give itself up, stand still for this iteration.
        """
        order = list(self._running.values())
        given: dict[int, int] = {}
        scheduled: list[tuple[Sequence, int]] = []
        left, pending = self._budget, 0
        while len(scheduled) < len(order) and left > 0:
            sequence = order[len(scheduled)]
            entries = self._entries(sequence)
            tokens = 1 if sequence.done_at else min(sequence.tokens - entries, self._chunk_limit, left)
            needed = self._new_blocks(entries, tokens)
            victim = None
            while victim is not sequence and needed > self._blocks.free - pending:
                victim = self._waiting.victim(order)
                place = order.index(victim)
                del order[place]
                if place < len(scheduled):
                    left += scheduled.pop(place)[1]
                self._preempt(victim, given.get(victim.number, 0))
            if victim is sequence:
                break
            given[sequence.number] = needed
            pending += needed
            scheduled.append((sequence, tokens))
            left -= tokens
        rest = order[len(scheduled) :]
        standing = [sequence for sequence in rest if sequence.done_at] if scheduled else []
        self._decodes = sum(1 for sequence, _ in scheduled if sequence.done_at)
        self._kv_read = self._kv_entries - sum(map(self._entries, standing)) + self._decodes
        for sequence in standing:
            self._blocks.shift(sequence, self._tick)
            self._delay(sequence)
        chunks = [(sequence, tokens) for sequence, tokens in scheduled if not sequence.done_at]
        self._chunks = [*chunks, *((sequence, 0) for sequence in rest if not sequence.done_at)] if chunks else []
        return left, pending

    def _preempt(self, sequence: Sequence, extra: int) -> None:
        """Take its blocks, `extra` just given ones too, and let it wait; all its tokens will be computed again."""
        if sequence.done_at:
            sequence.generated = sequence.output - (sequence.done_at - self._tick)
            sequence.tokens = sequence.request.prompt_tokens + sequence.generated
        else:
            self._prefilling.remove(sequence)
        self._leave(sequence, extra, preempted=True)
        sequence.computed = sequence.fetched = 0
        self._waiting.put_back(sequence)
        self._victims.append(sequence)

    def _leave(self, sequence: Sequence, extra: int, *, preempted: bool) -> None:
        """It runs no longer."""
        entries = self._stop_decoding(sequence) if sequence.done_at else sequence.computed
        self._blocks.release(sequence, entries, extra, self._tick, preempted)
        sequence.done_at = 0
        if preempted:
            self._drop_stale_ends()
        del self._running[sequence.number]

    def _free_steps(self, most: int) -> int:
        """How many iterations, `most` at most, can be done as planned before anything must be decided."""
        decodes, free = self._decodes, self._blocks.free
        steps = min(self._ends[0][0] - self._tick, most)
        if steps == 1 or decodes < len(self._running):  # in the second case some stand still
            return 1
        if self._waiting and (self._victims or self._may_find_more(self._waiting[0])):
            return 1  # who just lost its blocks may fit again at once; so may one that finds more of itself, or less
        if (steps // self._block_size + 1) * decodes > free:
            return self._ticks_within(free, steps, decodes)
        return steps

    def _may_find_more(self, head: Sequence) -> bool:
        """Whether decoding of others can let it ask for fewer blocks: what was fetched is useless behind a gap."""
        return self._blocks.may_find_more(head) or (head.fetched_from > 0 and not self._reserve_full)

    def _may_admit(self, head: Sequence) -> bool:
        """Whether a new head of the queue could be admitted after an iteration as planned; blocks only become fewer."""
        if len(self._running) >= self._max_num_seqs:
            return False
        tokens = head.tokens
        if not self._reserve_full:
            tokens = min(tokens, self._chunk_limit, self._budget - self._decodes)
        return self._blocks.shares or tokens <= (self._blocks.free - self._reserve) * self._block_size

    def _entries(self, sequence: Sequence) -> int:
        """KV entries of a running sequence."""
        return self._tick + sequence.offset if sequence.done_at else sequence.computed

    def _new_blocks(self, entries: int, tokens: int) -> int:
        """Blocks that `tokens` more than `entries` need."""
        return -(-(entries + tokens) // self._block_size) + -entries // self._block_size
