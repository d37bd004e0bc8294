"""The floor under any Python simulator: a bare SimPy timeout, and a hand-written heap loop with callbacks."""

from __future__ import annotations

import heapq
import json
import sys
import time
from collections.abc import Iterator
from itertools import count

import simpy


def timeout_s(events: int, pending: int) -> float:
    """Seconds of one SimPy timeout with `pending` processes waiting and nothing else to do."""
    env = simpy.Environment()

    def tick(delay_s: float) -> Iterator[simpy.Event]:
        while True:
            yield env.timeout(delay_s)

    delays_s = [1 + number / pending for number in range(pending)]
    for delay_s in delays_s:
        env.process(tick(delay_s))
    started = time.process_time()
    env.run(until=events / sum(1 / delay_s for delay_s in delays_s))
    return (time.process_time() - started) / events


def heap_event_s(events: int, pending: int) -> float:
    """Seconds of one event of a loop over (time, number, callback) in a heap: what SimPy could at best cost."""
    numbers = count()
    heap: list[tuple[float, int, object]] = []

    def tick(now_s: float) -> None:
        heapq.heappush(heap, (now_s + 1.0, next(numbers), tick))

    for number in range(pending):
        heapq.heappush(heap, (number / pending, next(numbers), tick))
    started = time.process_time()
    for _ in range(events):
        now_s, _, callback = heapq.heappop(heap)
        callback(now_s)
    return (time.process_time() - started) / events


if __name__ == "__main__":
    many = int(sys.argv[1])
    print(
        json.dumps(
            {
                "SimPy timeout, 1 process": timeout_s(many, 1),
                "SimPy timeout, 1,000 processes": timeout_s(many, 1000),
                "hand-written heap loop, 1 pending": heap_event_s(many, 1),
                "hand-written heap loop, 1,000 pending": heap_event_s(many, 1000),
            }
        )
    )
