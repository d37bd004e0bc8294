"""Step coefficients from measured requests alone: an engine's iterations, counted by the tokens it sent.

While a request is answered it gets one token from every iteration, so between two of its tokens the number of
iterations is known, and the tokens that all requests got meanwhile say how much those iterations did:

    seconds = fixed_s x iterations + prefill_token_s x prompt tokens + decode_s x tokens decoded + kv_entry_s x entries

is linear in its coefficients. With gaps between tokens the stretches are short and differ; with only first and last
tokens they are whole answers, which under a steady load look alike: the sum is then well known and its parts are not.
Preempted answers pass iterations without a token; such stretches count little, because the fit is robust.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infertuner.errors import ValidationError
from infertuner.latency.fitting.forms import solve
from infertuner.sources.requests import Floats, Ints
from infertuner.validation.runs import Run

STRETCH = 16
"""Tokens between the ends of a stretch where gaps are known: long beside the jitter of a client's clock."""
ROUNDS = 20
"""Reweighting rounds of the robust fit; it settles in far fewer."""
RESAMPLES = 50
"""Resamples of the requests, for intervals."""
FEWEST = 20
"""Stretches below which four coefficients cannot be told apart."""


@dataclass(frozen=True)
class StepFit:
    """Seconds of an iteration that prefills P tokens beside D decodes which read K entries: a + b P + c D + d K."""

    fixed_s: float
    prefill_token_s: float
    """Of every prompt token; those that a prefix cache knew count as if they had been computed."""
    decode_s: float
    kv_entry_s: float
    stretches: int
    held_out: int
    holdout_mean_ratio: float
    """Mean absolute relative error of the stretches of the later half of the run, never fitted."""
    holdout_p95_ratio: float
    holdout_worst_ratio: float
    draws: list[list[float]]
    """The four coefficients again, from requests resampled with replacement."""
    gaps_known: bool
    """Whether gaps between tokens were in the file; without them the coefficients are hardly told apart."""

    def step_s(self, prefill_tokens: int, decodes: int, kv_entries: int) -> float:
        """Seconds of one iteration."""
        return (
            self.fixed_s
            + self.prefill_token_s * prefill_tokens
            + self.decode_s * decodes
            + self.kv_entry_s * kv_entries
        )


def fit_steps(run: Run) -> StepFit:
    """Coefficients from the earlier half of a run, tried on the later half.

    The cut is an instant: requests that are answered side by side share their iterations, so halves of the requests
    would share them as well. Stretches across the instant are in neither half.
    """
    columns, spans, request = _stretches(run)
    seconds = spans[:, 1] - spans[:, 0]
    middle_s = np.median(spans)
    earlier, later = spans[:, 1] <= middle_s, spans[:, 0] >= middle_s
    if min(earlier.sum(), later.sum()) < FEWEST:
        raise ValidationError(
            f"the file has {len(seconds)} stretches of decoding; {2 * FEWEST} are needed, so measure more requests"
        )
    found = _robust(columns[earlier], seconds[earlier])
    rng = np.random.default_rng(0)
    mine = request[earlier]
    draws = []
    for _ in range(RESAMPLES):
        counts = np.bincount(rng.choice(np.unique(mine), len(np.unique(mine))), minlength=int(mine.max()) + 1)
        draws.append(_robust(columns[earlier], seconds[earlier], counts[mine].astype(np.float64)).tolist())
    errors = np.abs(columns[later] @ found / seconds[later] - 1)
    return StepFit(
        fixed_s=float(found[0]),
        prefill_token_s=float(found[1]),
        decode_s=float(found[2]),
        kv_entry_s=float(found[3]),
        stretches=int(earlier.sum()),
        held_out=int(later.sum()),
        holdout_mean_ratio=float(errors.mean()),
        holdout_p95_ratio=float(np.percentile(errors, 95)),
        holdout_worst_ratio=float(errors.max()),
        draws=draws,
        gaps_known=bool(run.gaps_s),
    )


def _stretches(run: Run) -> tuple[Floats, Floats, Ints]:
    """Iterations, prompt tokens, tokens decoded and entries read in each stretch; its begin and end; whose it is."""
    at_s: list[Floats] = []
    entries: list[Ints] = []
    ends: list[Floats] = []
    owner: list[Ints] = []
    for i in np.flatnonzero(~np.isnan(run.finished_at_s) & (run.output_tokens > 1)):
        tokens = _token_times(run, int(i))
        at_s.append(tokens[1:])
        entries.append(run.prompt_tokens[i] + np.arange(1, len(tokens)))
        cuts = np.arange(0, len(tokens), STRETCH) if run.gaps_s else np.array([0, len(tokens) - 1])
        ends.append(np.column_stack([tokens[cuts[:-1]], tokens[cuts[1:]], np.diff(cuts)]))
        owner.append(np.full(len(cuts) - 1, i))
    spans = np.concatenate(ends) if ends else np.empty((0, 3))
    lasted = spans[:, 1] > spans[:, 0]
    spans, request = spans[lasted], np.concatenate(owner)[lasted]
    decoded_at_s = np.concatenate(at_s)
    answered = ~np.isnan(run.first_token_at_s)
    columns = [
        spans[:, 2],
        _within(run.first_token_at_s[answered], run.prompt_tokens[answered], spans),
        _within(decoded_at_s, np.ones(len(decoded_at_s)), spans),
        _within(decoded_at_s, np.concatenate(entries), spans),
    ]
    return np.column_stack(columns), spans[:, :2], request


def _token_times(run: Run, i: int) -> Floats:
    """When each token of a request came; evenly spaced where only the first and the last are known."""
    first, last = run.first_token_at_s[i], run.finished_at_s[i]
    if run.gaps_s:
        return np.asarray(first + np.concatenate([[0.0], np.cumsum(run.gaps_s[i])]))
    return np.linspace(first, last, int(run.output_tokens[i]))


def _within(at_s: Floats, amounts: Floats | Ints, spans: Floats) -> Floats:
    """Sum of the amounts after the beginning of each span and up to its end."""
    order = np.argsort(at_s)
    running = np.concatenate([[0.0], np.cumsum(amounts[order], dtype=np.float64)])
    return np.asarray(
        running[np.searchsorted(at_s[order], spans[:, 1], side="right")]
        - running[np.searchsorted(at_s[order], spans[:, 0], side="right")]
    )


def _robust(columns: Floats, seconds: Floats, counts: Floats | None = None) -> Floats:
    """Non-negative least squares on relative error, stretches far off counting less the farther they are (Cauchy).

    counts: how often each stretch was drawn; once each without.
    """
    drawn = np.ones(len(seconds)) if counts is None else np.sqrt(counts)
    found = solve(columns, seconds, drawn)
    for _ in range(ROUNDS):
        off = columns @ found / seconds - 1
        scale = 1.4826 * float(np.median(np.abs(off))) + 1e-9
        found = solve(columns, seconds, drawn / np.sqrt(1 + (off / scale) ** 2))
    return found
