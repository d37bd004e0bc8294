"""A GPU that batches by iteration, as its cluster sees it: requests come, answers go, and it may die at any moment.

An arrival that could be admitted ends a jump at its next boundary; any other one changes nothing until then.
"""

from __future__ import annotations

from infertuner.serving.clock import femtoseconds
from infertuner.serving.continuous.iterations import Iterations
from infertuner.serving.continuous.sequence import Sequence
from infertuner.serving.request import Request


class ContinuousGpu(Iterations):
    """One GPU: idle, starting up, or iterating."""

    __slots__ = ()

    def start(self, startup_s: float) -> None:
        """Serve from `startup_s` on; requests may queue meanwhile."""
        self._end_at(self._clock.now_fs + femtoseconds(startup_s))

    def submit(self, request: Request) -> None:
        """Put a request into the queue, or reject it if it can never run here."""
        sequence = self._accept(request)
        if sequence is not None:
            self._waiting.add(sequence)
            self._wake_for(sequence)

    def _accept(self, request: Request) -> Sequence | None:
        """What the engine makes of a request; None of one that can never run here, which is answered at once."""
        row = request.request_id
        output = self._output_tokens[row]
        refused = self._refuses(request.prompt_tokens, output)
        if refused is None:
            return Sequence(request, output, self._urgencies[row] if self._urgencies is not None else 0)
        self._status[row] = refused
        self._answered(request, self._gpu_id)
        return None

    def _wake_for(self, sequence: Sequence) -> None:
        """It waits from now on: begin, or end a jump at its next boundary if it could be admitted there."""
        waiting, jump = self._waiting, self._jump
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
                self._end_jump((self._began_fs + self._jump.span_fs(ended)) / 1e15, ended)
            self._jump = None
        self._segments.flush(least_bytes=0)

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
