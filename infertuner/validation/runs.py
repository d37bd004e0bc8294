"""One run of a workload, measured or simulated, in the few columns that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from infertuner.records import Records
from infertuner.sources.requests import Floats, Ints, OpenLoop, Requests

LATENCIES = ("ttft", "tpot", "e2e")
"""Metrics with one value a request."""
NEIGHBOURS = 50
"""Iterations that are drawn together when gaps are resampled: neighbours have the same sequences in them."""


@dataclass(frozen=True)
class Run:
    """Requests in the order in which they were sent, shape (n,); NaN where a request was not answered."""

    arrived_at_s: Floats
    first_token_at_s: Floats
    finished_at_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    gaps_s: Sequence[Floats] = ()
    """Gaps between tokens, gathered by what shares its luck: a request's, or a batch's; empty when unknown."""
    has_arrivals: bool = True
    """Whether it is known when requests were sent; if not, all seem to be sent at 0."""

    def latencies_s(self, metric: str) -> Floats:
        """TTFT, TPOT or end-to-end latency of each request, shape (n,).

        TPOT is (e2e - ttft) / (output tokens - 1) as vLLM's benchmark has it; a single token has none.
        """
        if metric == "ttft":
            return np.asarray(self.first_token_at_s - self.arrived_at_s)
        if metric == "e2e":
            return np.asarray(self.finished_at_s - self.arrived_at_s)
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1.0, np.nan)
        return np.asarray((self.finished_at_s - self.first_token_at_s) / gaps)

    @property
    def finished(self) -> int:
        """Requests answered."""
        return int(np.sum(~np.isnan(self.finished_at_s)))

    @property
    def makespan_s(self) -> float:
        """From the first request sent to the last answered."""
        return float(np.nanmax(self.finished_at_s) - np.nanmin(self.arrived_at_s))


@dataclass(frozen=True)
class Cell:
    """One run that was measured, and what the simulation says of the same requests."""

    arm: str
    """How its arm differs from the others; empty when there is one."""
    replication: int
    measured: Run
    simulated: Run
    corrected: Run | None = None
    """The simulation at the speed the machine had during this run, where that was measured."""
    again: Run | None = None
    """The same run measured once more: how far reality is from itself."""
    drift: Mapping[str, float] = field(default_factory=dict)
    """How much slower than its profile or law the machine was in this run, by what was watched."""


def run_of(records: Records, gaps_s: Sequence[Floats] = ()) -> Run:
    """The columns of a simulated run."""
    requests = records.requests
    return Run(
        arrived_at_s=_floats(requests.arrived_at_s),
        first_token_at_s=_floats(requests.first_token_at_s),
        finished_at_s=_floats(requests.finished_at_s),
        prompt_tokens=records.asked.prompt_tokens,
        output_tokens=records.asked.output_tokens,
        gaps_s=gaps_s,
    )


def requests_of(run: Run) -> Requests:
    """The measured arrivals and lengths as a workload; every prompt is its own, so nothing is shared."""
    return Requests(
        pacing=OpenLoop(run.arrived_at_s),
        session_id=list(range(len(run.arrived_at_s))),
        prompt_tokens=run.prompt_tokens,
        prefix_tokens=run.prompt_tokens * 0,
        output_tokens=run.output_tokens,
    )


def engine_gaps(records: Records) -> list[Floats]:
    """Every gap of every sequence, in groups of neighbouring iterations; empty for static batches.

    An iteration in which D sequences decode is D gaps as long as it. The gap across a preemption is not among them.
    """
    rows = records.segments
    counts = np.asarray(rows.iterations, dtype=np.int64)
    row = np.repeat(np.arange(counts.size), counts)
    place = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)
    seconds = np.asarray(rows.first_s)[row] + place * np.asarray(rows.rise_s)[row]
    if records.noise_permille:
        number = np.asarray(rows.iteration, dtype=np.int64)[row] + place
        seconds *= np.asarray(records.noise_permille)[number % len(records.noise_permille)] / 1000
    decodes = np.asarray(rows.decodes, dtype=np.int64)[row]
    starts = range(0, row.size, NEIGHBOURS)
    groups = (np.repeat(seconds[i : i + NEIGHBOURS], decodes[i : i + NEIGHBOURS]) for i in starts)
    return [gaps for gaps in groups if gaps.size]


def _floats(column: Sequence[float]) -> Floats:
    return np.array(column, dtype=np.float64)
