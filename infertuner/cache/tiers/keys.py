"""By which keys a request's KV is looked for and kept: one for its session, or one for each block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from infertuner.cache.tiers.config import Tiered
from infertuner.sources.requests import Ints, Key, PrefixBlocks, Requests

MOST_BLOCKS = 2**24
"""Blocks of one session at most: the place of a block within a packed key."""


class Keyed(NamedTuple):
    """Keys in the order of the tokens they stand for, and how many tokens each stands for."""

    keys: Sequence[Key]
    tokens: Sequence[int]


class RequestKeys(Protocol):
    """The keys of every request of a workload, by its row."""

    def asked(self, row: int) -> Keyed:
        """What may be there already; never the whole prompt, since its last token must be computed."""
        ...

    def served(self, row: int) -> Keyed:
        """What there is once the request has been served: prompt and answer."""
        ...


def keys_of(requests: Requests, config: Tiered) -> RequestKeys:
    """The keys that `config` asks for; blocks are the workload's own where it brings some."""
    if config.keys == "session":
        return SessionKeys(requests)
    if requests.blocks is not None:
        return ListedBlocks(requests, requests.blocks)
    return SessionBlocks(requests, config.block_tokens)


class SessionKeys:
    """One key a request: its session, looked for even where none of its prompt is known to be reusable."""

    def __init__(self, requests: Requests) -> None:
        ids: object = requests.session_id
        self._session: Sequence[Key] = ids.tolist() if isinstance(ids, np.ndarray) else requests.session_id
        self.asked_tokens, self.served_tokens = asked_tokens(requests), served_tokens(requests)

    def sessions(self, start: int, stop: int) -> list[Key]:
        """The keys of these rows."""
        return list(self._session[start:stop])

    def asked(self, row: int) -> Keyed:
        """The session, with the prefix that it can reuse."""
        return Keyed((self._session[row],), (int(self.asked_tokens[row]),))

    def served(self, row: int) -> Keyed:
        """The session, with all that has been said."""
        return Keyed((self._session[row],), (int(self.served_tokens[row]),))


class ListedBlocks:
    """The workload's own blocks; of answers, and of what it does not list of prompts, nobody can look for anything."""

    def __init__(self, requests: Requests, blocks: PrefixBlocks) -> None:
        self._ids, self._offsets = blocks.ids, blocks.offsets
        self._size, self._prompt_tokens = blocks.block_tokens, requests.prompt_tokens

    def asked(self, row: int) -> Keyed:
        """Its blocks; where they are the whole prompt, the last gives a token less."""
        return self._blocks(row, int(self._prompt_tokens[row]) - 1)

    def served(self, row: int) -> Keyed:
        """Its blocks, the last no longer than the prompt."""
        return self._blocks(row, int(self._prompt_tokens[row]))

    def _blocks(self, row: int, tokens: int) -> Keyed:
        start, size = self._offsets[row], self._size
        keys = self._ids[start : min(self._offsets[row + 1], start + -(-tokens // size))].tolist()
        each = [size] * len(keys)
        if keys and len(keys) * size > tokens:
            each[-1] = tokens - (len(keys) - 1) * size
        return Keyed(keys, each)


class SessionBlocks:
    """Full blocks of a session, found by session and place, both in one whole number: 2**24 x session + place."""

    def __init__(self, requests: Requests, block_tokens: int) -> None:
        numbers: dict[Key, int] = {}
        self._first = [MOST_BLOCKS * numbers.setdefault(key, len(numbers)) for key in requests.session_id]
        self._size, self._asked, self._served = block_tokens, asked_tokens(requests), served_tokens(requests)

    def asked(self, row: int) -> Keyed:
        """The full blocks of the prefix that its session may have left."""
        return self._blocks(row, int(self._asked[row]))

    def served(self, row: int) -> Keyed:
        """The full blocks of prompt and answer."""
        return self._blocks(row, int(self._served[row]))

    def _blocks(self, row: int, tokens: int) -> Keyed:
        first, count = self._first[row], tokens // self._size
        return Keyed(range(first, first + count), [self._size] * count)


def asked_tokens(requests: Requests) -> Ints:
    """Of each request, the tokens it can reuse of its session: at most all but the last of its prompt."""
    return np.minimum(requests.prefix_tokens, requests.prompt_tokens - 1)


def served_tokens(requests: Requests) -> Ints:
    """Of each request, prompt and answer but for its last token, which nothing attended from."""
    return requests.prompt_tokens + np.maximum(requests.output_tokens - 1, 0)
