"""A GPU that batches by iteration, and jumps over iterations in which nothing is decided.

At a boundary between iterations it ends one, answers who is done, and plans the next: a mixed iteration that carries
prefill, or a jump over decode iterations until the first of: an answer is complete, blocks run out, a waiting request
could be admitted. In a jump nothing is touched: KV entries, blocks and ends follow from the number of iterations done.
An arrival that could be admitted shortens the jump to the next boundary. Jumps may also be limited to one iteration;
nothing but the cost changes.
"""

from __future__ import annotations

from collections.abc import Callable

from infertuner.latency.lines import PS_PER_S, DecodeLine
from infertuner.latency.model import Chunk, LatencyModel
from infertuner.records import Records, Status
from infertuner.serving.clock import FIRST_GPU, FS_PER_PS, Call, Clock, femtoseconds
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.continuous.jump import Jump, StraightJump, jump_over
from infertuner.serving.continuous.notes import Notes, note_outside
from infertuner.serving.continuous.scheduler import ENDLESS, Scheduler
from infertuner.serving.continuous.segments import SegmentLog
from infertuner.serving.continuous.sequence import Sequence
from infertuner.serving.request import Request

FINISHED = int(Status.FINISHED)


class ContinuousGpu(Scheduler):
    """One GPU: what its scheduler plans takes time here, and is written down."""

    def __init__(
        self,
        *,
        clock: Clock,
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
        self._requests = records.requests
        self._notes = Notes(records, self._blocks.shares)
        self._output_tokens = records.asked.output_tokens.data
        priority = records.asked.priority
        self._urgencies = None if priority is None else priority.data
        self._segments = SegmentLog(gpu_id, records.segments)
        self._lines: dict[int, DecodeLine] = {}
        self._iteration = 0
        """Iterations done: their numbers choose the noise."""
        self._jump: Jump | None = None
        self._call: Call | None = None
        """The end of what is under way; None is idle."""
        self._began_fs = self._due_fs = 0
        """When the iteration or jump under way began, and when it ends."""
        self._began_s = 0.0
        self._began_waiting = self._prefill_tokens = 0
        self._prefill_row: tuple[float | int, ...] = ()
        """What the log will say of the iteration with prefill under way, once it has ended."""
        self._line: DecodeLine | None = None

    # What the simulation asks for.

    def start(self, startup_s: float) -> None:
        """Begin to start up."""
        self._end_at(self._clock.now_fs + femtoseconds(startup_s))

    def submit(self, request: Request) -> None:
        """Put a request into the queue, or reject it if it can never run here."""
        row = request.request_id
        output = self._output_tokens[row]
        refused = self._refuses(request.prompt_tokens, output)
        if refused is not None:
            self._requests.status[row] = refused
            self._answered(request, self._gpu_id)
            return
        sequence = Sequence(request, output, self._urgencies[row] if self._urgencies is not None else 0)
        waiting = self._waiting
        waiting.add(sequence)
        jump = self._jump
        if self._call is None:
            self._end_at(self._clock.now_fs)
        elif jump is not None and jump.steps > 1 and waiting[0] is sequence and self._may_admit(sequence):
            self._shorten(jump)

    def drain(self) -> None:
        """Learn that no further request will come; nothing was held back for one."""

    def kill(self) -> list[Request]:
        """Lose everything: the requests it held, running ones first. It serves again after another `start`."""
        self.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        held = [sequence.request for sequence in self._running.values()]
        while self._waiting:
            held.append(self._waiting.take().request)
        self._clear()
        return held

    def stop(self) -> None:
        """Log the iterations that have ended; those under way never will."""
        if self._jump is not None:
            ended = self._ended(self._jump)
            if ended:
                ends_s = (self._began_fs + self._jump.span_fs(ended)) / 1e15
                self._log(self._jump, ended, self._growth(ended - 1, self._decodes), ends_s)
                self._iteration += ended
            self._jump = None
        self._segments.flush()

    @property
    def outstanding(self) -> int:
        """Requests waiting and running."""
        return len(self._waiting) + len(self._running)

    @property
    def waiting(self) -> int:
        """Requests waiting, preempted ones included."""
        return len(self._waiting)

    @property
    def kv_blocks(self) -> int:
        """Blocks in use by running requests at this moment, exact inside a jump too."""
        used = self._usable - self._blocks.free
        return used + self._growth(self._ended(self._jump), self._decodes) if self._jump is not None else used

    # Time.

    def _end_at(self, at_fs: int) -> None:
        self._due_fs = at_fs
        self._call = self._clock.call(at_fs, self._rank, self._at_boundary)

    def _at_boundary(self, _: Call) -> None:
        now_fs = self._due_fs
        now_s = now_fs / 1e15
        self._clock.pass_gpu(self._gpu_id, now_fs)
        if self._jump is not None:
            self._end_jump(self._jump, now_s)
        elif self._chunks:
            self._end_prefill(now_s)
        self._began_fs, self._began_s = now_fs, now_s
        while True:
            self._schedule()
            if self._victims:
                self._notes.preempted(self._victims, now_s)
            if self._chunks:
                self._begin_prefill()
            elif self._decodes:
                self._begin_jump()
            elif self._victims:
                continue  # who was to be scheduled lost its blocks to others, who can go on now
            else:
                self._call = None
            return

    def _begin_prefill(self) -> None:
        """An iteration with chunks, and with a token for every sequence that decodes."""
        decodes = self._decodes
        chunks = [Chunk(sequence.computed, tokens) for sequence, tokens in self._chunks if tokens]
        kv_read = self._kv_read if decodes else 0
        if self._admitted:
            self._notes.admitted(self._chunks[-self._admitted :], self._began_s, decodes + len(chunks))
        seconds = self._latency.iteration_s(chunks=chunks, decodes=decodes, kv_entries=kv_read)
        span_ps = round(seconds * PS_PER_S) or 1
        span_fs = span_ps * (FS_PER_PS if self._noise is None else self._noise.at(self._iteration))
        self._prefill_tokens = tokens = chunks[0].new_tokens if len(chunks) == 1 else sum([n for _, n in chunks])
        ends_fs = self._began_fs + span_fs
        self._prefill_row = (
            self._began_s, ends_fs / 1e15, self._iteration, 1, span_ps, 0, decodes, len(chunks), tokens, kv_read,
            self._usable - self._blocks.free, len(self._waiting),
        )  # fmt: skip
        self._end_at(ends_fs)

    def _end_prefill(self, now_s: float) -> None:
        """Completed prompts yield a token; each request's time to the first one is split by the tokens computed."""
        decodes, tokens, requests = self._decodes, self._prefill_tokens, self._requests
        self._segments.add(self._prefill_row)
        self._iteration += 1
        self._kv_entries += decodes
        done: list[Sequence] = []
        if decodes or not self._prefill_first:
            self._tick += 1
            if self._ends:
                done = self._done()
        share_s = (now_s - self._began_s) / (tokens + decodes)
        for sequence, own in self._chunks:
            if not sequence.generated:
                row = sequence.row
                requests.prefill_s[row] += own * share_s
                if tokens > own:
                    requests.others_prefill_s[row] += (tokens - own) * share_s
                if decodes:
                    requests.others_decode_s[row] += decodes * share_s
            sequence.computed += own
            if sequence.computed == sequence.tokens and self._complete(sequence, now_s):
                done.append(sequence)
        self._chunks = []
        if done:
            if len(done) > 1:
                done.sort(key=lambda sequence: sequence.number)
            self._finish(done, now_s)

    def _complete(self, sequence: Sequence, now_s: float) -> bool:
        """A prefill is complete and yields a token; whether that was the last one. If not, decode."""
        self._prefilling.remove(sequence)
        sequence.generated += 1
        if sequence.generated == 1:
            self._requests.first_token_at_s[sequence.row] = now_s
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
        steps = self._free_steps(self._max_jump)
        self._line, self._began_waiting = line, len(self._waiting)
        self._jump = jump = jump_over(line, self._kv_read, steps, self._iteration, self._noise)
        self._end_at(self._began_fs + jump.span_fs(steps))

    def _shorten(self, jump: Jump) -> None:
        """End a jump at its next boundary: after this instant, if this GPU's turn at this instant has passed."""
        clock = self._clock
        steps = jump.boundary(clock.now_fs - self._began_fs + clock.has_passed(self._gpu_id))
        if steps < jump.steps and self._call is not None:
            jump.steps = steps
            self._call.cancel()
            self._end_at(self._began_fs + jump.span_fs(steps))

    def _end_jump(self, jump: Jump, now_s: float) -> None:
        self._jump = None
        steps = jump.steps
        grown = self._growth(steps - 1, self._decodes) if steps > 1 else 0
        self._log(jump, steps, grown, now_s)
        if grown:
            self._blocks.take(grown)
        self._iteration += steps
        self._tick += steps
        self._kv_entries += steps * self._decodes
        for sequence in self._prefilling:  # stood still behind one that had to give itself up
            if not sequence.generated:
                self._requests.others_decode_s[sequence.row] += now_s - self._began_s
        done = self._done()
        if done:
            self._finish(done, now_s)

    def _ended(self, jump: Jump) -> int:
        """Iterations of the jump under way that have ended."""
        elapsed_fs = self._clock.now_fs - self._began_fs + self._clock.has_passed(self._gpu_id)
        return jump.boundary(elapsed_fs) - 1 if elapsed_fs else 0

    def _finish(self, done: list[Sequence], now_s: float) -> None:
        for sequence in done:
            self._leave(sequence, 0, preempted=False)
            self._requests.finished_at_s[sequence.row] = now_s
            self._requests.status[sequence.row] = FINISHED
            self._answered(sequence.request, self._gpu_id)

    def _log(self, jump: Jump, steps: int, grown: int, now_s: float) -> None:
        """A row for each straight piece of the first `steps` iterations, which end now and took `grown` blocks."""
        decodes, kv_entries, number, waiting = self._decodes, self._kv_read, self._iteration, self._began_waiting
        used = self._usable - self._blocks.free
        if isinstance(jump, StraightJump):
            self._segments.add((
                self._began_s, now_s, number, steps, jump.first_fs // FS_PER_PS, jump.rise_fs // FS_PER_PS, decodes,
                0, 0, kv_entries, used + grown, waiting,
            ))  # fmt: skip
            kv_entries += steps * decodes
        else:
            at_fs, done = self._began_fs, 0
            for (first_ps, rise_ps, length), span_fs in jump.parts(steps):
                done += length
                self._segments.add((
                    at_fs / 1e15, (at_fs + span_fs) / 1e15, number, length, first_ps, rise_ps, decodes, 0, 0,
                    kv_entries, used + self._growth(done - 1, decodes), waiting,
                ))  # fmt: skip
                at_fs += span_fs
                number += length
                kv_entries += length * decodes
        if self._line is not None and (self._kv_read < self._line.low or kv_entries - decodes > self._line.high):
            note_outside(self._latency, self._line, decodes, self._kv_read, steps)
