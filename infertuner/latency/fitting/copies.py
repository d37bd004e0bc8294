"""Seconds of a copy over its size: a start-up time and a rate, which change where the bytes leave a cache.

R. W. Hockney's alpha-beta model, once for small and once for large sizes, or three times where that predicts better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from infertuner.latency.machine import CopyLaw, CopySegment
from infertuner.sources.requests import Floats

LEAST_SIZES = 3
"""Sizes a segment needs: a line through two can be left without none."""


def copy_law(seconds: Mapping[int, float]) -> CopyLaw:
    """The law of these sizes (bytes -> seconds), at least six, cut where left-out sizes are predicted best."""
    sizes = sorted(seconds)
    times = np.array([seconds[size] for size in sizes])
    cuts = [cut for pieces in (2, 3) for cut in _cuts(len(sizes), pieces)]
    best = min(cuts, key=lambda cut: _left_out_error(sizes, times, cut))
    segments = _segments(sizes, times, best)
    return CopyLaw(
        segments=segments,
        largest_bytes=sizes[-1],
        mean_error_ratio=_left_out_error(sizes, times, best),
    )


def _cuts(sizes: int, pieces: int) -> list[tuple[int, ...]]:
    """Every way to cut so many sizes into large enough pieces, as the index where each later piece begins."""
    cuts = combinations(range(LEAST_SIZES, sizes - LEAST_SIZES + 1), pieces - 1)
    return [cut for cut in cuts if all(b - a >= LEAST_SIZES for a, b in pairwise(cut))]


def _segments(sizes: Sequence[int], times: Floats, cut: tuple[int, ...]) -> list[CopySegment]:
    bounds = [0, *cut, len(sizes)]
    return [
        CopySegment(from_bytes=sizes[begin], alpha_s=alpha_s, beta_s_per_byte=beta_s_per_byte)
        for begin, end in pairwise(bounds)
        for alpha_s, beta_s_per_byte in [_line(np.array(sizes[begin:end], dtype=float), times[begin:end])]
    ]


def _line(sizes: Floats, times: Floats) -> tuple[float, float]:
    """Non-negative alpha and beta with the least squared relative error."""
    scaled = np.column_stack([1 / times, sizes / times])
    alpha_s, beta_s_per_byte = np.linalg.lstsq(scaled, np.ones(len(times)), rcond=None)[0]
    if alpha_s < 0 or beta_s_per_byte < 0:  # then one of the two alone: the better one
        alone = [column @ np.ones(len(times)) / (column @ column) for column in scaled.T]
        errors = [np.square(column * one - 1).sum() for column, one in zip(scaled.T, alone, strict=True)]
        return (float(alone[0]), 0.0) if errors[0] < errors[1] else (0.0, float(alone[1]))
    return float(alpha_s), float(beta_s_per_byte)


def _left_out_error(sizes: Sequence[int], times: Floats, cut: tuple[int, ...]) -> float:
    """Mean absolute relative error of each size, its segment fitted without it."""
    errors = []
    for begin, end in zip([0, *cut], [*cut, len(sizes)], strict=True):
        for i in range(begin, end):
            others = [j for j in range(begin, end) if j != i]
            alpha_s, beta_s_per_byte = _line(np.array([sizes[j] for j in others], dtype=float), times[others])
            errors.append(abs((alpha_s + beta_s_per_byte * sizes[i]) / times[i] - 1))
    return float(np.mean(errors))
