"""What a scheduler plans takes time here, and is written down: iterations one after the other, or many at once.

At a boundary between iterations an engine ends what was under way, answers who is done, and plans the next: a mixed
iteration that carries prefill, or a jump over decode iterations until the first of: an answer is complete, blocks run
out, a waiting request could be admitted. In a jump nothing is touched: KV entries, blocks and ends follow from the
number of iterations done. Jumps may also be limited to one iteration; nothing but the cost changes.
"""

from __future__ import annotations

from collections.abc import Callable

from infertuner.latency.lines import PS_PER_S, DecodeLine
from infertuner.latency.model import Chunk, LatencyModel
from infertuner.records import Records, Status
from infertuner.serving.clock import FIRST_GPU, FS_PER_PS, Call, Clock
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.continuous.jump import CrookedJump, Jump, StraightJump, jump_over
from infertuner.serving.continuous.notes import Notes, note_outside
from infertuner.serving.continuous.scheduler import ENDLESS, Scheduler
from infertuner.serving.continuous.segments import SegmentLog, row_of
from infertuner.serving.continuous.sequence import Sequence
from infertuner.serving.own_clock import OwnClock
from infertuner.serving.request import Request

FINISHED = int(Status.FINISHED)


class Iterations(Scheduler):
    """The work of one GPU in time."""

    __slots__ = (
        "_answered", "_began_fs", "_began_s", "_began_waiting", "_call", "_clock", "_due_fs", "_finished_at_s",
        "_first_token_at_s", "_gpu_id", "_iteration", "_jump", "_latency", "_lines", "_max_jump", "_noise",
        "_notes", "_output_tokens", "_prefill_row", "_prefill_s", "_prefill_tokens", "_rank", "_requests", "_rows",
        "_segments", "_status", "_ticked_at_s", "_urgencies",
    )  # fmt: skip

    def __init__(
        self,
        *,
        clock: Clock | OwnClock,
        gpu_id: int,
        batcher: Continuous | PrefillFirst,
        latency: LatencyModel,
        records: Records,
        answered: Callable[[Request, int], None],
        max_jump: int = ENDLESS,
    ) -> None:
        super().__init__(batcher, batcher.blocks(records.asked))
        self._clock, self._gpu_id, self._rank = clock, gpu_id, FIRST_GPU + gpu_id
        self._latency, self._noise, self._answered, self._max_jump = latency, latency.noise, answered, max_jump
        self._requests = requests = records.requests
        self._first_token_at_s, self._finished_at_s = requests.first_token_at_s, requests.finished_at_s
        self._prefill_s, self._status = requests.prefill_s, requests.status
        self._notes = Notes(records, self._blocks.shares)
        self._output_tokens = records.asked.output_tokens.data
        self._urgencies = None if records.asked.priority is None else records.asked.priority.data
        self._segments = SegmentLog(gpu_id, records.segments)
        self._rows = self._segments.rows
        self._lines: dict[int, DecodeLine] = {}
        self._iteration = 0
        """Iterations done: their numbers choose the noise."""
        self._jump: Jump | None = None
        self._call: Call | OwnClock | None = None
        """The end of what is under way; None is idle."""
        self._began_fs = self._due_fs = 0
        """When the iteration or jump under way began, and when it ends."""
        self._began_s = self._ticked_at_s = 0.0
        self._began_waiting = self._prefill_tokens = 0
        self._prefill_row = b""
        """What the log will say of the iteration with prefill under way, once it has ended."""

    def _end_at(self, at_fs: int) -> None:
        self._due_fs = at_fs
        self._call = self._clock.call(at_fs, self._rank, self._at_boundary)

    def _at_boundary(self, _: object) -> None:
        """What was under way has ended; end it, and begin what comes next."""
        now_fs = self._due_fs
        now_s = now_fs / 1e15
        if self._jump is not None:
            self._end_jump(now_s, self._jump.steps)
        elif self._chunks:
            self._end_prefill(now_s)
        self._began_fs, self._began_s = now_fs, now_s
        self._begin()

    def _begin(self) -> None:
        """Plan, and set the plan going."""
        self._schedule()
        if self._chunks:
            self._begin_prefill()
        elif self._decodes:
            self._begin_jump()
        elif self._victims:
            self._begin()  # who was to be scheduled lost its blocks to others, who can go on now
        else:
            self._call = None

    def _preempt(self, sequence: Sequence, extra: int) -> None:
        super()._preempt(sequence, extra)
        # prefill first: it may have stood still for whole prefills since its last token
        said_at_s = max(sequence.said_at_s, self._ticked_at_s) if sequence.generated else self._began_s
        self._notes.preempted(sequence, said_at_s)

    def _begin_prefill(self) -> None:
        """An iteration with chunks, and with a token for every sequence that decodes."""
        decodes, planned = self._decodes, self._chunks
        if len(planned) == 1:
            sequence, tokens = planned[0]
            chunks = [Chunk(sequence.computed, tokens)]
        else:
            chunks = [Chunk(sequence.computed, tokens) for sequence, tokens in planned if tokens]
            tokens = sum([tokens for _, tokens in planned])
        if self._admitted:
            self._notes.admitted(planned[-self._admitted :], self._began_s, decodes + len(chunks))
            self._admitted = 0
        kv_read = self._kv_read if decodes else 0
        seconds = self._latency.iteration_s(chunks=chunks, decodes=decodes, kv_entries=kv_read)
        span_ps = round(seconds * PS_PER_S) or 1
        ends_fs = self._began_fs + span_ps * (FS_PER_PS if self._noise is None else self._noise.at(self._iteration))
        self._prefill_tokens = tokens
        self._prefill_row = row_of(
            self._began_s, ends_fs / 1e15, self._iteration, 1, span_ps, 0, decodes, len(chunks), tokens, kv_read,
            self._usable - self._blocks.free, len(self._waiting),
        )  # fmt: skip
        self._due_fs = ends_fs
        self._call = self._clock.call(ends_fs, self._rank, self._at_boundary)

    def _end_prefill(self, now_s: float) -> None:
        """Completed prompts yield a token; each request's time to the first one is split by the tokens computed."""
        decodes, tokens, planned = self._decodes, self._prefill_tokens, self._chunks
        self._rows += self._prefill_row
        self._segments.flush()
        self._iteration += 1
        self._chunks = []
        done: list[Sequence] = []
        if decodes or not self._prefill_first:
            self._kv_entries += decodes
            self._tick += 1
            self._ticked_at_s = now_s
            if self._ends and self._ends[0][0] <= self._tick:
                done = self._done()
        share_s = (now_s - self._began_s) / (tokens + decodes)
        for sequence, own in planned:
            if not sequence.generated:
                row = sequence.row
                self._prefill_s[row] += own * share_s
                if tokens > own:
                    self._requests.others_prefill_s[row] += (tokens - own) * share_s
                if decodes:
                    self._requests.others_decode_s[row] += decodes * share_s
            sequence.computed += own
            if sequence.computed == sequence.tokens and self._complete(sequence, now_s):
                done.append(sequence)
        if done:
            if len(done) > 1:
                done.sort(key=lambda sequence: sequence.number)
            self._finish(done, now_s)

    def _complete(self, sequence: Sequence, now_s: float) -> bool:
        """A prefill is complete and yields a token; whether that was the last one. If not, decode."""
        self._prefilling.remove(sequence)
        sequence.generated += 1
        sequence.said_at_s = now_s
        if sequence.generated == 1:
            self._first_token_at_s[sequence.row] = now_s
        elif sequence.lost_at_s is not None:
            self._notes.resumed(sequence, sequence.lost_at_s, now_s)
        if sequence.generated == sequence.output:
            return True
        self._decode(sequence)
        return False

    def _begin_jump(self) -> None:
        """As many decode iterations as need no decision."""
        decodes = self._decodes
        line = self._lines.get(decodes)
        if line is None:
            line = self._lines[decodes] = self._latency.decode_line(decodes)
        self._began_waiting = len(self._waiting)
        steps = self._free_steps(self._max_jump)
        self._jump = jump = jump_over(line, self._kv_read, steps, self._iteration, self._noise)
        self._due_fs = ends_fs = self._began_fs + jump.span_fs(steps)
        self._call = self._clock.call(ends_fs, self._rank, self._at_boundary)

    def _shorten(self, jump: Jump) -> None:
        """End a jump at its next boundary: after this instant, if this GPU's turn at this instant has passed."""
        clock = self._clock
        steps = jump.boundary(clock.now_fs - self._began_fs + clock.has_passed(self._gpu_id))
        if steps < jump.steps and self._call is not None:
            jump.steps = steps
            self._call.cancel()
            self._end_at(self._began_fs + jump.span_fs(steps))

    def _end_jump(self, now_s: float, steps: int) -> None:
        """Its first `steps` iterations are done."""
        jump, decodes = self._jump, self._decodes
        used = self._usable - self._blocks.free
        if steps > 1:
            grown = self._growth(steps - 1, decodes)
            if grown:
                self._blocks.take(grown)
        if isinstance(jump, StraightJump):
            self._rows += row_of(
                self._began_s, now_s, self._iteration, steps, jump.first_ps, jump.rise_ps, decodes, 0, 0, self._kv_read,
                self._usable - self._blocks.free, self._began_waiting,
            )  # fmt: skip
        elif jump is not None:
            self._log_pieces(jump, steps, used)
        self._jump = None
        self._iteration += steps
        self._tick += steps
        self._ticked_at_s = now_s
        self._kv_entries += steps * decodes
        if self._prefilling:
            self._notes.stood_still(self._prefilling, now_s - self._began_s)
        if self._ends[0][0] <= self._tick:
            self._finish(self._done(), now_s)

    def _ended(self, jump: Jump) -> int:
        """Iterations of the jump under way that have ended."""
        elapsed_fs = self._clock.now_fs - self._began_fs + self._clock.has_passed(self._gpu_id)
        return jump.boundary(elapsed_fs) - 1 if elapsed_fs else 0

    def _finish(self, done: list[Sequence], now_s: float) -> None:
        gpu_id = self._gpu_id
        self._clock.pass_gpu(gpu_id, self._due_fs)  # others may react to an answer
        for sequence in done:
            self._leave(sequence, 0, preempted=False)
            self._finished_at_s[sequence.row] = now_s
            self._status[sequence.row] = FINISHED
            self._answered(sequence.request, gpu_id)

    def _log_pieces(self, jump: CrookedJump, steps: int, used: int) -> None:
        """Log each straight piece of the first `steps` iterations; `used` blocks were in use during the first one."""
        decodes, kv_read, at_fs, done = self._decodes, self._kv_read, self._began_fs, 0
        for (first_ps, rise_ps, length), span_fs in jump.parts(steps):
            self._rows += row_of(
                at_fs / 1e15, (at_fs + span_fs) / 1e15, self._iteration + done, length, first_ps, rise_ps, decodes, 0,
                0, kv_read + done * decodes, used + self._growth(done + length - 1, decodes), self._began_waiting,
            )  # fmt: skip
            at_fs += span_fs
            done += length
        note_outside(self._latency, self._lines[decodes], kv_read, steps)
