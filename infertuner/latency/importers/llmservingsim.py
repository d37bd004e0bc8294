"""Per-layer kernel tables of LLMServingSim's profiler (vLLM's layer-wise profile): dense, per_sequence, attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infertuner.errors import CalibrationError
from infertuner.latency.importers.gpus import Gpu, gpu_called
from infertuner.latency.importers.observations import Origin, Published, Reach
from infertuner.latency.importers.tables import Table, read_table
from infertuner.latency.models import MODELS, ModelConfig, model_config
from infertuner.latency.points import Point

ORIGIN = Origin(
    url="https://github.com/casys-kaist/LLMServingSim",
    licence="MIT",
    software="vLLM 0.19",
    attention="as vLLM chose",
    note="every layer's kernels as profiled one layer at a time, added up; no host time between them",
)
IN_EACH_LAYER = {
    "layernorm": 2,
    "qkv_proj": 1,
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
"""How often a decoder layer runs each operation: one norm before attention and one before the MLP."""
ONCE = ("embedding", "final_layernorm")
PER_SEQUENCE = ("lm_head", "sampler")
ATTENTION = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
US = 1e-6


class LayerTables:
    """Iterations as sums over layers; attention is one lookup for chunk and decodes together, as it was timed."""

    def __init__(
        self, dense: dict[str, Table], sequence: dict[str, Table], attention: Table, layers: int, reach: Reach
    ):
        self._dense, self._sequence, self._attention, self._layers = dense, sequence, attention, layers
        self.reach = reach

    def step_s(self, point: Point) -> float:
        """Seconds of one iteration. A prefill must be of one sequence: the table has one chunk per iteration."""
        decode = point.kind == "decode"
        return self.iteration_s(
            new_tokens=0 if decode else point.new_tokens,
            cached_tokens=0 if decode else point.cached_tokens,
            decodes=point.batch_size if decode else point.decodes,
            context_tokens=point.context_tokens if decode else point.decode_context_tokens,
            sequences=point.batch_size + point.decodes,
        )

    def iteration_s(
        self, *, new_tokens: int, cached_tokens: int, decodes: int, context_tokens: float, sequences: int
    ) -> float:
        """Seconds of a chunk of `new_tokens` beside `decodes` with a mean context of `context_tokens`.

        sequences: those that want logits, the chunk's included.
        """
        tokens = new_tokens + decodes
        layer_us = sum(times * self._dense[name](tokens) for name, times in IN_EACH_LAYER.items())
        layer_us += self._attention(new_tokens, cached_tokens, decodes, context_tokens)
        head_us = sum(self._dense[name](tokens) for name in ONCE)
        head_us += sum(self._sequence[name](sequences) for name in PER_SEQUENCE)
        return US * (self._layers * layer_us + head_us)


def read(path: Path, *, model: str | None, gpu: str | None, tp: int) -> Published:
    """The three tables of a folder `.../tp1/`, or of files that share the prefix `path`.

    The tables do not name their model, so `model` must, or the path. tp: 1; sharded folders lack the all-reduces.
    """
    if tp != 1:
        raise CalibrationError("--tp: layer tables are imported for one GPU; they hold no all-reduces")
    name = model_called(model, str(path))
    config = model_config(name)
    _, found = gpu_called(gpu, str(path))
    files = {kind: _file(path, kind) for kind in ("dense", "per_sequence", "attention")}
    dense, dense_tokens = _by_layer(files["dense"], "tokens", [*IN_EACH_LAYER, *ONCE])
    sequence, _ = _by_layer(files["per_sequence"], "sequences", PER_SEQUENCE)
    rows = read_table(files["attention"], [*ATTENTION, "time_us"])
    places = zip(*(rows[axis].tolist() for axis in ATTENTION), strict=True)
    attention = Table(zip(places, rows.time_us.astype(float).tolist(), strict=True))
    chunks, decodes = rows[rows.n_decode == 0], rows[rows.prefill_chunk == 0]
    if chunks.empty or decodes.empty:
        raise CalibrationError(f"--import: {files['attention']}: needs rows without decodes and rows without a chunk")
    reach = Reach(
        decode_batch=(1, int(decodes.n_decode.max())),
        context_tokens=(int(decodes.kv_decode.min()), int(decodes.kv_decode.max())),
        prefill_batch=(1, 1),
        new_tokens=(int(chunks.prefill_chunk.min()), int(chunks.prefill_chunk.max())),
        batch_tokens=int(chunks.prefill_chunk.max()),
        timed_tokens=dense_tokens,
        kv_entries=kv_entries(found, config),
        cached=bool(chunks.kv_prefill.max()),
    )
    steps = LayerTables(dense, sequence, attention, config.num_layers, reach)
    return Published(ORIGIN, found, name, config, 1, list(files.values()), steps=steps)


def model_called(name: str | None, hint: str) -> str:
    """`name`, or the one bundled model that `hint`, a path, mentions."""
    mentioned = [known for known in MODELS if known in hint.lower()]
    if name is None and len(mentioned) != 1:
        raise CalibrationError(f"--model: the path names none, or several; choose one of {', '.join(MODELS)}")
    return name or mentioned[0]


def kv_entries(gpu: Gpu, config: ModelConfig) -> int:
    """KV entries beside the weights in nine tenths of the memory: iterations beyond that never happen."""
    free_bytes = 0.9 * gpu.memory_bytes - 2 * config.num_params
    if free_bytes < 2**20:
        raise CalibrationError(f"--gpu: the model's weights do not fit {gpu.name}; name another --model or --gpu")
    return int(free_bytes / config.kv_bytes_per_token("bf16"))


def _file(path: Path, kind: str) -> Path:
    return path / f"{kind}.csv" if path.is_dir() else path.with_name(f"{path.name}.{kind}.csv")


def _by_layer(path: Path, axis: str, wanted: Sequence[str]) -> tuple[dict[str, Table], tuple[int, ...]]:
    """A table of each layer over one axis, and the values of that axis."""
    rows = read_table(path, ["layer", axis, "time_us"])
    missing = [layer for layer in wanted if layer not in set(rows.layer)]
    if missing:
        raise CalibrationError(
            f"--import: {path}: no layer {missing[0]!r}; only dense decoders can be imported, not mixtures of experts"
        )
    tables = {
        str(layer): Table(
            zip(zip(found[axis].tolist(), strict=True), found.time_us.astype(float).tolist(), strict=True)
        )
        for layer, found in rows.groupby("layer")
    }
    return tables, tuple(sorted({int(value) for value in rows[axis]}))
