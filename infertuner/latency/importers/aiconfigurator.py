"""Kernel tables of aiconfigurator's data bases (parquet): GEMM, context and generation attention, all-reduce."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from infertuner.errors import CalibrationError
from infertuner.latency.importers.gpus import Gpu, gpu_called
from infertuner.latency.importers.llmservingsim import kv_entries, model_called
from infertuner.latency.importers.observations import Origin, Published, Reach
from infertuner.latency.importers.tables import Table, read_table
from infertuner.latency.models import ModelConfig, model_config, shard
from infertuner.latency.points import Point

URL, LICENCE = "https://github.com/ai-dynamo/aiconfigurator", "Apache-2.0"
NOTE = (
    "4 matrix products a layer, attention and the vocabulary's product, added up; no norms, rotary embedding, "
    "activation, sampling or host time; the attention of a mixed iteration is its chunk's plus its decodes'"
)
GEMM = ("k", "n", "m")
ATTENTION = ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim", "window_size")
MS = 1e-3
CACHED_BYTES = 2**26
"""What a GPU's caches may hold: reads below that can be faster than its memory."""


class Kernels:
    """Iterations as sums over matrix products and attention calls of one model (or of one of its shards)."""

    def __init__(
        self,
        *,
        gemm: Table,
        context: Table,
        generation: Table,
        reduce: Table | None,
        config: ModelConfig,
        reach: Reach,
    ) -> None:
        self._gemm, self._context, self._generation, self._reduce = gemm, context, generation, reduce
        self._config, self.reach = config, reach

    def step_s(self, point: Point) -> float:
        """Seconds of one iteration; logits for one token a sequence. No prefix: context attention starts at 0."""
        config, tokens = self._config, point.batch_tokens
        width = config.num_heads * config.head_dim
        layer_ms = sum(
            self._gemm(k, n, tokens)
            for k, n in (
                (config.hidden_size, width + 2 * config.num_kv_heads * config.head_dim),
                (width, config.hidden_size),
                (config.hidden_size, 2 * config.intermediate_size),
                (config.intermediate_size, config.hidden_size),
            )
        )
        if point.kind == "decode":
            layer_ms += self._generation(point.batch_size, point.context_tokens)
        else:
            layer_ms += point.new_tokens * self._context(point.batch_size, point.new_tokens)
            if point.decodes:
                layer_ms += self._generation(point.decodes, point.decode_context_tokens)
        if self._reduce is not None:
            layer_ms += 2 * self._reduce(2.0 * tokens * config.hidden_size)
        head_ms = self._gemm(config.hidden_size, config.vocab_size, point.batch_size + point.decodes)
        return MS * (config.num_layers * layer_ms + head_ms)


def read(path: Path, *, model: str | None, gpu: str | None, tp: int) -> Published:
    """The tables `*gemm_perf.parquet`, `*context_attention_perf.parquet` and `*generation_attention_perf.parquet`.

    path: their folder; of several GPUs' tables there, `gpu` chooses. Only bf16 rows with a bf16 KV cache count.
    tp > 1 composes a shard and two all-reduces a layer, from `*custom_allreduce_perf.parquet`.
    """
    name = model_called(model, str(path))
    whole = model_config(name)
    config = shard(whole, tp)
    files = [_file(path, f"{kind}_perf.parquet", gpu) for kind in ("gemm", "context_attention", "generation_attention")]
    _, found = gpu_called(gpu, " ".join(file.name for file in files))
    gemm = read_table(files[0], [*GEMM, "gemm_dtype", "latency"])
    gemm = gemm[gemm.gemm_dtype == "bfloat16"]
    context, generation = (_attention(file, config) for file in files[1:])
    context = context[context.step == 0]  # no version so far has a prefix, and none would be looked up here
    left_out: list[str] = []
    weight_bytes = 2.0 * gemm.n * gemm.k
    gemm = _possible(gemm, files[0], found, left_out, operations=weight_bytes * gemm.m, read_bytes=weight_bytes)
    pairs = 0.5 * context.batch_size * context.isl * (context.isl + 1)
    operations = 4.0 * config.num_heads * config.head_dim * pairs
    context = _possible(context, files[1], found, left_out, operations=operations)
    entries = generation.batch_size * (generation.isl + generation.step)
    read_bytes = 4.0 * config.num_kv_heads * config.head_dim * entries
    generation = _possible(generation, files[2], found, left_out, read_bytes=read_bytes)
    reduce = None
    if tp > 1:
        files.append(_file(path, "custom_allreduce_perf.parquet", gpu))
        reduce = _all_reduce(files[3], tp)
    reach = Reach(
        decode_batch=(1, min(512, int(generation.batch_size.max()))),
        context_tokens=(2, int((generation.isl + generation.step).max())),
        prefill_batch=(1, int(context.batch_size.max())),
        new_tokens=(16, int(context.isl.max())),
        batch_tokens=int(context.isl.max()),
        timed_tokens=tuple(sorted({int(m) for m in gemm.m})),
        kv_entries=min(
            kv_entries(found, config), int((generation.batch_size * (generation.isl + generation.step)).max())
        ),
        cached=False,
    )
    steps = Kernels(
        gemm=Table(_rows(gemm, [gemm[axis] for axis in GEMM], gemm.latency)),
        context=Table(_rows(context, [context.batch_size, context.isl], context.latency / context.isl)),
        generation=Table(
            _rows(generation, [generation.batch_size, generation.isl + generation.step], generation.latency)
        ),
        reduce=reduce,
        config=config,
        reach=reach,
    )
    software = f"vLLM {generation.version.iloc[0]}" if "version" in generation else "vLLM"
    kernels = f"{', '.join(sorted(set(context.kernel_source)))}" if "kernel_source" in context else "as vLLM chose"
    origin = Origin(URL, LICENCE, software, kernels, NOTE)
    return Published(origin, found, name, config, tp, files, steps=steps, left_out=left_out)


