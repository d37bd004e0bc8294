"""What an interval of differences says, in words: the part of a comparison that people remember."""

from __future__ import annotations

from infertuner.outcomes.statistics import Interval


def verdict(difference: Interval, reference: str) -> str | None:
    """Whether there are more, fewer or as many as `reference` has, or the interval does not tell; None of nothing.

    >>> verdict(Interval(2.0, 1.0, 3.0, 10), "LRU"), verdict(Interval(0.1, -1.0, 1.2, 10), "LRU")
    ('more than LRU', 'not told apart from LRU')
    """
    if difference.mean is None:
        return None
    if difference.ci_low is None or difference.ci_high is None:
        return "one run, no interval"
    if difference.ci_low > 0:
        return f"more than {reference}"
    if difference.ci_high < 0:
        return f"fewer than {reference}"
    same = difference.ci_low == difference.ci_high == 0
    return f"the same as {reference}" if same else f"not told apart from {reference}"
