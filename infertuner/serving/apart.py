"""GPUs that do not concern each other, each on a clock of its own.

Where clients wait for nothing and the router looks at requests alone, nothing that happens on one GPU can reach another
one. Then no common list of events is needed: a GPU runs on until the next request that is routed to it, and what it
does is exactly what it would do on the common clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infertuner.records import RequestColumns
from infertuner.serving.clock import FS_PER_NS, client_ns
from infertuner.serving.gpu import Gpu
from infertuner.serving.own_clock import OwnClock
from infertuner.serving.request import Request
from infertuner.sources.requests import OpenLoop, Requests


class Apart:
    """The clocks of such GPUs, in the order of their numbers, and what they have counted."""

    def __init__(self) -> None:
        self.clocks: list[OwnClock] = []
        self.sent = 0

    def new_clock(self) -> OwnClock:
        """For the next GPU."""
        self.clocks.append(OwnClock())
        return self.clocks[-1]

    @property
    def ended(self) -> int:
        """Requests answered or rejected."""
        return sum(clock.ended for clock in self.clocks)

    @property
    def last_end_at_s(self) -> float:
        """When the last of them was."""
        return max(clock.last_end_fs for clock in self.clocks) / 1e15

    @property
    def events(self) -> int:
        """Requests sent and boundaries passed."""
        return self.sent + sum(clock.events for clock in self.clocks)

    def run(
        self,
        gpus: Sequence[Gpu],
        asked: Requests,
        columns: RequestColumns,
        *,
        route: Callable[[Request], int | None],
        report: Callable[[int], None],
        until_fs: int,
    ) -> None:
        """Send each request at its time to the GPU that `route` says, which has caught up by then; then end them all.

        report: told now and then how many were sent.
        """
        assert isinstance(asked.pacing, OpenLoop)
        sessions, prompt_tokens, prefix_tokens = asked.session_id, asked.prompt_tokens.data, asked.prefix_tokens.data
        gpu_ids, arrived_at_s, routed_at_s = columns.gpu_id, columns.arrived_at_s, columns.routed_at_s
        clocks = self.clocks
        for row, at_ns in enumerate(client_ns(asked.pacing.arrived_at_s).data):
            at_fs = at_ns * FS_PER_NS
            if at_fs >= until_fs:
                break
            at_s = at_fs / 1e15
            request = Request(row, at_s, sessions[row], prompt_tokens[row], prefix_tokens[row])
            gpu_id = route(request) or 0  # all GPUs are there, so there is an answer
            gpu_ids[row] = gpu_id
            arrived_at_s[row] = routed_at_s[row] = at_s
            clocks[gpu_id].run_until(at_fs)
            gpus[gpu_id].submit(request)
            self.sent = row + 1
            if not self.sent % 1000:
                report(self.sent)
        for clock in clocks:
            clock.run_until(until_fs)
