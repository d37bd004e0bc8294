"""With whom a request runs: static batching policies. They decide on plain values and never wait themselves.

A static batch is formed once and runs to its end. Iteration-level batching replaces the whole serving loop and lives
in `continuous/`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Protocol

from pydantic import Field

from infertuner.parts import Count, Seconds, part
from infertuner.serving.request import Request


class Plan(NamedTuple):
    """What an idle GPU should do now: run the first `take` waiting requests, or, with 0, wait."""

    take: int
    wait_until_s: float = math.inf
    """With take = 0: plan again at this instant, or at the next arrival if that is earlier."""
    hold_s: float = 0.0
    """Hold the GPU this long before the batch starts."""


class Batcher(Protocol):
    """Decides how many of the waiting requests an idle GPU runs together."""

    padded: bool

    def plan(self, waiting: Sequence[Request], now_s: float, draining: bool) -> Plan:
        """Decide for a non-empty queue, oldest first. `draining`: nothing will come any more, so wait for nothing."""
        ...


@part
class NoBatching:
    """One request at a time, first come first served."""

    kind: Literal["none"]

    padded = True

    def plan(self, waiting: Sequence[Request], now_s: float, draining: bool) -> Plan:
        """Run the oldest."""
        return Plan(1)


@part
class FixedBatch:
    """Wait for a whole batch, however long that takes; the last, partial one runs when no more can come."""

    kind: Literal["fixed"]
    max_batch_size: Count
    """Requests in a batch."""
    padded: bool = True
    """Whether every member runs to the longest output of its batch; false lets short answers leave early."""

    def plan(self, waiting: Sequence[Request], now_s: float, draining: bool) -> Plan:
        """Run a full batch, or the rest when draining."""
        if len(waiting) >= self.max_batch_size:
            return Plan(self.max_batch_size)
        return Plan(len(waiting)) if draining else Plan(0)


@part
class TimeoutBatch:
    """Run when a whole batch is there or when the oldest request has waited long enough, whichever comes first."""

    kind: Literal["timeout"]
    max_batch_size: Count
    """Requests in a batch at most."""
    timeout_s: Seconds
    """Longest time the oldest request waits for company while the GPU is idle; 0 batches what has piled up."""
    padded: bool = True
    """Whether every member runs to the longest output of its batch; false lets short answers leave early."""

    def plan(self, waiting: Sequence[Request], now_s: float, draining: bool) -> Plan:
        """Run a full batch, or whatever is there at the oldest request's deadline."""
        deadline_s = waiting[0].arrived_at_s + self.timeout_s
        if len(waiting) >= self.max_batch_size or draining or now_s >= deadline_s:
            return Plan(min(len(waiting), self.max_batch_size))
        return Plan(0, wait_until_s=deadline_s)


@part
class PublishedBatch:
    """What the first implementation called batching: sleep by position in an imaginary batch, then run one alone.

    The k-th request of every `max_batch_size` holds the GPU for `(max_batch_size - k) * delay_s` before it runs, so
    full batches wait `(max_batch_size - 1) / 2 * delay_s` on average and nothing is ever computed together.
    """

    kind: Literal["published"]
    max_batch_size: Count
    """Size of the imaginary batch."""
    delay_s: Seconds
    """Delay for each place short of the last one."""

    padded = True

    def __post_init__(self) -> None:
        self._served = 0

    def plan(self, waiting: Sequence[Request], now_s: float, draining: bool) -> Plan:
        """Hold, then run the oldest alone."""
        place = self._served % self.max_batch_size + 1
        self._served += 1
        return Plan(1, hold_s=(self.max_batch_size - place) * self.delay_s)


AnyBatcher = Annotated[NoBatching | FixedBatch | TimeoutBatch | PublishedBatch, Field(discriminator="kind")]
