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
from infertuner.records import CacheLevel, Records, Status
from infertuner.serving.clock import FIRST_GPU, FS_PER_PS, Call, Clock, femtoseconds
from infertuner.serving.continuous.config import Continuous, PrefillFirst
from infertuner.serving.continuous.jump import Jump, jump_from
from infertuner.serving.continuous.scheduler import ENDLESS, Scheduler
from infertuner.serving.continuous.segments import SegmentLog
from infertuner.serving.continuous.sequence import Sequence
from infertuner.serving.request import Request


class ContinuousGpu(Scheduler):
    """One GPU: what its scheduler plans takes time here, and is written down."""

    def __init__(
        self,
        *,
        clock: Clock,
        gpu_id: int,
        startup_s: float,
        batcher: Continuous | PrefillFirst,
        latency: LatencyModel,
        records: Records,
        answered: Callable[[Request, int], None],
        max_jump: int = ENDLESS,
    ) -> None:
        super().__init__(batcher, batcher.blocks(records.asked))
        self._clock, self._gpu_id, self._rank, self._startup_s = clock, gpu_id, FIRST_GPU + gpu_id, startup_s
        self._latency, self._noise, self._answered, self._max_jump = latency, latency.noise, answered, max_jump
        self._requests, self._stalls = records.requests, records.stalls
        self._output_tokens = memoryview(records.asked.output_tokens)
        priority = records.asked.priority
        self._urgencies = None if priority is None else memoryview(priority)
        self._segments = SegmentLog(gpu_id, records.segments)
        self._lines: dict[int, DecodeLine] = {}
        self._iteration = 0
        """Iterations done: their numbers choose the noise."""
        self._jump: Jump | None = None
        self._call: Call | None = None
        """The end of what is under way; None is idle."""
        self._began_fs = self._due_fs = 0
        """When the iteration or jump under way began, and when it ends."""

    # What the simulation asks for.

    def start(self) -> None:
        """Begin to start up."""
        self._end_at(self._clock.now_fs + femtoseconds(self._startup_s))

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
                self._log(self._jump, ended, self._growth(ended - 1))
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
        return used + self._growth(self._ended(self._jump)) if self._jump is not None else used

    # Time.

    def _end_at(self, at_fs: int) -> None:
        self._due_fs = at_fs
        self._call = self._clock.call(at_fs, self._rank, self._at_boundary)

    def _at_boundary(self, _: Call) -> None:
        self._clock.pass_gpu(self._gpu_id, self._due_fs)
        if self._jump is not None:
            self._end_jump(self._jump)
        elif self._chunks:
            self._end_prefill()
        while True:
            self._schedule()
            for victim in self._victims:
                self._note_preemption(victim)
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
        now_fs, decodes = self._due_fs, self._decodes
        chunks = [Chunk(sequence.computed, tokens) for sequence, tokens in self._chunks if tokens]
        kv_read = self._kv_read if decodes else 0
        if self._admitted:
            self._note_admissions(decodes + len(chunks))
        seconds = self._latency.iteration_s(chunks=chunks, decodes=decodes, kv_entries=kv_read)
        span_ps = max(1, round(seconds * PS_PER_S))
        span_fs = span_ps * (FS_PER_PS if self._noise is None else self._noise.at(self._iteration))
        self._prefill_tokens = sum([tokens for _, tokens in chunks])
        self._segments.add(
            now_fs, now_fs + span_fs, self._iteration, 1, span_ps, 0, decodes, len(chunks), self._prefill_tokens,
            kv_read, self._usable - self._blocks.free, len(self._waiting),
        )  # fmt: skip
        self._began_fs = now_fs
        self._end_at(now_fs + span_fs)

    def _end_prefill(self) -> None:
        """Completed prompts yield a token; each request's time to the first one is split by the tokens computed."""
        decodes, tokens, requests = self._decodes, self._prefill_tokens, self._requests
        self._iteration += 1
        self._kv_entries += decodes
        done: list[Sequence] = []
        if decodes or not self._prefill_first:
            self._tick += 1
            done = self._done()
        share_s = (self._due_fs - self._began_fs) / 1e15 / (tokens + decodes)
        for sequence, own in self._chunks:
            if not sequence.generated:
                row = sequence.row
                requests.prefill_s[row] += own * share_s
                requests.others_prefill_s[row] += (tokens - own) * share_s
                requests.others_decode_s[row] += decodes * share_s
            sequence.computed += own
            if sequence.computed == sequence.tokens:
                self._prefilling.remove(sequence)
                sequence.generated += 1
                self._note_token(sequence)
                if sequence.generated == sequence.output:
                    done.append(sequence)
                else:
                    self._decode(sequence)
        self._chunks = []
        if len(done) > 1:
            done.sort(key=lambda sequence: sequence.number)
        for sequence in done:
            self._finish(sequence)

    def _begin_jump(self) -> None:
        """As many decode iterations as need no decision."""
        decodes, noise = self._decodes, self._noise
        line = self._lines.get(decodes)
        if line is None:
            line = self._lines[decodes] = self._latency.decode_line(decodes)
        steps = self._free_steps(self._max_jump)
        now_fs = self._due_fs
        self._jump = jump = jump_from(
            line, now_fs, self._iteration, self._kv_read, steps, len(self._waiting), noise
        )
        self._end_at(now_fs + jump.span_fs(steps))

    def _shorten(self, jump: Jump) -> None:
        """End a jump at its next boundary: after this instant, if this GPU's turn at this instant has passed."""
        clock = self._clock
        steps = jump.boundary(clock.now_fs - jump.started_fs + clock.has_passed(self._gpu_id))
        if steps < jump.steps and self._call is not None:
            jump.steps = steps
            self._call.cancel()
            self._end_at(jump.started_fs + jump.span_fs(steps))

    def _end_jump(self, jump: Jump) -> None:
        self._jump = None
        steps = jump.steps
        grown = 0
        if steps > 1:
            grown = self._growth(steps - 1)
        self._log(jump, steps, grown)
        if grown:
            self._blocks.take(grown)
        self._iteration += steps
        self._tick += steps
        self._kv_entries += steps * self._decodes
        for sequence in self._prefilling:  # stood still behind one that had to give itself up
            if not sequence.generated:
                self._requests.others_decode_s[sequence.row] += (self._due_fs - jump.started_fs) / 1e15
        for sequence in self._done():
            self._finish(sequence)

    def _ended(self, jump: Jump) -> int:
        """Iterations of the jump under way that have ended."""
        elapsed_fs = self._clock.now_fs - jump.started_fs + self._clock.has_passed(self._gpu_id)
        return jump.boundary(elapsed_fs) - 1 if elapsed_fs else 0

    def _finish(self, sequence: Sequence) -> None:
        self._leave(sequence, 0, preempted=False)
        self._requests.finished_at_s[sequence.row] = self._due_fs / 1e15
        self._requests.status[sequence.row] = Status.FINISHED
        self._answered(sequence.request, self._gpu_id)

    # Records.

    def _note_admissions(self, batch_size: int) -> None:
        """The last chunks begin: for the first time, or again before their first token."""
        now_s, requests, shares = self._due_fs / 1e15, self._requests, self._blocks.shares
        for sequence, _ in self._chunks[-self._admitted :]:
            row = sequence.row
            if not sequence.generated and sequence.lost_at_fs is not None:
                requests.others_decode_s[row] += (self._due_fs - sequence.lost_at_fs) / 1e15
                sequence.lost_at_fs = None
            elif not sequence.generated:
                requests.started_at_s[row] = now_s
                requests.batch_size[row] = batch_size
                if shares:
                    requests.cached_tokens[row] = sequence.computed
                    requests.cache_level[row] = CacheLevel.LOCAL if sequence.computed else CacheLevel.MISS

    def _note_token(self, sequence: Sequence) -> None:
        """The token that completes a prefill: the first, or the first after a preemption."""
        if sequence.generated == 1:
            self._requests.first_token_at_s[sequence.row] = self._due_fs / 1e15
        elif sequence.lost_at_fs is not None:
            self._stalls.request_id.append(sequence.row)
            self._stalls.last_token_at_s.append(sequence.lost_at_fs / 1e15)
            self._stalls.next_token_at_s.append(self._due_fs / 1e15)
            sequence.lost_at_fs = None

    def _note_preemption(self, sequence: Sequence) -> None:
        self._requests.preemptions[sequence.row] += 1
        if sequence.lost_at_fs is None:
            sequence.lost_at_fs = self._due_fs

    def _log(self, jump: Jump, steps: int, grown: int) -> None:
        """A row for each straight piece of the first `steps` iterations, in which `grown` blocks were taken."""
        decodes, kv_entries, at_fs, left = self._decodes, jump.kv_entries, jump.started_fs, steps
        used = self._usable - self._blocks.free
        for number, (first_ps, rise_ps, length), span_fs in jump.parts(steps):
            left -= length
            blocks = used + (self._growth(steps - left - 1) if left else grown)
            self._segments.add(
                at_fs, at_fs + span_fs, number, length, first_ps, rise_ps, decodes, 0, 0, kv_entries, blocks,
                jump.waiting,
            )  # fmt: skip
            at_fs += span_fs
            kv_entries += length * decodes
        if jump.kv_entries < jump.line.low or kv_entries - decodes > jump.line.high:
            self._note_outside(jump, steps)

    def _note_outside(self, jump: Jump, steps: int) -> None:
        """Tell the latency model which iterations read fewer or more KV entries than were measured."""
        decodes, line, kv_entries = self._decodes, jump.line, jump.kv_entries
        below = min(steps, max(0, -((kv_entries - line.low) // decodes)))
        within = max(below, min(steps, max(0, (line.high - kv_entries) // decodes + 1)))
        if below:
            self._latency.note_outside(batch_size=decodes, kv_entries=kv_entries, steps=below)
        if within < steps:
            kv_entries += within * decodes
            self._latency.note_outside(batch_size=decodes, kv_entries=kv_entries, steps=steps - within)
