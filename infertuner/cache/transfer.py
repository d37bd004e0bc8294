"""Is it worth loading? Seconds of a transfer against seconds of computing the same KV again.

What a prefill takes is known elsewhere; here it is a function from tokens to seconds, elementwise over an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from infertuner.sources.requests import Floats, Ints

SecondsOf: TypeAlias = Callable[[Ints], Floats]
"""Seconds for so many tokens, for each element of an array."""


@dataclass(frozen=True)
class Channel:
    """The way from a tier to the GPU as one transfer finds it: its link and the share of it that is free."""

    bytes_per_s: float = math.inf
    """Of the whole link; infinite for the GPU's own memory."""
    latency_s: float = 0.0
    """Time before the first byte."""
    share: float = 1.0
    """Part of the link this transfer has: 1 / n where n transfers share it equally."""

    def transfer_s(self, num_bytes: float) -> float:
        """Seconds until the last of `num_bytes` has arrived; none for nothing."""
        return self.latency_s + num_bytes / (self.bytes_per_s * self.share) if num_bytes else 0.0


def break_even_bytes_per_s(tokens: int, bytes_per_token: float, prefill_s: SecondsOf, latency_s: float = 0.0) -> float:
    """The bandwidth at which loading a prefix takes as long as prefilling it; infinite if the latency alone does."""
    left_s = float(prefill_s(np.array([tokens]))[0]) - latency_s
    return tokens * bytes_per_token / left_s if left_s > 0 else math.inf


def smallest_prefix_worth_loading(
    bytes_per_token: float, channel: Channel, prefill_s: SecondsOf, max_tokens: int
) -> int | None:
    """The fewest tokens, 1 to `max_tokens`, that load faster than they are prefilled; None if none do."""
    tokens = np.arange(1, max_tokens + 1)
    load_s = channel.latency_s + tokens * (bytes_per_token / (channel.bytes_per_s * channel.share))
    worth = np.flatnonzero(load_s < prefill_s(tokens))
    return int(tokens[worth[0]]) if len(worth) else None


class Overlap(NamedTuple):
    """A prefix of which one end is computed while the other is loaded."""

    seconds: float
    """Until both have met."""
    loaded_ratio: float
    """Share of the prefix that was loaded."""


def overlapped(load_s: float, prefill_s: float) -> Overlap:
    """The best split where loading and computing go on at once, given what either takes for the whole prefix, above 0.

    Both end together, after 1 / (1 / load_s + 1 / prefill_s) (Jin et al., Cake, arXiv 2410.03065); that takes each
    to cost the same for every token.
    """
    return Overlap(load_s * prefill_s / (load_s + prefill_s), prefill_s / (load_s + prefill_s))


class Load(NamedTuple):
    """How much of what a cache holds of a prompt is taken from it."""

    num_blocks: int
    """Leading blocks to load."""
    fetch_s: float
    """Until they are on the GPU."""
    prefill_s: float
    """For the rest of the prompt, after that."""


def leading_to_load(
    tiers: Sequence[int],
    sizes_bytes: Sequence[float],
    tokens: Sequence[int],
    channels: Sequence[Channel],
    rest_s: SecondsOf,
) -> Load:
    """How many leading blocks to load so that loading and then prefilling the rest takes the least time.

    Block i is in tier `tiers[i]`, has `sizes_bytes[i]` and spares `tokens[i]`; `channels` has the one from each tier.
    Tiers send at once, each over its own channel, so fetching takes as long as the slowest of them; blocks of one tier
    go one after the other with one latency. `rest_s` is the prefill of the prompt when its first so many tokens are
    cached. Among equals the most blocks are loaded, which spares the GPU.
    """
    where = np.asarray(tiers, dtype=np.int64)
    sizes = np.asarray(sizes_bytes, dtype=np.float64)
    fetch_s = np.zeros(len(where) + 1)
    for tier in np.unique(where).tolist():
        channel = channels[tier]
        loaded = np.cumsum(np.where(where == tier, sizes, 0.0))
        one_s = channel.latency_s * (loaded > 0) + loaded / (channel.bytes_per_s * channel.share)
        fetch_s[1:] = np.maximum(fetch_s[1:], one_s)
    cached = np.concatenate([[0], np.cumsum(np.asarray(tokens, dtype=np.int64))])
    prefill_s = rest_s(cached)
    total_s = fetch_s + prefill_s
    count = len(where) - int(np.argmin(total_s[::-1]))
    return Load(count, float(fetch_s[count]), float(prefill_s[count]))


def mooncake_bytes_per_s(
    flops_per_s: float,
    prefix_tokens: int,
    hidden_size: int,
    heads_per_kv_head: float,
    *,
    element_bytes: float = 2,
    attention: float = 4,
    linear: float = 22,
) -> float:
    """Bandwidth above which loading a prefix beats computing it, by counting operations alone.

    Inequality 2 of Qin et al., Mooncake, USENIX FAST 2025: B / G > 2 d s / (gqa (a p d + b d^2)), with `attention`
    the operations a per pair of tokens and hidden unit and `linear` those, b, per token and pair of hidden units.
    """
    operations = attention * prefix_tokens * hidden_size + linear * hidden_size**2
    return flops_per_s * 2 * hidden_size * element_bytes / (heads_per_kv_head * operations)
