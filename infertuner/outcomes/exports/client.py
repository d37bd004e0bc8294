"""A simulated run as the client of a benchmark would have seen it: what every export is written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infertuner.outcomes.exports.tokens import token_gaps_s
from infertuner.outcomes.latencies import durations
from infertuner.outcomes.metrics import endings
from infertuner.outcomes.window import Mask, Metrics, finished, view
from infertuner.records import Records, Status
from infertuner.sources.requests import Floats, Ints, Key

REASONS = {
    Status.UNFINISHED: "not answered when the simulation ended",
    Status.REJECTED_LENGTH: "rejected: prompt and output are longer than the engine takes",
    Status.REJECTED_KV: "rejected: prompt and output need more KV blocks than a GPU has",
    Status.FAILED: "lost with its GPU",
}


@dataclass(frozen=True)
class About:
    """What an export says of the run beside its numbers."""

    scenario: str
    description: str
    latency: str
    """Where the seconds come from."""
    parameters: dict[str, str]
    """How this arm differs from the others, as text."""
    seed: int
    warmup_s: float
    metrics: Metrics
    """Of the same run, for what a client cannot see."""


@dataclass(frozen=True)
class Client:
    """Requests that were sent, in the order of sending, shape (n,); NaN where a request was not answered."""

    sent_at_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    gaps_s: list[Floats]
    """Between the tokens of each request; empty where it was not answered."""
    prompt_tokens: Ints
    output_tokens: Ints
    session_id: Sequence[Key]
    measured: Mask
    """False for those sent during the warm-up, which benchmarks leave out of their numbers."""
    answered: Mask
    reason: list[str]
    """Why a request was not answered; empty for one that was."""
    ended_at_s: float

    @property
    def counted(self) -> Mask:
        """Requests that are in the latencies."""
        return self.measured & self.answered

    @property
    def duration_s(self) -> float:
        """From the first measured request sent to the last answered, as benchmarks have it; to the end without any."""
        if not self.measured.any():
            return 0.0
        since_s = float(self.sent_at_s[self.measured].min())
        last_s = (self.sent_at_s + self.e2e_s)[self.counted]
        return (float(last_s.max()) if last_s.size else self.ended_at_s) - since_s

    def pooled_gaps_s(self) -> Floats:
        """Every gap of every request in the latencies."""
        return np.concatenate([np.empty(0), *(self.gaps_s[row] for row in np.flatnonzero(self.counted))])

    def tokens_of(self, side: Ints) -> int:
        """The sum of a column of tokens over the requests in the latencies."""
        return int(side[self.counted].sum())


def client_of(records: Records, warmup_s: float) -> Client:
    """The requests of a run that were sent, with all that a client could have timed of them."""
    asked, requests = records.asked, records.requests
    arrived_at_s = view(requests.arrived_at_s)
    rows = np.flatnonzero(~np.isnan(arrived_at_s))
    sent = rows.tolist()
    times, gaps_s, ended = durations(records), token_gaps_s(records), endings(records)
    return Client(
        sent_at_s=arrived_at_s[rows],
        ttft_s=np.where(finished(records), times.ttft_s, np.nan)[rows],
        tpot_s=times.tpot_s[rows],
        e2e_s=times.e2e_s[rows],
        gaps_s=[gaps_s[row] for row in sent],
        prompt_tokens=asked.prompt_tokens[rows],
        output_tokens=asked.output_tokens[rows],
        session_id=[asked.session_id[row] for row in sent],
        measured=arrived_at_s[rows] >= warmup_s,
        answered=finished(records)[rows],
        reason=[REASONS.get(Status(ended[row]), "") for row in sent],
        ended_at_s=records.ended_at_s,
    )
