"""Service level objectives: bounds on metrics by their names, and on every request by itself."""

from __future__ import annotations

from dataclasses import dataclass, fields

from infertuner.parts import PerSecond, PositiveSeconds, Ratio, part


@part
class Goodput:
    """Bounds on each request, and the share of requests that must keep all of them."""

    ttft_s: PositiveSeconds | None = None
    """Time to first token at most."""
    tpot_s: PositiveSeconds | None = None
    """Time per output token after the first at most; an answer of one token keeps it."""
    e2e_s: PositiveSeconds | None = None
    """End-to-end latency at most."""
    ratio: Ratio = 0.99
    """Least share of requests that keep every bound."""

    def __post_init__(self) -> None:
        if (self.ttft_s, self.tpot_s, self.e2e_s) == (None, None, None):
            raise ValueError("bounds nothing; give at least one of ttft_s, tpot_s, e2e_s")


@dataclass(frozen=True)
class Bound:
    """One objective: a metric, its limit, and on which side of it is good."""

    metric: str
    limit: float
    at_most: bool
    """Whether the metric must not be above the limit; otherwise it must not be below."""

    def headroom(self, value: float) -> float:
        """How far inside the bound a value lies, as a share of the limit; below 0 outside."""
        inside = self.limit - value if self.at_most else value - self.limit
        return inside / self.limit if self.limit else inside

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if self.at_most else '>='} {self.limit:g}"


@part
class Slo:
    """What must hold, each key a metric of docs/metrics.md: latencies are at most so long, rates at least so high."""

    throughput_per_s: PerSecond | None = None
    """Least answered requests per second."""
    output_tokens_per_s: PerSecond | None = None
    """Least output tokens per second."""
    ttft_mean_s: PositiveSeconds | None = None
    """Mean time to first token at most."""
    ttft_p50_s: PositiveSeconds | None = None
    """Median time to first token at most."""
    ttft_p95_s: PositiveSeconds | None = None
    """95th percentile of the time to first token at most."""
    ttft_p99_s: PositiveSeconds | None = None
    """99th percentile of the time to first token at most."""
    tpot_mean_s: PositiveSeconds | None = None
    """Mean time per output token at most."""
    tpot_p50_s: PositiveSeconds | None = None
    """Median time per output token at most."""
    tpot_p95_s: PositiveSeconds | None = None
    """95th percentile of the time per output token at most."""
    tpot_p99_s: PositiveSeconds | None = None
    """99th percentile of the time per output token at most."""
    itl_mean_s: PositiveSeconds | None = None
    """Mean gap between tokens at most; continuous batching alone has it, as the two below."""
    itl_p95_s: PositiveSeconds | None = None
    """95th percentile of the gap between tokens at most."""
    itl_p99_s: PositiveSeconds | None = None
    """99th percentile of the gap between tokens at most."""
    e2e_mean_s: PositiveSeconds | None = None
    """Mean end-to-end latency at most."""
    e2e_p50_s: PositiveSeconds | None = None
    """Median end-to-end latency at most."""
    e2e_p95_s: PositiveSeconds | None = None
    """95th percentile of the end-to-end latency at most."""
    e2e_p99_s: PositiveSeconds | None = None
    """99th percentile of the end-to-end latency at most."""
    goodput: Goodput | None = None
    """Bounds on each request; `goodput_ratio` is the share that keeps them, `goodput_per_s` how many a second."""

    def __post_init__(self) -> None:
        if not self.bounds():
            raise ValueError("bounds nothing; give at least one, such as ttft_p99_s: 1s")

    def bounds(self) -> list[Bound]:
        """Every objective that is set, in the order of this list."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "goodput"}
        found = [
            Bound(name, value, at_most=not name.endswith("_per_s"))
            for name, value in values.items()
            if value is not None
        ]
        if self.goodput is not None:
            found.append(Bound("goodput_ratio", self.goodput.ratio, at_most=False))
        return found
