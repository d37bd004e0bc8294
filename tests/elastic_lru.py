"""One LRU tier with a controller on a clock, and the loads on which controllers are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infertuner.cache.eviction.lru import Lru
from infertuner.parts import fresh


@dataclass
class Run:
    """What a controlled tier did: per request whether it hit and how large the tier was, per tick what was decided."""

    hits: np.ndarray
    capacity: np.ndarray
    at_s: list
    decisions: list

    @property
    def decided(self):
        """The capacity after each tick."""
        return [decision.capacity for decision in self.decisions]

    @property
    def feasible(self):
        """The verdict at each tick."""
        return [decision.feasible for decision in self.decisions]

    def hit_ratios(self, every):
        """The hit ratio of each stretch of so many requests."""
        whole = len(self.hits) // every * every
        return self.hits[:whole].reshape(-1, every).mean(axis=1)


def run(elastic, capacity, keys, at_s, sizes=None):
    """Replay keys at instants through an LRU tier that a fresh `elastic` resizes at every multiple of `every_s`."""
    elastic = fresh(elastic)
    observe, tier = elastic.observe, Lru(capacity)
    hits, capacities = np.zeros(len(keys), dtype=bool), np.empty(len(keys), dtype=np.int64)
    tick_s, ticks_s, decisions = elastic.every_s, [], []
    for i, (key, now_s) in enumerate(zip(keys, at_s, strict=True)):
        while now_s >= tick_s:
            decisions.append(elastic.decide(tick_s, tier.capacity))
            ticks_s.append(tick_s)
            tier.resize(decisions[-1].capacity)
            tick_s += elastic.every_s
        size = 1 if sizes is None else sizes[i]
        hits[i] = hit = tier.access(key, size)
        observe(key, size, hit, now_s)
        capacities[i] = tier.capacity
    return Run(hits, capacities, ticks_s, decisions)


def zipf_keys(n, users, exponent=1.0, seed=1):
    """n independent requests for Zipf-popular users."""
    weights = np.arange(1, users + 1) ** -float(exponent)
    return np.searchsorted(np.cumsum(weights / weights.sum()), np.random.default_rng(seed).random(n)).tolist()


def churned(keys, users, share, every, seed=2):
    """The same requests, but every so many of them a share of the users leave for good and others take their place."""
    rng, who, fresh_from, out = np.random.default_rng(seed), np.arange(users), users, []
    for start in range(0, len(keys), every):
        if start:
            left = rng.choice(users, int(share * users), replace=False)
            who[left] = np.arange(fresh_from, fresh_from + len(left))
            fresh_from += len(left)
        out.append(who[np.asarray(keys[start : start + every])])
    return np.concatenate(out).tolist()


def diurnal_instants(n, mean_per_s, swing, day_s, seed=3):
    """Poisson arrivals at mean_per_s (1 + swing sin(2 pi t / day_s)), by inverting the expected number at t."""
    t = np.linspace(0, 2 * n / mean_per_s, 200_001)
    expected = mean_per_s * (t + swing * day_s / (2 * np.pi) * (1 - np.cos(2 * np.pi * t / day_s)))
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(size=n))
    return np.interp(arrivals, expected, t).tolist()
