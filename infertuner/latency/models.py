"""The shapes of decoders a calibration can build: plain data, no weights and no downloads.

How long a step takes depends on a decoder's shape, not on what its weights say, so a config is enough.
Shapes are those of the published `config.json` files; the two `cpu-*` ones are ours, small enough for one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    def num_params(self) -> int:
        """Weights in the model: embeddings, attention, MLP, norms and biases."""
        qkv_width = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        attention = self.hidden_size * (qkv_width + self.num_heads * self.head_dim)
        bias = qkv_width if self.family == "qwen2" else 0
        mlp = 3 * self.hidden_size * self.intermediate_size
        layer = attention + bias + mlp + 2 * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * layer + self.hidden_size

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


def model_config(name: str) -> ModelConfig:
    """The bundled shape called `name`."""
    if name not in MODELS:
        raise CalibrationError(f"--model: {name!r} is not known; choose one of {', '.join(MODELS)}")
    return MODELS[name]
