"""Adapter: BLIS (`inference-sim`), a Go program: `ROOT/blis replay` on the same requests, round robin.

Its latency model is a sum of physical terms with coefficients; these are set so that on its Llama-3.1-8B and H100 the
terms are ours: a constant, microseconds a prompt token, a sequence and a KV entry. What cannot be set: a base of its
own for iterations that prefill (6 ms here, 8 ms in ours), and attention makes prefill slightly quadratic.
It reports no events. Its own clock times the simulation.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from shared import (
    BLOCK_SIZE,
    DECODE_S,
    KV_BLOCKS,
    KV_ENTRY_S,
    MAX_NUM_BATCHED_TOKENS,
    MAX_NUM_SEQS,
    PREFILL_TOKEN_S,
    SEQUENCE_S,
    read_requests,
    report,
)

FLOPS_PER_TOKEN, H100_FLOPS = 2 * 6.98e9, 989.5e12
KV_BYTES_PER_ENTRY, H100_BYTES_PER_S = 2 * 32 * 1024 * 2, 3.35e12
COLUMNS = (
    "request_id,client_id,tenant_id,slo_class,session_id,round_index,prefix_group,prefix_length,streaming,input_tokens,"
    "output_tokens,text_tokens,image_tokens,audio_tokens,video_tokens,reason_ratio,model,deadline_us,"
    "server_input_tokens,arrival_time_us,send_time_us,first_chunk_time_us,last_chunk_time_us,num_chunks,status,"
    "error_message,finish_reason"
)


def main(root: str, requests: str, gpus: str, folder: Path) -> None:
    """Simulate and print the report."""
    asked = read_requests(requests)
    (folder / "header.yaml").write_text("trace_version: 2\ntime_unit: us\nmode: generated\n")
    with (folder / "asked.csv").open("w", newline="") as file:
        names = COLUMNS.split(",")
        rows = csv.DictWriter(file, names, restval="")
        rows.writeheader()
        zeros = dict.fromkeys([name for name in names if name.endswith(("_us", "_tokens", "_length", "_index"))], 0)
        for row in asked:
            known = {
                "request_id": row.request_id,
                "streaming": "false",
                "input_tokens": row.prompt_tokens,
                "text_tokens": row.prompt_tokens,
                "output_tokens": row.output_tokens,
                "reason_ratio": 0,
                "arrival_time_us": round(row.arrived_at_s * 1e6),
                "num_chunks": 0,
                "status": "ok",
            }
            rows.writerow(zeros | known)
    prefill = PREFILL_TOKEN_S / (FLOPS_PER_TOKEN / H100_FLOPS)
    decode_kv = KV_ENTRY_S / (KV_BYTES_PER_ENTRY / H100_BYTES_PER_S)
    betas = [prefill, 0, 0, 0, 0, SEQUENCE_S * 1e6, DECODE_S * 1e6, 0, 0, decode_kv]
    options = {
        "trace-header": folder / "header.yaml",
        "trace-data": folder / "asked.csv",
        "model": "meta-llama/llama-3.1-8b-instruct",
        "hardware": "H100",
        "tp": 1,
        "alpha-coeffs": "0,0,0",
        "beta-coeffs": ",".join(map(str, betas)),
        "num-instances": gpus,
        "max-num-seqs": MAX_NUM_SEQS,
        "max-num-batched-tokens": MAX_NUM_BATCHED_TOKENS,
        "block-size-in-tokens": BLOCK_SIZE,
        "total-kv-blocks": KV_BLOCKS,
        "horizon": 10**15,
        "metrics-path": folder / "metrics.json",
        "log": "info",
    }
    command = [f"{root}/blis", "replay", *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    simulated_s = float(re.search(r"wall-clock time: ([0-9.]+)s", done.stderr)[1])
    metrics = json.loads((folder / "metrics.json").read_text())
    report(simulated_s=simulated_s, finished=metrics["completed_requests"], e2e_mean_s=metrics["e2e_mean_ms"] / 1000)


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        main(os.environ["PYTHONPATH"], *sys.argv[1:3], Path(name))
