"""The shapes of decoders a calibration can build: bundled, written out, or read from a folder; no downloads.

How long a step takes depends on a decoder's shape, not on what its weights say, so a config is enough.
Shapes are those of the published `config.json` files; the two `cpu-*` ones are ours, small enough for one core.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from infertuner.errors import CalibrationError

DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder with grouped-query attention, RMSNorm and a gated MLP (SwiGLU)."""

    family: Literal["llama", "qwen2", "mistral"]
    """Which modelling code of transformers it runs; qwen2 adds a bias to queries, keys and values."""
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tied_embeddings: bool
    """Whether the output matrix is the embedding matrix."""

    @property
    def layer_params(self) -> int:
        """Weights in one layer: attention, biases, MLP and norms."""
        qkv_width = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        attention = self.hidden_size * (qkv_width + self.num_heads * self.head_dim)
        bias = qkv_width if self.family == "qwen2" else 0
        mlp = 3 * self.hidden_size * self.intermediate_size
        return attention + bias + mlp + 2 * self.hidden_size

    @property
    def num_params(self) -> int:
        """Weights in the model: embeddings, layers and the last norm."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * self.layer_params + self.hidden_size

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Bytes of KV cache one token takes: a key and a value of every KV head in every layer."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * DTYPE_BYTES[dtype]


def _model(family: Literal["llama", "qwen2", "mistral"], *shape: int, tied: bool = False) -> ModelConfig:
    layers, hidden, heads, kv_heads, head_dim, intermediate, vocab = shape
    return ModelConfig(
        family=family,
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=intermediate,
        vocab_size=vocab,
        tied_embeddings=tied,
    )


MODELS: dict[str, ModelConfig] = {
    # name: family, layers, hidden, heads, KV heads, head dim, intermediate, vocabulary
    "cpu-25m": _model("llama", 6, 512, 8, 2, 64, 1408, 8192),
    "cpu-100m": _model("qwen2", 12, 768, 12, 4, 64, 2048, 16384),
    "qwen2.5-0.5b": _model("qwen2", 24, 896, 14, 2, 64, 4864, 151936, tied=True),
    "qwen2.5-1.5b": _model("qwen2", 28, 1536, 12, 2, 128, 8960, 151936, tied=True),
    "qwen2.5-7b": _model("qwen2", 28, 3584, 28, 4, 128, 18944, 152064),
    "qwen1.5-1.8b": _model("qwen2", 24, 2048, 16, 16, 128, 5504, 151936),
    "llama-3.1-8b": _model("llama", 32, 4096, 32, 8, 128, 14336, 128256),
    "mistral-7b-v0.3": _model("mistral", 32, 4096, 32, 8, 128, 14336, 32768),
    "falcon3-7b": _model("llama", 28, 3072, 12, 4, 256, 23040, 131072),
}


SHAPE_KEYS = {
    "layers": "num_layers",
    "hidden": "hidden_size",
    "heads": "num_heads",
    "kv_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
}
"""Short names of the sizes, as `--shape` takes them."""
CONFIG_KEYS = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "tied_embeddings": "tie_word_embeddings",
}
"""What a published `config.json` calls them."""


def model_config(name: str) -> ModelConfig:
    """The bundled shape called `name`."""
    if name not in MODELS:
        raise CalibrationError(
            f"--model: {name!r} is not known; choose one of {', '.join(MODELS)}, a folder with config.json and "
            "safetensors, or write --shape"
        )
    return MODELS[name]


def shape_config(text: str) -> ModelConfig:
    """A shape written out, such as `layers=2,hidden=64,heads=4,kv_heads=2,intermediate=96,vocab=128`.

    kv_heads is heads and head_dim is hidden / heads unless given.
    """
    sizes: dict[str, int] = {}
    for item in text.split(","):
        key, _, value = item.partition("=")
        if key.strip() not in SHAPE_KEYS:
            raise CalibrationError(f"--shape: {key.strip()!r} is not a size; choose from {', '.join(SHAPE_KEYS)}")
        if key.strip() in sizes:
            raise CalibrationError(f"--shape: {key.strip()} is given twice; keep one")
        if not value.strip().isdecimal() or int(value) < 1:
            raise CalibrationError(f"--shape: {key.strip()} is {value.strip()!r}; write a whole number above 0")
        sizes[key.strip()] = int(value)
    missing = SHAPE_KEYS.keys() - sizes.keys() - {"kv_heads", "head_dim"}
    if missing:
        raise CalibrationError(f"--shape: {', '.join(sorted(missing))} missing; write each as size=number")
    sizes.setdefault("kv_heads", sizes["heads"])
    sizes.setdefault("head_dim", sizes["hidden"] // sizes["heads"])
    named: dict[str, Any] = {SHAPE_KEYS[key]: size for key, size in sizes.items()}
    return _checked("--shape", ModelConfig(family="llama", tied_embeddings=False, **named))


def folder_config(folder: Path) -> ModelConfig:
    """The shape in a folder's `config.json`, as transformers writes it."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        family = content["model_type"]
        sizes = {ours: content.get(theirs) for ours, theirs in CONFIG_KEYS.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CalibrationError(f"--model: {path} is no readable config of a decoder ({error!r})") from None
    if family not in ("llama", "qwen2", "mistral"):
        raise CalibrationError(f"--model: {path} is of type {family!r}; llama, qwen2 and mistral can be measured")
    if content.get("sliding_window") and content.get("use_sliding_window", True):
        raise CalibrationError(f"--model: {path} attends to a sliding window; only full attention can be measured")
    sizes["num_kv_heads"] = sizes["num_kv_heads"] or sizes["num_heads"]
    sizes["tied_embeddings"] = bool(sizes["tied_embeddings"])
    missing = [CONFIG_KEYS[ours] for ours, size in sizes.items() if size is None and ours != "head_dim"]
    if missing:
        raise CalibrationError(f"--model: {path} lacks {', '.join(missing)}")
    sizes["head_dim"] = sizes["head_dim"] or sizes["hidden_size"] // sizes["num_heads"]
    return _checked("--model", ModelConfig(family=family, **sizes))


def shard(config: ModelConfig, ways: int) -> ModelConfig:
    """One of `ways` tensor-parallel shards, as engines cut it: heads, MLP and vocabulary divided, hidden size whole.

    Norms are kept by every shard. KV heads fewer than shards are replicated, one to each.
    """
    whole = {"num_heads": config.num_heads, "intermediate_size": config.intermediate_size}
    whole["vocab_size"] = config.vocab_size
    if config.num_kv_heads > ways:
        whole["num_kv_heads"] = config.num_kv_heads
    for key, size in whole.items():
        if size % ways:
            raise CalibrationError(f"--tp: {key} {size} cannot be divided by {ways}")
    parts: dict[str, Any] = {key: size // ways for key, size in whole.items()}
    return replace(config, **{"num_kv_heads": 1} | parts) if ways > 1 else config


def _checked(option: str, config: ModelConfig) -> ModelConfig:
    """Refuse sizes that no decoder can have, before torch does so in its own words."""
    wrong = [key for key, size in asdict(config).items() if isinstance(size, int) and size < 1 and key[:4] != "tied"]
    if wrong:
        raise CalibrationError(f"{option}: {wrong[0]} must be at least 1")
    if config.num_heads % config.num_kv_heads:
        raise CalibrationError(
            f"{option}: {config.num_heads} heads cannot share {config.num_kv_heads} KV heads; choose a divisor"
        )
    if config.head_dim % 2:
        raise CalibrationError(f"{option}: head_dim is {config.head_dim}; rotary positions need an even number")
    return config
