"""A run as `vllm bench serve --save-result --save-detailed` would have written it (vLLM 0.3x, benchmarks/serve.py).

Seconds in arrays, milliseconds in statistics. A statistic of nothing is 0, as there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from infertuner.outcomes.exports.client import About, Client
from infertuner.outcomes.window import Mask
from infertuner.sources.requests import Floats
from infertuner.units import milliseconds

PERCENTILES = (50, 90, 95, 99)
"""As with `--metric-percentiles 50,90,95,99`; the tool's own default is 99 alone."""
BIN_S = 1.0
"""What the tool counts its peak of tokens in."""

Result = dict[str, Any]


def vllm_result(client: Client, about: About, now: datetime) -> Result:
    """The content of the JSON file. Requests of the warm-up are not in it, as those of `--num-warmups` are not."""
    rows = np.flatnonzero(client.measured)
    counted, duration_s = client.counted, client.duration_s
    inputs, outputs = client.tokens_of(client.prompt_tokens), client.tokens_of(client.output_tokens)

    def per_s(amount: float) -> float:
        return float(amount / duration_s) if duration_s else 0.0

    return {
        "date": now.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "infertuner",
        "backend": "infertuner",
        "label": about.scenario,
        "model_id": about.latency,
        "tokenizer_id": None,
        "num_prompts": len(rows),
        "simulated": "true",
        **about.parameters,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": None,
        "duration": duration_s,
        "completed": int(counted.sum()),
        "failed": int((client.measured & ~client.answered).sum()),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": per_s(counted.sum()),
        "request_goodput": None,
        "output_throughput": per_s(outputs),
        "total_token_throughput": per_s(inputs + outputs),
        "input_lens": client.prompt_tokens[rows].tolist(),
        "output_lens": np.where(client.answered, client.output_tokens, 0)[rows].tolist(),
        "ttfts": np.nan_to_num(client.ttft_s[rows]).tolist(),
        "itls": [client.gaps_s[row].tolist() for row in rows],
        "latencies": np.nan_to_num(client.e2e_s[rows]).tolist(),
        "start_times": client.sent_at_s[rows].tolist(),
        "queue_times": [0.0] * len(rows),
        "generated_texts": [""] * len(rows),
        "errors": [client.reason[row] for row in rows],
        "max_output_tokens_per_s": _peak_tokens_per_s(client),
        "max_concurrent_requests": _peak_requests(client, counted),
        "rtfx": 0.0,
        **_statistics("ttft", client.ttft_s[counted]),
        **_statistics("tpot", client.tpot_s[counted & (client.output_tokens > 1)]),
        **_statistics("itl", client.pooled_gaps_s()),
        **_statistics("e2el", client.e2e_s[counted]),
    }


def _statistics(name: str, values_s: Floats) -> Result:
    values_ms = milliseconds(1.0) * (values_s if values_s.size else np.zeros(1))
    return {
        f"mean_{name}_ms": float(values_ms.mean()),
        f"median_{name}_ms": float(np.median(values_ms)),
        f"std_{name}_ms": float(values_ms.std()),
        **{f"p{q}_{name}_ms": float(np.percentile(values_ms, q)) for q in PERCENTILES},
    }


def _peak_tokens_per_s(client: Client) -> float:
    """The most tokens in any second since the first answered request was sent."""
    rows = np.flatnonzero(client.counted)
    if not rows.size:
        return 0.0
    first_s = client.sent_at_s[rows] + client.ttft_s[rows]
    since_s = float(client.sent_at_s[rows].min())
    at_s = [first + np.cumsum(np.append(0.0, client.gaps_s[row])) for first, row in zip(first_s, rows, strict=True)]
    return float(np.bincount(((np.concatenate(at_s) - since_s) / BIN_S).astype(np.int64)).max())


def _peak_requests(client: Client, counted: Mask) -> int:
    """The most answered requests under way at once; one that ends makes room for one that begins then."""
    sent_s = client.sent_at_s[counted]
    ends_s = sent_s + client.e2e_s[counted]
    change = np.append(np.ones(sent_s.size, dtype=np.int64), np.full(ends_s.size, -1))
    order = np.lexsort((change, np.append(sent_s, ends_s)))
    return int(np.cumsum(change[order]).max(initial=0))
