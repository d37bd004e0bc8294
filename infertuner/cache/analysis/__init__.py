"""What theory says of a cache: exact curves on a trace, estimates from samples or popularities, and bounds on anything.

Hits are of a cache that starts empty, holds every key it is asked for, and counts entries unless sizes are given.
"""

from infertuner.cache.analysis.aet import aet_hit_curve
from infertuner.cache.analysis.belady import belady_hits
from infertuner.cache.analysis.ceilings import compulsory_ceiling, good_turing_ceiling
from infertuner.cache.analysis.che import che_capacity, che_fifo_hit_ratio, che_hit_ratio
from infertuner.cache.analysis.exact import gelenbe_hit_ratio, king_hit_ratio
from infertuner.cache.analysis.optimum import a0_hit_ratio, static_optimum
from infertuner.cache.analysis.shards import shards_hit_curve
from infertuner.cache.analysis.stack_distance import lru_hit_curve, lru_hits_in_bytes, stack_distances
from infertuner.cache.analysis.ttl import ttl_hit_ratios
from infertuner.cache.analysis.uses import next_uses, previous_uses

__all__ = [
    "a0_hit_ratio",
    "aet_hit_curve",
    "belady_hits",
    "che_capacity",
    "che_fifo_hit_ratio",
    "che_hit_ratio",
    "compulsory_ceiling",
    "gelenbe_hit_ratio",
    "good_turing_ceiling",
    "king_hit_ratio",
    "lru_hit_curve",
    "lru_hits_in_bytes",
    "next_uses",
    "previous_uses",
    "shards_hit_curve",
    "stack_distances",
    "static_optimum",
    "ttl_hit_ratios",
]
