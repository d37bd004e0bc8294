"""How long requests took, and where the time to their first token went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infertuner.outcomes.window import Metrics, Window, distribution, finished, mean, view
from infertuner.records import Records
from infertuner.sources.requests import Floats

TTFT_PARTS = ("held", "waiting", "fetching", "prefilling", "others_prefill", "others_decode")
"""What a TTFT is made of, in the order in which a request meets it; each is `ttft_<part>_mean_s`."""


@dataclass(frozen=True)
class Durations:
    """How long each request took, shape (n,); NaN where it has not happened or does not exist."""

    wait_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats


def durations(records: Records) -> Durations:
    """Waiting time, time to first token, time per output token and end-to-end latency as vLLM's benchmark has them.

    TPOT is (e2e - ttft) / (output tokens - 1), the mean gap between tokens; a single token has no gap.
    """
    requests = records.requests
    arrived_at_s, finished_at_s = view(requests.arrived_at_s), view(requests.finished_at_s)
    output_tokens = records.asked.output_tokens[: len(arrived_at_s)]  # a replay has no rows
    first_token_at_s = view(requests.first_token_at_s)
    gaps = np.where(output_tokens > 1, output_tokens - 1.0, np.nan)
    return Durations(
        wait_s=view(requests.started_at_s) - arrived_at_s,
        ttft_s=first_token_at_s - arrived_at_s,
        tpot_s=(finished_at_s - first_token_at_s) / gaps,
        e2e_s=finished_at_s - arrived_at_s,
    )


def measured_latencies(records: Records, window: Window) -> Metrics:
    """Latencies of the finished requests that arrived within the window; those between tokens are the engine's."""
    measured = finished(records) & (view(records.requests.arrived_at_s) >= window.since_s)
    times = durations(records)
    tpot_s = times.tpot_s[measured]
    parts = ttft_parts(records)
    return {
        "wait_mean_s": mean(times.wait_s[measured]),
        **distribution("ttft", times.ttft_s[measured]),
        **{f"ttft_{name}_mean_s": mean(parts[name][measured]) if parts else None for name in TTFT_PARTS},
        **distribution("tpot", tpot_s[~np.isnan(tpot_s)]),
        **distribution("e2e", times.e2e_s[measured]),
    }


def ttft_parts(records: Records) -> dict[str, Floats] | None:
    """Seconds of each request's TTFT by what it spent them on, each of shape (n,); None for static batches.

    Iterations that prefilled a request are shared out in the engine: its own tokens, other requests' prefill tokens,
    sequences that decode, among them the time for which it was preempted. All other time is waiting in its GPU's queue.
    Of a request that was sent to another GPU, the time lost on the first counts as held.
    """
    if not len(records.segments.gpu_id):
        return None
    requests = records.requests
    arrived_at_s = view(requests.arrived_at_s)
    parts = {
        "held": view(requests.routed_at_s) - arrived_at_s,
        "fetching": view(requests.fetch_s),
        "prefilling": view(requests.prefill_s),
        "others_prefill": view(requests.others_prefill_s),
        "others_decode": view(requests.others_decode_s),
    }
    ttft_s = view(requests.first_token_at_s) - arrived_at_s
    # Rounding of sums of seconds leaves some 1e-16 of the clock behind where nobody waited.
    waiting_s = np.maximum(ttft_s - sum(parts.values(), start=np.zeros(len(ttft_s))), 0.0)
    return {name: waiting_s if name == "waiting" else parts[name] for name in TTFT_PARTS}
