"""Simulated time in whole femtoseconds, and the order of what happens at one instant.

Whole numbers add without rounding, so a jump over a thousand iterations ends exactly where walking them one by one
does, and two things that fall on one instant are seen to do so. At one instant clients come first, then other
processes, then GPUs in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any, Final

import numpy as np
from simpy import Environment, Timeout

from infertuner.sources.requests import Floats, Ints

FS_PER_S: Final = 10**15
FS_PER_PS: Final = 1000
FS_PER_NS: Final = 10**6
CLIENTS = 0
"""Rank of what comes from outside; SimPy's own processes have 1."""
FIRST_GPU = 2
"""Rank of GPU 0 among things at one instant; GPU i has i more."""


def femtoseconds(seconds: float) -> int:
    """The nearest whole number of femtoseconds."""
    return round(seconds * FS_PER_S)


def client_ns(seconds: Floats) -> Ints:
    """Instants of clients as whole nanoseconds, so that those written in decimals meet where they should."""
    return np.rint(seconds * 1e9).astype(np.int64)


class Call:
    """What SimPy needs of an event that nobody waits for: callbacks, and that it did not fail; at half the price."""

    __slots__ = ("callbacks",)
    _ok = True

    def __init__(self, action: Callable[[Any], None]) -> None:
        self.callbacks: list[Callable[[Any], None]] | None = [action]

    def cancel(self) -> None:
        """Let nothing happen; the clock passes over it."""
        if self.callbacks is not None:
            self.callbacks = []


class Clock(Environment):
    """A SimPy environment whose unit is the femtosecond."""

    def __init__(self) -> None:
        super().__init__(initial_time=0)
        self._passed_fs, self._passed_gpu = -1, -1
        self._reads = 0

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return self._now / 1e15

    @property
    def now_fs(self) -> int:
        """Femtoseconds since the beginning; nobody schedules by anything but whole numbers."""
        return self._now  # type: ignore[return-value]

    @property
    def events(self) -> int:
        """Events scheduled so far, read from the number SimPy gives the next one."""
        self._reads += 1
        return next(self._eid) + 1 - self._reads

    def wait_s(self, seconds: float) -> Timeout:
        """An event `seconds` from now."""
        return self.timeout(femtoseconds(seconds))

    def wait_until_s(self, at_s: float) -> Timeout:
        """An event at the first instant that `now_s` does not call earlier than `at_s`; now, if that is past."""
        at_fs = femtoseconds(at_s)
        while at_fs / 1e15 < at_s:
            at_fs += 1
        return self.timeout(max(0, at_fs - self.now_fs))

    def call(self, at_fs: int, rank: int, action: Callable[[Any], None]) -> Call:
        """Run `action` at an instant, in the order of `rank` among what happens then."""
        call = Call(action)
        heappush(self._queue, (at_fs, rank, next(self._eid), call))  # type: ignore[misc]
        return call

    def pass_gpu(self, gpu_id: int, now_fs: int) -> None:
        """Note that the boundaries of GPUs up to this one are past at this instant."""
        if self._passed_fs != now_fs or gpu_id > self._passed_gpu:
            self._passed_fs, self._passed_gpu = now_fs, gpu_id

    def has_passed(self, gpu_id: int) -> bool:
        """Whether an iteration of this GPU that ends at this instant counts as ended already."""
        return self._passed_fs == self._now and self._passed_gpu >= gpu_id