def _rows(table: pd.DataFrame, axes: list[pd.Series], values: pd.Series) -> Iterator[tuple[tuple[float, ...], float]]:
    return zip(zip(*(axis.tolist() for axis in axes), strict=True), values.astype(float).tolist(), strict=True)


def _attention(path: Path, config: ModelConfig) -> pd.DataFrame:
    """Rows of full bf16 attention with the model's heads."""
    table = read_table(path, [*ATTENTION, "attn_dtype", "kv_cache_dtype", "latency"])
    table = table[
        (table.attn_dtype == "bfloat16")
        & (table.kv_cache_dtype == "bfloat16")
        & (table.window_size == 0)
        & (table.head_dim == config.head_dim)
        & (table.num_heads == config.num_heads)
        & (table.num_key_value_heads == config.num_kv_heads)
    ]
    if table.empty:
        raise CalibrationError(
            f"--import: {path}: no bf16 rows for {config.num_heads} heads, {config.num_kv_heads} KV heads and head_dim "
            f"{config.head_dim}; choose another --model or --tp"
        )
    return table


def _possible(
    table: pd.DataFrame,
    path: Path,
    gpu: Gpu,
    left_out: list[str],
    *,
    operations: pd.Series | float = 0.0,
    read_bytes: pd.Series | float = 0.0,
) -> pd.DataFrame:
    """The rows that are not faster than the GPU can be; the others are counted in `left_out`."""
    peaks = gpu.ceilings
    from_memory = np.where(np.asarray(read_bytes) > CACHED_BYTES, read_bytes, 0.0)
    least_s = np.maximum(np.asarray(operations) / peaks.flops_per_s, from_memory / peaks.read_bytes_per_s)
    wrong = (table.latency * MS).to_numpy() < least_s
    if wrong.any():
        left_out.append(f"{path.name}: {int(wrong.sum())} of {len(table)} rows are faster than {gpu.name} can be")
    if wrong.all():
        raise CalibrationError(f"--import: {path}: every row is faster than {gpu.name} can be; take another version")
    return table[~wrong]


def _all_reduce(path: Path, tp: int) -> Table:
    """Milliseconds over bytes of one all-reduce among `tp` GPUs inside a CUDA graph."""
    table = read_table(path, ["num_gpus", "message_size", "latency", "backend"])
    table = table[(table.num_gpus == tp) & (table.backend == "vllm_graph")]
    if table.empty:
        raise CalibrationError(f"--import: {path}: no all-reduce among {tp} GPUs; choose another --tp")
    return Table(_rows(table, [table.message_size], table.latency))


def _file(folder: Path, ending: str, gpu: str | None) -> Path:
    """The one table of this kind in `folder`; of several, the one that names the GPU."""
    found = sorted(file for file in folder.glob(f"*{ending}") if gpu is None or gpu in file.name.lower())
    found = [file for file in found if ending != "gemm_perf.parquet" or "moe" not in file.name]
    if len(found) != 1:
        what = f"{len(found)} tables" if found else "no table"
        raise CalibrationError(
            f"--import: {folder}: {what} *{ending}; give the folder of one GPU and version, and --gpu"
        )
    return found[0]
