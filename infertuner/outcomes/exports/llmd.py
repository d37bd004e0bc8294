"""A run as an llm-d benchmark report, version 0.2.1, in seconds; JSON, which YAML readers read as well.

The report calls the time to the first token, the mean gap of a request (time_per_output_token), every gap
(inter_token_latency) and end-to-end time over output tokens (normalized_time_per_output_token) by four names.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

import numpy as np

from infertuner.outcomes.exports.client import About, Client
from infertuner.outcomes.window import Metrics
from infertuner.sources.requests import Floats, Ints
from infertuner.version import __version__

VERSION = "0.2.1"
QUANTILES = {
    "p0p1": 0.1, "p1": 1, "p5": 5, "p10": 10, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99,
    "p99p9": 99.9,
}  # fmt: skip
PERCENT = 100.0
SHORTEST_S = 1e-9
"""A run of no length has no rates; this keeps them finite."""

Result = dict[str, Any]


def llmd_report(client: Client, about: About, now: datetime) -> Result:
    """The content of the report."""
    counted, measured = client.counted, client.measured
    duration_s = max(client.duration_s, SHORTEST_S)
    several = counted & (client.output_tokens > 1)
    inputs, outputs = client.tokens_of(client.prompt_tokens), client.tokens_of(client.output_tokens)
    rates = {"input_token_rate": inputs, "output_token_rate": outputs, "total_token_rate": inputs + outputs}
    throughput = {name: {"units": "tokens/s", "mean": tokens / duration_s} for name, tokens in rates.items()}
    throughput["request_rate"] = {"units": "queries/s", "mean": float(counted.sum() / duration_s)}
    ntpot_s = client.e2e_s / client.output_tokens
    aggregate = {
        "requests": {
            "total": int(measured.sum()),
            "failures": int((measured & ~client.answered).sum()),
            "input_length": _statistics("count", client.prompt_tokens[counted]),
            "output_length": _statistics("count", client.output_tokens[counted]),
        },
        "latency": {
            "time_to_first_token": _statistics("s", client.ttft_s[counted]),
            "time_per_output_token": _statistics("s/token", client.tpot_s[several]),
            "inter_token_latency": _statistics("s/token", client.pooled_gaps_s()),
            "normalized_time_per_output_token": _statistics("s/token", ntpot_s[counted]),
            "request_latency": _statistics("s", client.e2e_s[counted]),
        },
        "throughput": throughput,
    }
    return {
        "version": VERSION,
        "run": {
            "uid": _digest(about.scenario, about.seed, about.parameters, now.isoformat()),
            "eid": _digest(about.scenario),
            "time": {"end": now.isoformat(timespec="seconds"), "duration": f"PT{duration_s}S"},
            "description": about.description or about.scenario,
            "keywords": ["simulated", "infertuner"],
        },
        "scenario": {"stack": [_component(about)], "load": _load(client, about)},
        "results": {
            "request_performance": {"aggregate": aggregate},
            "observability": {
                "components": [{"component_label": about.scenario, "aggregate": _resources(about.metrics)}]
            },
        },
    }


def _component(about: About) -> Result:
    """The simulated cluster, as a component of no formal kind: it has no accelerator that could be named."""
    parameters = {"latency": about.latency, **about.parameters}
    return {
        "metadata": {"label": about.scenario, "cfg_id": _digest(about.scenario, parameters)},
        "standardized": {"kind": "generic", "tool": "infertuner", "tool_version": __version__},
        "native": {"config": parameters},
    }


def _load(client: Client, about: About) -> Result:
    """The workload as it was sent; its lengths follow no law that the report has a name for."""
    lengths = client.prompt_tokens[client.measured]
    return {
        "metadata": {"cfg_id": _digest(about.scenario, about.seed)},
        "standardized": {
            "tool": "infertuner",
            "tool_version": __version__,
            "source": "unknown",
            "input_seq_len": {"distribution": "other", "value": float(lengths.mean()) if lengths.size else 0.0},
        },
        "native": {"config": {"seed": about.seed, "warmup_s": about.warmup_s}},
    }


def _resources(metrics: Metrics) -> Result:
    """What the engines' own metrics would have said; None where batches are static."""
    kv_mean, kv_max, cached = (
        None if (ratio := metrics.get(name)) is None else PERCENT * ratio
        for name in ("kv_usage_mean_ratio", "kv_usage_max_ratio", "cached_tokens_ratio")
    )
    preemptions = metrics.get("preemptions")
    return {
        "kv_cache_usage": None if kv_mean is None else {"units": "percent", "mean": kv_mean, "max": kv_max},
        "cache_hit_rate": None if cached is None else {"units": "percent", "mean": cached},
        "preemptions": None if preemptions is None else {"units": "count", "mean": preemptions},
    }


def _statistics(units: str, values: Floats | Ints) -> Result | None:
    if not values.size:
        return None
    found = np.percentile(values, list(QUANTILES.values()))
    return {
        "units": units,
        "mean": float(values.mean()),
        "stddev": float(values.std()),
        "min": values.min().item(),
        **{name: float(value) for name, value in zip(QUANTILES, found, strict=True)},
        "max": values.max().item(),
    }


def _digest(*what: Any) -> str:
    """A name for something that is the same wherever the same is written."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
