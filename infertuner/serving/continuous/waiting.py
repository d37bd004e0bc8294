"""The queue in front of an engine: first come first served, or by priority. The head is `queue[0]`."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from infertuner.serving.continuous.sequence import Sequence


class FirstCome(deque[Sequence]):
    """In order of arrival; what was preempted goes to the front."""

    add = deque.append
    put_back = deque.appendleft
    take = deque.popleft

    def rejoin(self, sequence: Sequence) -> None:
        """Put one that was set aside behind those that were preempted and those that came before it."""
        for place, other in enumerate(self):
            if other.number < 0 and other.row > sequence.row:
                self.insert(place, sequence)
                return
        self.append(sequence)

    @staticmethod
    def victim(running: list[Sequence]) -> Sequence:
        """Who loses its KV cache when blocks run out: the last admitted."""
        return running[-1]


class ByPriority(list[Sequence]):
    """Lowest priority number first, then order of arrival; a heap."""

    def add(self, sequence: Sequence) -> None:
        """Put it in its place."""
        heappush(self, sequence)

    put_back = rejoin = add

    def take(self) -> Sequence:
        """Remove the head."""
        return heappop(self)

    @staticmethod
    def victim(running: list[Sequence]) -> Sequence:
        """Who loses its KV cache when blocks run out: the least urgent, of equals the last to arrive."""
        return max(running)
