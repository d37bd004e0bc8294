"""The seconds of millions of prefills at once, from few answers of a latency model."""

from __future__ import annotations

import numpy as np

from infertuner.latency.model import LatencyModel
from infertuner.sources.requests import Floats, Ints

FEW = 20_000
"""Prefills up to which the model is asked for each."""
LENGTHS, FILLS = 256, 33
"""Nodes: lengths of what is computed, a constant ratio apart, and shares of the longest context that is cached."""
AT_ONCE = 1 << 20
"""Prefills worked on together: enough to be fast, few enough to need little memory."""


def prefills_s(model: LatencyModel, new_tokens: Ints, cached_tokens: Ints) -> Floats:
    """Seconds of one prefill each, alone on the GPU, shape (n,); `new_tokens` are 1 or more.

    Of many prefills the model answers a grid of nodes, none of which lies outside the lengths and contexts asked for,
    and the rest is interpolated between them in both directions. Laws are straight or nearly so between nodes: on
    every shipped profile the answer is within 0.1 % of the model's own but at a knee of its curve.
    """
    if len(new_tokens) <= FEW:
        pairs = zip(new_tokens.tolist(), cached_tokens.tolist(), strict=True)
        each = (model.prefill_s(batch_size=1, new_tokens=new, cached_tokens=cached) for new, cached in pairs)
        return np.fromiter(each, dtype=np.float64, count=len(new_tokens))
    longest = int((new_tokens + cached_tokens).max())
    lengths = np.unique(np.rint(np.geomspace(new_tokens.min(), new_tokens.max(), LENGTHS)).astype(np.int64))
    fills = np.linspace(0, 1, FILLS)
    nodes = np.array([
        [model.prefill_s(batch_size=1, new_tokens=new, cached_tokens=round(fill * (longest - new))) for fill in fills]
        for new in lengths.tolist()
    ])  # fmt: skip
    seconds = np.empty(len(new_tokens))
    for start in range(0, len(new_tokens), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        seconds[part] = _between(lengths, nodes, longest, new_tokens[part], cached_tokens[part])
    return seconds


def _between(lengths: Ints, nodes: Floats, longest: int, new: Ints, cached: Ints) -> Floats:
    i = np.clip(np.searchsorted(lengths, new, side="right") - 1, 0, max(len(lengths) - 2, 0))
    j = np.minimum(i + 1, len(lengths) - 1)
    across = (new - lengths[i]) / np.maximum(lengths[j] - lengths[i], 1)
    near, far = (_along(nodes, longest, lengths, row, cached) for row in (i, j))
    return np.asarray((1 - across) * near + across * far)


def _along(nodes: Floats, longest: int, lengths: Ints, row: Ints, cached: Ints) -> Floats:
    """Seconds at the length of a row of nodes, whose last node is as long a context as there is."""
    place = cached / np.maximum(longest - lengths[row], 1) * (FILLS - 1)
    k = np.clip(place.astype(np.int64), 0, FILLS - 2)
    share = place - k
    return np.asarray((1 - share) * nodes[row, k] + share * nodes[row, k + 1])
