"""Requests that got what they were promised, as vLLM's benchmark counts its `request_goodput`."""

from __future__ import annotations

import numpy as np

from infertuner.outcomes.latencies import durations
from infertuner.outcomes.slo import Goodput
from infertuner.outcomes.window import Metrics, Window, finished, view
from infertuner.records import Records


def goodput(records: Records, promised: Goodput, warmup_s: float) -> Metrics:
    """Share and rate of the requests that kept every bound.

    goodput_ratio: of the requests that arrived after the warm-up. One without an answer kept nothing, whether it was
    rejected, failed, or still waiting when the horizon came.
    goodput_per_s: those that were answered within the window, over its length.
    An answer of one token has no time per output token and keeps any bound on it.
    """
    window = Window(warmup_s, records.ended_at_s)
    times = durations(records)
    tpot_s = np.where(records.asked.output_tokens > 1, times.tpot_s, 0.0)
    good = finished(records)
    for limit_s, taken_s in ((promised.ttft_s, times.ttft_s), (promised.tpot_s, tpot_s), (promised.e2e_s, times.e2e_s)):
        if limit_s is not None:
            good = good & (taken_s <= limit_s)
    # A request that never arrived, of a run cut short by its horizon, was promised nothing.
    counted = view(records.requests.arrived_at_s) >= window.since_s
    ended = view(records.requests.finished_at_s) >= window.since_s
    return {
        "goodput_ratio": float(good[counted].mean()) if counted.any() else None,
        "goodput_per_s": window.rate_per_s(int((good & ended).sum())),
    }
