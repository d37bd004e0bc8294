"""Named, independent random streams: the only place that makes a generator.

One seed gives every purpose (arrivals, lengths, sessions ...) a stream of its own, so two arms of a comparison see the
same requests even when one of them draws more numbers for something else (common random numbers).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """The random streams of one replication of one scenario."""

    seed: int
    replication: int = 0

    def get(self, purpose: str) -> np.random.Generator:
        """A generator that depends on the seed, the replication and the purpose, and on nothing else."""
        key = (self.replication, zlib.crc32(purpose.encode()))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
