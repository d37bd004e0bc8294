"""A run as AIPerf would have written it: `profile_export_aiperf.json` (schema 1.4) and `profile_export.jsonl`.

Its clock is the simulated one, counted from the beginning of 1970. Its `inter_token_latency` is what others call TPOT;
its `inter_chunk_latency` has every gap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from infertuner.outcomes.exports.client import About, Client
from infertuner.sources.requests import Floats, Ints
from infertuner.units import milliseconds

SCHEMA_VERSION = "1.4"
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
NS_PER_S = 10**9

Result = dict[str, Any]


def aiperf_summary(client: Client, about: About) -> Result:
    """The content of `profile_export_aiperf.json`: statistics over the measured requests that were answered."""
    counted, duration_s = client.counted, client.duration_s
    several = counted & (client.output_tokens > 1)
    outputs, inputs = client.tokens_of(client.output_tokens), client.tokens_of(client.prompt_tokens)
    failed = int((client.measured & ~client.answered).sum())
    since_s = float(client.sent_at_s[client.measured].min(initial=np.inf)) if client.measured.any() else 0.0
    second_s = np.array([client.gaps_s[row][0] for row in np.flatnonzero(several)])
    metrics = {
        "time_to_first_token": _spread("ms", milliseconds(1.0) * client.ttft_s[counted]),
        "time_to_second_token": _spread("ms", milliseconds(1.0) * second_s),
        "inter_token_latency": _spread("ms", milliseconds(1.0) * client.tpot_s[several]),
        "inter_chunk_latency": _spread("ms", milliseconds(1.0) * client.pooled_gaps_s()),
        "request_latency": _spread("ms", milliseconds(1.0) * client.e2e_s[counted]),
        "output_token_throughput_per_user": _spread("tokens/sec/user", 1.0 / client.tpot_s[several]),
        "input_sequence_length": _spread("tokens", client.prompt_tokens[counted]),
        "output_sequence_length": _spread("tokens", client.output_tokens[counted]),
        "output_token_count": _spread("tokens", client.output_tokens[counted]),
        "request_count": _total("requests", int(counted.sum())),
        "error_request_count": _total("requests", failed) if failed else None,
        "total_isl": _total("tokens", inputs),
        "total_osl": _total("tokens", outputs),
        "benchmark_duration": _total("sec", duration_s),
        "request_throughput": _total("requests/sec", counted.sum() / duration_s) if duration_s else None,
        "output_token_throughput": _total("tokens/sec", outputs / duration_s) if duration_s else None,
        "total_token_throughput": _total("tokens/sec", (inputs + outputs) / duration_s) if duration_s else None,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark_id": about.scenario,
        **{name: metric for name, metric in metrics.items() if metric is not None},
        "run_info": {
            "benchmark_id": about.scenario,
            "random_seed": about.seed,
            "trial": 0,
            "run_label": about.scenario,
            "variation_values": about.parameters,
        },
        "was_cancelled": False,
        "is_complete": True,
        "start_time": _clock(since_s),
        "end_time": _clock(since_s + duration_s),
        "metadata": {"simulated": True, "simulator": "infertuner", "latency": about.latency},
    }


def aiperf_records(client: Client) -> Iterator[Result]:
    """The lines of `profile_export.jsonl`: one a request that was sent, those of the warm-up marked as such."""
    turns: dict[Any, int] = defaultdict(int)
    for row, session_id in enumerate(client.session_id):
        sent_ns = _ns(client.sent_at_s[row])
        end_s = client.sent_at_s[row] + client.e2e_s[row] if client.answered[row] else client.ended_at_s
        yield {
            "metadata": {
                "session_num": row,
                "x_request_id": str(row),
                "conversation_id": str(session_id),
                "turn_index": turns[session_id],
                "request_start_ns": sent_ns,
                "request_end_ns": max(_ns(end_s), sent_ns),
                "worker_id": "infertuner",
                "record_processor_id": "infertuner",
                "benchmark_phase": "profiling" if client.measured[row] else "warmup",
                "was_cancelled": False,
            },
            "metrics": _record(client, row) if client.answered[row] else {},
            "error": None if client.answered[row] else {"type": "Simulated", "message": client.reason[row]},
        }
        turns[session_id] += 1


def _record(client: Client, row: int) -> Result:
    gaps_ms = milliseconds(1.0) * client.gaps_s[row]
    several = {}
    if gaps_ms.size:
        tpot_s = float(client.tpot_s[row])
        several = {
            "time_to_second_token": _value("ms", float(gaps_ms[0])),
            "inter_token_latency": _value("ms", milliseconds(tpot_s)),
            "inter_chunk_latency": _value("ms", gaps_ms.tolist()),
            "output_token_throughput_per_user": _value("tokens/sec/user", 1.0 / tpot_s if tpot_s else 0.0),
        }
    return {
        "time_to_first_token": _value("ms", milliseconds(float(client.ttft_s[row]))),
        **several,
        "request_latency": _value("ms", milliseconds(float(client.e2e_s[row]))),
        "input_sequence_length": _value("tokens", int(client.prompt_tokens[row])),
        "output_sequence_length": _value("tokens", int(client.output_tokens[row])),
        "output_token_count": _value("tokens", int(client.output_tokens[row])),
    }


def _value(unit: str, value: Any) -> Result:
    return {"value": value, "unit": unit}


def _spread(unit: str, values: Floats | Ints) -> Result | None:
    """A metric that every record has; None of none."""
    if not values.size:
        return None
    return {
        "unit": unit,
        "avg": float(values.mean()),
        **{f"p{q}": float(np.percentile(values, q)) for q in PERCENTILES},
        "min": values.min().item(),
        "max": values.max().item(),
        "std": float(values.std()),
        "count": int(values.size),
        "sum": values.sum().item(),
    }


def _total(unit: str, value: float) -> Result:
    """A metric of the whole run."""
    return {"unit": unit, "avg": float(value)}


def _ns(at_s: float) -> int:
    return round(float(at_s) * NS_PER_S)


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None).isoformat()
