"""The most that any cache could have found, and how near a run came: printed for every scenario with a cache."""

from __future__ import annotations

import numpy as np

from infertuner.cache.analysis import compulsory_ceiling
from infertuner.cache.config import TwoLevel
from infertuner.cache.tiers.config import Tiered
from infertuner.experiments.oracles import oracles_of
from infertuner.outcomes.window import Metrics, view
from infertuner.records import CacheLevel, Records
from infertuner.scenario.model import Scenario

NAMES = ("found_ratio", "ceiling_ratio", "attained_ratio")


def own_memory(scenario: Scenario) -> bool:
    """Whether GPUs keep blocks themselves, so that tiers are asked only for what is not there."""
    engines = {kind.batcher.kind for kind in scenario.cluster.kinds()} & {"continuous", "prefill_first"}
    return scenario.driver == "serving" and bool(engines)


def attainable(records: Records, scenario: Scenario) -> Metrics:
    """Share of lookups that found something, the share that a cache without limits finds, and one over the other.

    The first request for a key must miss, whatever the cache. Lookups are sessions, or blocks of tiers that keep
    blocks, or the tokens of prompts where GPUs find some in memory of their own; warm-up included. Nothing without a
    cache, and no ceiling where nothing was looked for.
    """
    cache = scenario.cache
    if isinstance(cache, TwoLevel):
        level = view(records.requests.cache_level)
        looked_up = level != CacheLevel.NONE
        lookups, hits = int(looked_up.sum()), int((looked_up & (level != CacheLevel.MISS)).sum())
        sessions = [records.asked.session_id[row] for row in looked_up.nonzero()[0].tolist()]
        ceiling = round(compulsory_ceiling(sessions) * lookups) if lookups else 0
    elif isinstance(cache, Tiered):
        oracles = oracles_of(records.asked, cache)
        if own_memory(scenario):
            lookups, ceiling = int(records.asked.prompt_tokens.sum()), oracles.attainable_tokens
            hits = int(view(records.requests.cached_tokens).sum(dtype=np.int64))
        else:
            lookups, ceiling = oracles.asked_keys, oracles.attainable_keys
            hits = sum(use.hits for use in records.tiers)
    else:
        return {}
    if not lookups:
        return dict.fromkeys(NAMES)
    return dict(zip(NAMES, (hits / lookups, ceiling / lookups, hits / ceiling if ceiling else None), strict=True))
