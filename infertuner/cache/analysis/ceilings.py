"""What no cache can exceed on a trace, however large and clever."""

from __future__ import annotations

import numpy as np

from infertuner.cache.analysis.uses import Keys, numbered
from infertuner.sources.requests import Ints


def compulsory_ceiling(keys: Keys) -> float:
    """1 - distinct / n: the hit ratio of an unbounded cache, in which only first uses miss; NaN for no requests."""
    return 1 - len(_counts(keys)) / len(keys) if len(keys) else np.nan


def good_turing_ceiling(keys: Keys) -> float:
    """1 - N1 / n, with N1 the keys seen once: the share of further requests likely to be for keys already seen.

    The Good-Turing estimate (Good, Biometrika 40, 1953) of what a cache that knows all of `keys` can hit in what
    follows, if that is more of the same; NaN for no requests.
    """
    return 1 - np.count_nonzero(_counts(keys) == 1) / len(keys) if len(keys) else np.nan


def _counts(keys: Keys) -> Ints:
    """How often each key is asked for, in no particular order."""
    return np.unique(numbered(keys), return_counts=True)[1]
