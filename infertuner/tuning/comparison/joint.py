"""GPUs and batch size chosen together: by trying everything, and by halving."""

from __future__ import annotations

from collections.abc import Sequence

from infertuner.tuning.comparison.targets import BATCH_SIZES, MOST_GPUS, Choice, Measure, Target, keeps


def exhaustive(target: Target, measure: Measure, batch_sizes: Sequence[int] = BATCH_SIZES) -> Choice | None:
    """The fewest GPUs over every configuration, then the smallest batch size: the oracle."""
    kept = [
        Choice(gpus, batch_size)
        for gpus in range(1, MOST_GPUS + 1)
        for batch_size in batch_sizes
        if keeps(target, measure(gpus, batch_size))
    ]
    return min(kept, default=None)


def joint(target: Target, measure: Measure, batch_sizes: Sequence[int] = BATCH_SIZES) -> Choice | None:
    """The same answer from a few runs: for each batch size, more GPUs never hurt, so halve the range that is left."""
    found: list[Choice] = []
    most = MOST_GPUS
    for batch_size in sorted(batch_sizes, reverse=True):
        if keeps(target, measure(most, batch_size)):
            most = _fewest(target, measure, batch_size, most)
            found.append(Choice(most, batch_size))
    return min(found, default=None)


def _fewest(target: Target, measure: Measure, batch_size: int, most: int) -> int:
    """The smallest number of GPUs that keeps the target, given that `most` do."""
    fails = 0
    while most - fails > 1:
        middle = (most + fails) // 2
        if keeps(target, measure(middle, batch_size)):
            most = middle
        else:
            fails = middle
    return most
