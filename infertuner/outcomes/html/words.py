"""Names of metrics in words, for headings and sentences; tables keep the names themselves."""

from __future__ import annotations

DURATIONS = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "gap between tokens",
    "e2e": "end-to-end latency",
    "wait": "waiting time",
    "unqueued_ttft": "time to first token without queues",
}
OTHERS = {
    "throughput_per_s": "throughput",
    "output_tokens_per_s": "throughput in output tokens",
    "utilization_ratio": "utilization of GPUs",
}
STATISTICS = {
    "mean": "mean {}",
    "p50": "median of the {}",
    "p95": "95th percentile of the {}",
    "p99": "99th percentile of the {}",
}


def in_words(metric: str) -> str:
    """What a metric is, in words that begin with a small letter.

    >>> in_words("ttft_p95_s"), in_words("throughput_per_s"), in_words("hit_ratio")
    ('95th percentile of the time to first token', 'throughput', 'hit ratio')
    """
    if metric in OTHERS:
        return OTHERS[metric]
    what, _, statistic = metric.removesuffix("_s").rpartition("_")
    if what in DURATIONS and statistic in STATISTICS:
        return STATISTICS[statistic].format(DURATIONS[what])
    return metric.removesuffix("_s").replace("_", " ")


def headed(metric: str) -> str:
    """The same with a capital."""
    words = in_words(metric)
    return words[:1].upper() + words[1:]
