"""What every trace becomes, whatever its format: one row a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from infertuner.sources.requests import Floats, Ints, PrefixBlocks

Keys: TypeAlias = NDArray[np.int64] | NDArray[np.object_]


@dataclass(frozen=True)
class Rows:
    """The requests of a trace, one row each. All columns have shape (n,)."""

    at_s: Floats
    session_id: Keys
    prompt_tokens: Ints
    prefix_tokens: Ints
    output_tokens: Ints
    blocks: PrefixBlocks | None = None
    priority: Ints | None = None

    def take(self, rows: Ints) -> Rows:
        """The chosen rows, in the chosen order."""
        return Rows(
            self.at_s[rows],
            self.session_id[rows],
            self.prompt_tokens[rows],
            self.prefix_tokens[rows],
            self.output_tokens[rows],
            take_blocks(self.blocks, rows) if self.blocks else None,
            None if self.priority is None else self.priority[rows],
        )


def take_blocks(blocks: PrefixBlocks, rows: Ints, most: Ints | None = None) -> PrefixBlocks:
    """The blocks of the chosen rows, in the chosen order; of each row at most its first `most`."""
    lengths = np.diff(blocks.offsets)[rows] if most is None else most
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    which = np.arange(offsets[-1]) + np.repeat(blocks.offsets[:-1][rows] - offsets[:-1], lengths)
    return PrefixBlocks(blocks.block_tokens, blocks.ids[which], offsets)
