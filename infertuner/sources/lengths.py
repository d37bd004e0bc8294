"""How long prompts and answers are: laws of token counts.

A law is its quantile function: one uniform number gives one token count. So two arms whose laws differ keep the order
of their requests (the longest stays the longest), and the k-th session's prefix does not depend on how many there are.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from infertuner.parts import MOST, Count, CountOrZero, Positive, part
from infertuner.sources.requests import Floats, Ints

_LEAST_SHARE = 1e-6
"""Truncation must leave this share of a law, or its tail would be made of rounding errors."""


@part
class ConstantTokens:
    """Always the same number of tokens."""

    kind: Literal["constant"]
    tokens: CountOrZero
    """The number of tokens."""

    def quantile(self, u: Floats) -> Ints:
        """Tokens for uniform numbers `u` in [0, 1)."""
        return np.full(u.shape, self.tokens, dtype=np.int64)


@part
class UniformTokens:
    """Every whole number between two bounds, both included, equally often."""

    kind: Literal["uniform"]
    min_tokens: CountOrZero
    """Smallest number of tokens."""
    max_tokens: CountOrZero
    """Largest number of tokens."""

    def __post_init__(self) -> None:
        if self.max_tokens < self.min_tokens:
            raise ValueError(f"max_tokens is {self.max_tokens}, must be at least min_tokens ({self.min_tokens})")

    def quantile(self, u: Floats) -> Ints:
        """Tokens for uniform numbers `u` in [0, 1)."""
        return self.min_tokens + (u * (self.max_tokens - self.min_tokens + 1)).astype(np.int64)


@part
class LogNormalTokens:
    """A lognormal law rounded to whole tokens: most are short, a few are very long, as in real conversations.

    Bounds truncate: the law is drawn by its inverse on what lies between them, so no probability piles up at a bound
    and the mean moves as the cut demands.
    """

    kind: Literal["lognormal"]
    mean_tokens: Annotated[Positive, Field(le=MOST)]
    """Mean of the law before truncation."""
    cv: Annotated[Positive, Field(le=1000)]
    """Coefficient of variation of the law before truncation: its standard deviation divided by its mean."""
    min_tokens: CountOrZero = 1
    """Smallest number of tokens; the law is truncated there, not clamped."""
    max_tokens: Count | None = None
    """Largest number of tokens; the law is truncated there, not clamped. Without it the tail is unbounded."""

    def __post_init__(self) -> None:
        low, high = self._window()
        if high - low < _LEAST_SHARE:
            raise ValueError(
                f"min_tokens ({self.min_tokens}) to max_tokens ({self.max_tokens or 'unbounded'}) must hold at least "
                f"{_LEAST_SHARE:g} of the law with mean_tokens {self.mean_tokens:g} and cv {self.cv:g}; "
                f"they hold {max(high - low, 0):.1g}"
            )

    def _log_tokens(self) -> NormalDist:
        """The normal law of the logarithm: variance ln(1 + cv^2), mean ln(mean) - variance / 2."""
        variance = math.log1p(self.cv**2)
        return NormalDist(math.log(self.mean_tokens) - variance / 2, math.sqrt(variance))

    def _window(self) -> tuple[float, float]:
        """Probabilities below the smallest and up to the largest number of tokens, with bounds rounded outward."""
        law = self._log_tokens()
        low = law.cdf(math.log(self.min_tokens - 0.5)) if self.min_tokens else 0.0
        high = law.cdf(math.log(self.max_tokens + 0.5)) if self.max_tokens else 1.0
        return low, high

    def quantile(self, u: Floats) -> Ints:
        """Tokens for uniform numbers `u` in [0, 1)."""
        low, high = self._window()
        inside = np.clip(low + u * (high - low), np.finfo(float).tiny, 1 - 2**-53)  # the inverse wants 0 < p < 1
        logs = np.fromiter(map(self._log_tokens().inv_cdf, inside.tolist()), float, u.size)
        tokens = np.floor(np.exp(logs) + 0.5).astype(np.int64)
        # Rounding in the inverse may step over a bound by one token, at a probability of about 1e-16.
        return np.asarray(np.clip(tokens, self.min_tokens, self.max_tokens))


@part
class ChosenTokens:
    """An empirical law: listed numbers of tokens, each with a weight."""

    kind: Literal["choice"]
    tokens: Annotated[list[CountOrZero], Field(min_length=1)]
    """The numbers of tokens to choose from."""
    weights: list[Positive] | None = None
    """How often each is chosen, in any unit; equally often without."""

    def __post_init__(self) -> None:
        if self.weights is not None and len(self.weights) != len(self.tokens):
            raise ValueError(
                f"weights has {len(self.weights)} entries, must have one for each of {len(self.tokens)} tokens"
            )

    def quantile(self, u: Floats) -> Ints:
        """Tokens for uniform numbers `u` in [0, 1)."""
        ascending = np.argsort(self.tokens)
        total = np.cumsum(np.array(self.weights or [1.0] * len(self.tokens))[ascending])
        chosen = np.searchsorted(total, u * total[-1], side="right")
        return np.asarray(np.array(self.tokens, dtype=np.int64)[ascending][chosen])


TokenLengths = Annotated[
    ConstantTokens | UniformTokens | LogNormalTokens | ChosenTokens,
    Field(discriminator="kind"),
]
