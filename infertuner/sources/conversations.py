"""Conversations: every turn sends again all that was said before, so its context grows until the talk ends."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from infertuner.parts import Count, Positive, part
from infertuner.sources.requests import Ints


@part
class Conversations:
    """A user's requests are turns of one conversation after the other.

    Whether a turn is the last has nothing to do with the turns before, so their number is geometric. The next request
    of the user begins a conversation of which nothing is known.
    """

    mean_turns: Annotated[Positive, Field(ge=1)]
    """Mean number of turns of a conversation, before `max_context_tokens` ends any."""
    max_context_tokens: Count | None = None
    """A turn whose prompt and answer would exceed this begins a new conversation; without it contexts grow freely."""

    def sample(self, user: Ints, said_tokens: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The session and the prefix of each request, given who sends it and the tokens of its turn, answer included.

        A session bears the number of the request that began it. The prefix is all that was said in it before.
        """
        last = rng.random(len(user)) * self.mean_turns < 1
        by_user = np.argsort(user, kind="stable")
        sender, talk = user[by_user], said_tokens[by_user]
        begins = np.append(True, (sender[1:] != sender[:-1]) | last[by_user][:-1])
        said_before = np.cumsum(talk) - talk
        if self.max_context_tokens is not None:
            begins = _split(begins, said_before, talk, self.max_context_tokens)
        opening = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        session, prefix_tokens = np.empty_like(user), np.empty_like(user)
        session[by_user] = by_user[opening]
        prefix_tokens[by_user] = said_before - said_before[opening]
        return session, prefix_tokens


def _split(begins: NDArray[np.bool_], said_before: Ints, talk: Ints, most: int) -> NDArray[np.bool_]:
    """`begins`, with a new beginning wherever a conversation would exceed `most` tokens, again and again.

    From every turn as if it were a beginning one can tell where its conversation would have to end; which turns are
    beginnings follows by doubling: those reached in one step, then in three, in seven, and so on.
    """
    n = len(begins)
    turns = np.arange(n)
    first_beyond = np.searchsorted(said_before + talk, said_before + most, side="right")
    next_given = np.minimum.accumulate(np.where(begins, turns, n)[::-1])[::-1]
    next_given = np.append(next_given[1:], n)
    following = np.append(np.where(first_beyond < next_given, first_beyond, n), n)
    reached = np.append(begins, False)
    while True:
        starts = np.flatnonzero(reached[:-1])
        found = following[starts]
        if reached[found[found < n]].all():
            return reached[:-1]
        reached[found[found < n]] = True
        following = following[following]
