"""Whole-model prompt and token times of splitwise-sim's `perf_model.csv`."""

from __future__ import annotations

from pathlib import Path

from infertuner.errors import CalibrationError
from infertuner.latency.importers.gpus import gpu_called
from infertuner.latency.importers.observations import Observation, Origin, Published
from infertuner.latency.importers.tables import read_table
from infertuner.latency.models import ModelConfig, shard
from infertuner.latency.points import Point

ORIGIN = Origin(
    url="https://github.com/Mutinifni/splitwise-sim",
    licence="MIT",
    software="vLLM of 2023",
    attention="PagedAttention v1",
    note="whole prompts and mean decode steps as timed, host time and all-reduces included; no mixed iterations",
)
MODELS = {
    "llama2-70b": ModelConfig(
        family="llama",
        num_layers=80,
        hidden_size=8192,
        num_heads=64,
        num_kv_heads=8,
        head_dim=128,
        intermediate_size=28672,
        vocab_size=32000,
        tied_embeddings=False,
    )
}
"""Models of the file that the profile can describe; BLOOM is built differently."""
SYNTHETIC = "-pcap"
"""Hardware whose rows are the uncapped ones times a constant."""
LONGEST_OUTPUT = 128
"""Runs that were to write more stopped early, so their mean step is not at the context it claims."""
MS = 1e-3


def read(path: Path, *, model: str | None, gpu: str | None, tp: int) -> Published:
    """The rows of one model on `tp` GPUs of one kind; repeated runs are separate observations.

    A decode step's context is the prompt and half of what the run wrote, since the file has the mean step.
    """
    columns = ["prompt_size", "batch_size", "token_size", "prompt_time", "token_time", "tensor_parallel"]
    table = read_table(path, ["model", "hardware", *columns])
    table = table[~table.hardware.str.endswith(SYNTHETIC)]
    name = model or "llama2-70b"
    if name not in MODELS:
        raise CalibrationError(f"--model: {name!r} cannot be imported from this file; choose {', '.join(MODELS)}")
    gpu_key, found = gpu_called(gpu, "")
    there = table[(table.model == name) & (table.hardware == gpu_key)]
    rows = there[(there.tensor_parallel == tp) & (there.token_size <= LONGEST_OUTPUT)]
    if rows.empty:
        ways = ", ".join(str(ways) for ways in sorted(set(there.tensor_parallel.astype(int)))) or "none"
        raise CalibrationError(f"--tp: no rows of {name} on {tp} {gpu_key}; the file has --tp {ways} there")
    observations = []
    columns = ["batch_size", "prompt_size", "token_size", "prompt_time", "token_time"]
    for batch, prompt, written, prompt_ms, token_ms in rows[columns].to_numpy(dtype=float).tolist():
        prefill = Point("prefill", int(batch), int(prompt), 0, "fit")
        step = Point("decode", int(batch), 1, int(prompt + written // 2) - 1, "fit")
        observations += [Observation(prefill, MS * prompt_ms), Observation(step, MS * token_ms)]
    config = shard(MODELS[name], tp)
    return Published(ORIGIN, found, name, config, tp, [path], observations=observations)
