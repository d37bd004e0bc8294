"""Hits of the best of all policies, which knows the future."""

from __future__ import annotations

from heapq import heappop, heappush

from infertuner.cache.analysis.uses import Keys, next_uses


def belady_hits(keys: Keys, entries: int, *, may_refuse: bool = False) -> int:
    """Hits of MIN, which evicts the key whose next use is farthest (Belady, IBM Systems Journal 5(2), 1966).

    No policy that lets in every key it is asked for hits more, for entries of one size; with `may_refuse`, where MIN
    leaves out a key that is used later than all it holds, no policy at all does.

    An entry is known by the instant of its next use. Instants already past stay in the heap, harmless: they come after
    all future ones. Entries never used again need no name, only a count, and are the first to leave.
    """
    if entries == 0:
        return 0
    held = bytearray(len(keys))
    latest_first: list[int] = []
    free, hits = entries, 0
    for t, following in enumerate(next_uses(keys).tolist()):
        if held[t]:
            hits += 1
        elif free:
            free -= 1
        elif may_refuse and following > -latest_first[0]:
            continue
        else:
            held[-heappop(latest_first)] = 0
        if following < len(keys):
            held[following] = 1
            heappush(latest_first, -following)
        else:
            free += 1
    return hits
