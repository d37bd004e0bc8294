"""The door to torch: which device there is, what it is, and a decoder built on it.

Random weights are normal, never zero: zeros run faster than real numbers on current hardware. Importing this package
does not import torch.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from infertuner.errors import CalibrationError
from infertuner.latency.hardware.attention import ATTENTION, register_attention
from infertuner.latency.hardware.bench import MachineBench, load_weights
from infertuner.latency.hardware.decoder import GRAPH_UP_TO_TOKENS, Decoder
from infertuner.latency.hardware.timing import Device
from infertuner.latency.machine import Hardware, Software
from infertuner.latency.models import ModelConfig

TORCH_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def build_bench(
    config: ModelConfig,
    *,
    dtype: str,
    device: Device,
    threads: int,
    kv_tokens: int,
    seed: int,
    weights: Path | None = None,
) -> MachineBench:
    """What a calibration measures on: a decoder (see `build_decoder`) and the memory around it."""
    return MachineBench(
        build_decoder(
            config, dtype=dtype, device=device, threads=threads, kv_tokens=kv_tokens, seed=seed, weights=weights
        )
    )


def build_decoder(
    config: ModelConfig,
    *,
    dtype: str,
    device: Device,
    threads: int,
    kv_tokens: int,
    seed: int,
    weights: Path | None = None,
) -> Decoder:
    """A decoder of this shape and a KV arena for `kv_tokens` entries.

    weights: a folder with safetensors of this very shape; without one they are random normal.
    """
    torch, transformers = _libraries()
    torch.set_num_threads(threads)
    register_attention()
    torch.manual_seed(seed)
    torch_dtype = getattr(torch, TORCH_DTYPES[dtype])
    try:
        if weights is not None:  # outside the block below, in which loading would ask for another library
            network = load_weights(str(weights), torch_dtype, device, ATTENTION)
        with torch.device(device), torch.inference_mode():
            if weights is None:
                network = transformers.AutoModelForCausalLM.from_config(
                    _transformers_config(config), dtype=torch_dtype, attn_implementation=ATTENTION
                ).eval()
            size = kv_tokens * config.num_kv_heads * config.head_dim
            arena = [
                (torch.randn(size, dtype=torch_dtype), torch.randn(size, dtype=torch_dtype))
                for _ in range(config.num_layers)
            ]
    except torch.OutOfMemoryError:
        raise CalibrationError(
            f"--model: weights and a KV cache of {kv_tokens} tokens do not fit into the memory that is free now; "
            "choose a smaller model or end what else is running there"
        ) from None
    network.generation_config.pad_token_id = 0
    network.generation_config.eos_token_id = None
    return Decoder(network, config, device, arena)


def choose_device(asked: str) -> Device:
    """`cpu` or `cuda`; `auto` takes a CUDA device where there is one."""
    torch, _ = _libraries()
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise CalibrationError("--device: torch sees no CUDA device here; use --device cpu")
    return "cuda" if asked != "cpu" and available else "cpu"


def describe(device: Device, threads: int) -> tuple[Hardware, Software]:
    """This machine and the programs on it, as far as they change how long a step takes."""
    torch, transformers = _libraries()
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        name, memory_bytes = properties.name, properties.total_memory
    else:
        name, memory_bytes = _cpu_name(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    software = Software(
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        cuda=torch.version.cuda if device == "cuda" else None,
        attention="torch scaled_dot_product_attention"
        + (", chunks behind a prefix in blocks of 256 queries" if device == "cpu" else ", no mask tensor"),
        execution="eager" if device == "cpu" else f"CUDA graph up to {GRAPH_UP_TO_TOKENS} tokens, eager above",
        kv_cache="slot: allocated once, written in place",
    )
    return Hardware(name=name, device=device, threads=threads, memory_bytes=memory_bytes), software


def _cpu_name() -> str:
    """The CPU's model name where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _libraries() -> tuple[Any, Any]:
    """Torch and transformers, or one line that says how to get them."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise CalibrationError(
            f"{error.name} is not installed; in the clone run pip install -e '.[calibrate]'"
        ) from None
    return torch, transformers


def _transformers_config(config: ModelConfig) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(
        config.family,
        num_hidden_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        vocab_size=config.vocab_size,
        tie_word_embeddings=config.tied_embeddings,
        max_position_embeddings=32768,
        sliding_window=None,
        bos_token_id=None,
        eos_token_id=None,
    )
