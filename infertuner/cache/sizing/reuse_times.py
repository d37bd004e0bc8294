"""What a stream of requests tells about every size of an LRU tier at once, over a sliding window."""

from __future__ import annotations

from array import array

import numpy as np

from infertuner.cache.sizing.controller import Proposal
from infertuner.cache.sizing.hit_curve import HitCurve, hit_curve
from infertuner.sources.requests import Ints, Key


class ReuseTimes:
    """Reuse times and sizes of the last `window_requests` requests, O(1) for each and a few arrays at a tick.

    Time is counted in requests, so that nothing depends on how fast they come. Reuse times longer than the window are
    not seen: an entry that lives longer than that in the tier gets hits this estimate does not know of. The window
    should therefore be a few times the number of requests for which the tier keeps an entry. Kept are 16 bytes for a
    request and about 150 for a key, of up to two windows.
    """

    def __init__(self, window_requests: int) -> None:
        self._window = window_requests
        self._requests = 0
        self._last: dict[Key, int] = {}
        self._forget_at = 2 * window_requests
        self._times = array("q")
        self._sizes = array("q")

    def observe(self, key: Key, size: int) -> None:
        """Note a request. A key not seen gets the number of requests so far, a reuse time that cannot occur."""
        self._requests = now = self._requests + 1
        self._times.append(now - self._last.get(key, 0))
        self._sizes.append(size)
        self._last[key] = now
        if now == self._forget_at:
            self._forget()

    @property
    def settled(self) -> bool:
        """Whether the window is full of requests that could look back on a whole window."""
        return self._requests >= 2 * self._window

    def curve(self) -> HitCurve | None:
        """The LRU hit curve over the window; None before the second request.

        It reaches as far as half of the requests could look back: beyond that the first requests say too little.
        """
        longest = min(self._window, self._requests // 2)
        if not longest:
            return None
        times, sizes = self._recent(self._times), self._recent(self._sizes)
        before = np.arange(self._requests - len(times), self._requests)
        alike = sizes.min() == sizes.max() == 1
        return hit_curve(times, np.minimum(before, self._window), longest, None if alike else sizes)

    def propose(self, hit_ratio: float, capacity: int) -> Proposal:
        """The least capacity for `hit_ratio`; the present one while too little was seen to tell that it is too much."""
        curve = self.curve()
        if curve is not None and hit_ratio <= curve.ceiling:
            return Proposal(curve.capacity_for(hit_ratio), feasible=True)
        if curve is None or not self.settled:
            return Proposal(capacity, feasible=True)
        return Proposal(curve.worth_having, feasible=False)

    def _recent(self, column: array[int]) -> Ints:
        return np.array(column[-self._window :], dtype=np.int64)

    def _forget(self) -> None:
        """Drop what lies further back than a window, once in a window."""
        del self._times[: -self._window], self._sizes[: -self._window]
        oldest = self._requests - self._window
        self._last = {key: at for key, at in self._last.items() if at > oldest}
        self._forget_at = self._requests + self._window
