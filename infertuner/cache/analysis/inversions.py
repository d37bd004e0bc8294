"""Counting inversions in numpy: how many greater values precede each value of a permutation."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from infertuner.sources.requests import Ints

BITS = 8
"""Digits are bytes, and so are the counts within a block of BASE places: the fastest unit numpy has."""
BASE = 1 << BITS
CHUNK = BASE * BASE
"""Places worked on at once, so that the working set stays in the processor's cache."""

Digits: TypeAlias = NDArray[np.uint8]


def greater_before(permutation: Ints, weights: Ints | None = None) -> Ints:
    """How many greater values precede each place of a permutation of 0 .. n-1, or their weight; shape (n,).

    `weights` has the weight of the value at each place; sums must stay below 2**53.

    Two values differ first at one digit of base 256. So for each digit, highest first, the values are grouped by the
    digits above it, in the order of their places, and each asks how many in its group precede it with a greater digit.
    O(n log n) with three rounds for 2**24 values, and a few arrays of n beside the result.
    """
    n = len(permutation)
    # Values beyond n at the end precede nothing; they only fill the last block.
    values = np.concatenate([permutation, np.arange(n, -(-n // BASE) * BASE)]).astype(np.uint32)
    padded = None if weights is None else np.concatenate([weights, np.zeros(len(values) - n, dtype=np.int64)])
    counts = np.zeros(len(values), dtype=np.int64)
    for shift in reversed(range(0, max(n - 1, 1).bit_length(), BITS)):
        groups = (values >> np.uint32(shift + BITS)).astype(np.min_scalar_type((len(values) - 1) >> (shift + BITS)))
        order = np.argsort(groups, kind="stable")
        seen = np.zeros(BASE, dtype=np.int64)
        for start in range(0, len(values), CHUNK):
            places = order[start : start + CHUNK]
            digits = (values[places] >> np.uint32(shift)).astype(np.uint8).reshape(-1, BASE)
            heavy = None if padded is None else padded[places].reshape(-1, BASE)
            counts[places] += _in_rows(digits, heavy).ravel()
            if shift:  # else each row is a group
                if start % (BASE << shift) == 0:
                    seen[:] = 0
                counts[places] += _in_rows_before(digits, heavy, seen).ravel()
    return counts[:n]


def _in_rows(digits: Digits, weights: Ints | None) -> Ints | Digits:
    """For each place of each row, how many places before it in the row have a greater digit, or their weight."""
    columns = np.ascontiguousarray(digits.T)
    greater = np.empty(columns.shape, dtype=np.bool_)
    heavy = None if weights is None else np.ascontiguousarray(weights.T)
    counts = np.zeros_like(columns if heavy is None else heavy)
    for lag in range(1, BASE):
        np.greater(columns[:-lag], columns[lag:], out=greater[lag:])
        counts[lag:] += greater[lag:].view(np.uint8) if heavy is None else greater[lag:] * heavy[:-lag]
    return counts.T


def _in_rows_before(digits: Digits, weights: Ints | None, seen: Ints) -> Ints:
    """For each place, how many in the rows before have a greater digit, or their weight.

    `seen` has the sum of each digit before the first row and is brought on to after the last.
    """
    cells = digits + np.arange(len(digits))[:, None] * BASE
    sums = np.bincount(cells.ravel(), None if weights is None else weights.ravel(), minlength=cells.size)
    upto = seen + np.cumsum(sums.astype(np.int64).reshape(-1, BASE), axis=0)
    before = np.concatenate([seen[None], upto[:-1]])
    seen[:] = upto[-1]
    greater = before.sum(axis=1, keepdims=True) - np.cumsum(before, axis=1)
    here: Ints = np.take_along_axis(greater, digits.astype(np.intp), axis=1)
    return here
