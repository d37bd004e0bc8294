"""LRU's hit ratio at every size from reuse times alone, in linear time."""

from __future__ import annotations

import numpy as np

from infertuner.cache.analysis.uses import Keys, previous_uses
from infertuner.cache.sizing.hit_curve import hit_curve
from infertuner.sources.requests import Floats


def aet_hit_curve(keys: Keys) -> Floats:
    """Estimated hit ratio of an LRU cache of every size c = 0 .. distinct keys; shape (distinct + 1,).

    Average eviction time (Hu et al., USENIX ATC 2016): with P(t) the share of requests whose key was not asked for in
    the t requests before, an entry leaves a cache of sum_{t < T} P(t) entries after T requests on average, so P(T) of
    the requests miss in it. First uses were never asked for before, whatever t.
    """
    previous, requests = previous_uses(keys), len(keys)
    is_first = previous < 0
    times = np.where(is_first, requests + 1, np.arange(requests) - previous)
    curve = hit_curve(times, requests, longest=requests)
    return np.interp(np.arange(np.count_nonzero(is_first) + 1), curve.capacity, curve.hit_ratio)
