"""The link over which what a slower tier holds reaches a GPU: whoever reads at once shares its bandwidth equally.

The work of a read is the time it would take alone, in whole femtoseconds. While n are under way each gets an equal
share of the time that passes, and the few femtoseconds that n does not divide are shared out with the next ones; so
the time a link is busy is the sum of what it did, to the last femtosecond (processor sharing: Kleinrock, Queueing
Systems II, 4.4). Before its first byte a read waits for the latency, which costs the link nothing. Links are full
duplex: what is written goes the other way and delays no read.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from infertuner.cache.transfer import Channel
from infertuner.serving.clock import FS_PER_S, Call, Clock, femtoseconds

PROCESSES = 1
"""Rank of what links do among things at one instant: after clients, before GPUs."""


class Read:
    """Bytes on their way over a link."""

    __slots__ = ("call", "done", "ends_at", "left", "order", "work_fs")

    def __init__(self, work_fs: int, order: int, done: Callable[[], None]) -> None:
        self.work_fs, self.order, self.done = work_fs, order, done
        self.ends_at = 0
        """How much each read of the link has got when this one is complete; once its first byte has come."""
        self.call: Call | None = None
        """Its first byte, while it waits for that."""
        self.left = False
        """Whether it is complete or was cancelled."""

    def __lt__(self, other: Read) -> bool:
        return (self.ends_at, self.order) < (other.ends_at, other.order)


class Link:
    """One direction of a link: `bytes_per_s` shared by all reads under way, after `latency_s` of each one's own."""

    def __init__(self, clock: Clock, bytes_per_s: float, latency_s: float) -> None:
        self._clock, self._bytes_per_s = clock, bytes_per_s
        self._latency_fs = femtoseconds(latency_s)
        self._sharing: list[Read] = []
        """A heap of the reads that share the bandwidth, the first to be complete first."""
        self._reads = self._begun = 0
        """Reads under way, those that wait for their first byte too; and all there ever were."""
        self._got_fs = self._over_fs = 0
        """Work done so far for each of those that were there all the time, and time that is still to be shared out."""
        self._since_fs = self._busy_fs = 0
        self._next: Call | None = None

    @property
    def reads(self) -> int:
        """How many reads are under way."""
        return self._reads

    @property
    def busy_s(self) -> float:
        """Seconds up to now in which at least one read was on the link."""
        self._share_out()
        return self._busy_fs / 1e15

    def channel(self) -> Channel:
        """The link as a read begun now would find it, if nobody came or went."""
        return Channel(self._bytes_per_s, self._latency_fs / FS_PER_S, 1 / (self._reads + 1))

    def expected_s(self, num_bytes: int) -> float:
        """Seconds that such a read would take."""
        return self.channel().transfer_s(num_bytes)

    def read(self, num_bytes: int, done: Callable[[], None]) -> Read:
        """Begin to read; `done` is called at the instant of the last byte, never at once."""
        self._begun += 1
        self._reads += 1
        read = Read(max(1, round(num_bytes * FS_PER_S / self._bytes_per_s)), self._begun, done)
        if self._latency_fs:
            read.call = self._clock.call(
                self._clock.now_fs + self._latency_fs, PROCESSES, lambda _: self._first_byte(read)
            )
        else:
            self._first_byte(read)
        return read

    def cancel(self, read: Read) -> None:
        """Let a read go that nobody waits for any more; one that is complete stays as it is."""
        if read.left:
            return
        read.left = True
        self._reads -= 1
        if read.call is not None:
            read.call.cancel()
            return
        self._share_out()
        self._sharing.remove(read)
        heapify(self._sharing)
        if not self._sharing:
            self._over_fs = 0
        self._wait()

    def _first_byte(self, read: Read) -> None:
        read.call = None
        self._share_out()
        read.ends_at = self._got_fs + read.work_fs
        heappush(self._sharing, read)
        self._wait()

    def _share_out(self) -> None:
        """The time since the last look, among those who were there."""
        now_fs, sharing = self._clock.now_fs, len(self._sharing)
        if sharing:
            passed_fs = now_fs - self._since_fs
            self._busy_fs += passed_fs
            each_fs, self._over_fs = divmod(passed_fs + self._over_fs, sharing)
            self._got_fs += each_fs
        self._since_fs = now_fs

    def _wait(self) -> None:
        """For the next read to be complete."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._sharing:
            left_fs = (self._sharing[0].ends_at - self._got_fs) * len(self._sharing) - self._over_fs
            self._next = self._clock.call(self._clock.now_fs + max(0, left_fs), PROCESSES, self._complete)

    def _complete(self, _: Call) -> None:
        self._next = None
        self._share_out()
        complete = []
        while self._sharing and self._sharing[0].ends_at <= self._got_fs:
            read = heappop(self._sharing)
            read.left = True
            complete.append(read)
        self._reads -= len(complete)
        self._wait()
        for read in complete:
            read.done()
