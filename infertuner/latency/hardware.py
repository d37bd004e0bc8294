"""The only door to torch: a decoder with random weights, and how long its steps take on this machine.

Weights are random normal, never zero: zeros run faster than real numbers on current hardware. The KV cache is a slot
cache (allocated once, written in place, read exactly as far as it is filled), which moves the bytes a paged engine
moves; a cache that concatenates would copy itself at every step. Importing this module does not import torch.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infertuner.errors import CalibrationError
from infertuner.latency.machine import Hardware, Software
from infertuner.latency.models import ModelConfig
from infertuner.latency.points import Point
from infertuner.latency.samples import Timing

ATTENTION = "infertuner"
"""Name under which the mask-free attention is registered with transformers."""
TORCH_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class SlotCache:
    """KV cache of one batch: a slot a sequence, `cached_tokens` of it filled, the rest for the step's new tokens."""

    def __init__(self, layers: list[tuple[Any, Any]], cached_tokens: int) -> None:
        self.layers = layers
        self.cached_tokens = cached_tokens

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write the step's keys and values in place and return all there are; called by transformers."""
        stored_keys, stored_values = self.layers[layer]
        stored_keys[:, :, self.cached_tokens :] = keys
        stored_values[:, :, self.cached_tokens :] = values
        return stored_keys, stored_values

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens in the cache before the step; called by transformers."""
        return self.cached_tokens


@dataclass
class Decoder:
    """A decoder on a device, with memory for its KV cache, ready to run and time steps."""

    network: Any
    config: ModelConfig
    device: str
    arena: list[tuple[Any, Any]]
    """Flat memory for keys and values of each layer; every step takes its slots from the beginning."""

    def step(self, point: Point) -> Callable[[], Any]:
        """A call that runs one step of `point`: forward pass and the greedy choice of one token a sequence."""
        import torch

        ids = torch.randint(0, self.config.vocab_size, (point.batch_size, point.new_tokens), device=self.device)
        positions = torch.arange(point.cached_tokens, point.context_tokens, device=self.device)[None]
        cache = self.slots(point)

        def run() -> Any:
            output = self.network(ids, past_key_values=cache, position_ids=positions, use_cache=True, logits_to_keep=1)
            return output.logits.argmax(-1)

        return run

    def slots(self, point: Point) -> SlotCache:
        """The KV cache `point` needs, as views of the arena: (batch, KV heads, context, head dim)."""
        shape = (point.batch_size, self.config.num_kv_heads, point.context_tokens, self.config.head_dim)
        size = shape[0] * shape[1] * shape[2] * shape[3]
        layers = [(keys[:size].view(shape), values[:size].view(shape)) for keys, values in self.arena]
        return SlotCache(layers, point.cached_tokens)

    def visit(self, point: Point, target_s: float) -> Timing:
        """Time `point` for about `target_s`, in 1 to 40 calls after a few untimed ones."""
        import torch

        with torch.inference_mode(), _denormals_flushed():
            step = self.step(point)
            calls = min(max(round(target_s / self._warm_up(step)), 1), 40)
            timed = [self._timed(step) for _ in range(calls)]
        seconds, wall_s, preempted = zip(*timed, strict=True)
        return Timing(list(seconds), list(wall_s), list(preempted))

    def _warm_up(self, step: Callable[[], Any]) -> float:
        """Up to 4 untimed calls while they are cheap; seconds of the last.

        On CUDA 2 at least: the first call of a shape also chooses and loads kernels.
        """
        least, spent_s, call_s = (2 if self.device == "cuda" else 1), 0.0, 0.0
        for call in range(1, 5):
            call_s = self._timed(step)[1]
            spent_s += call_s
            if call >= least and spent_s > 0.05:
                break
        return call_s

    def _timed(self, step: Callable[[], Any]) -> tuple[float, float, bool]:
        """Device seconds, wall seconds and whether the core was taken away, of one call."""
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        if self.device == "cuda":
            seconds, wall_s = _cuda_timed(step)
        else:
            began = time.perf_counter()
            step()
            seconds = wall_s = time.perf_counter() - began
        return seconds, wall_s, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > switches


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Numbers too small for the normal format count as 0; their slow paths are not what is to be timed."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def build_decoder(config: ModelConfig, *, dtype: str, device: str, threads: int, kv_tokens: int, seed: int) -> Decoder:
    """A decoder of this shape with random normal weights and a KV arena for `kv_tokens` entries."""
    torch, transformers = _libraries()
    torch.set_num_threads(threads)
    _register_attention()
    torch.manual_seed(seed)
    torch_dtype = getattr(torch, TORCH_DTYPES[dtype])
    with torch.device(device), torch.inference_mode():
        network = transformers.AutoModelForCausalLM.from_config(
            _transformers_config(config), dtype=torch_dtype, attn_implementation=ATTENTION
        ).eval()
        size = kv_tokens * config.num_kv_heads * config.head_dim
        arena = [
            (torch.randn(size, dtype=torch_dtype), torch.randn(size, dtype=torch_dtype))
            for _ in range(config.num_layers)
        ]
    return Decoder(network, config, device, arena)


def choose_device(asked: str) -> Literal["cpu", "cuda"]:
    """`cpu` or `cuda`; `auto` takes a CUDA device where there is one."""
    torch, _ = _libraries()
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise CalibrationError("--device: torch sees no CUDA device here; use --device cpu")
    return "cuda" if asked != "cpu" and available else "cpu"


def describe(device: Literal["cpu", "cuda"], threads: int) -> tuple[Hardware, Software]:
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
        attention="torch scaled_dot_product_attention, no mask tensor",
        execution="eager",
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


def _register_attention() -> None:
    """Causal attention without a mask tensor, so that every step takes the same kernel whatever surrounds it.

    An attention transformers knows no mask for gets none; left to itself it may build one (while a CUDA graph is being
    captured, say) and then silently run masked attention over repeated keys and values.
    """
    from torch.nn import functional
    from torch.nn.attention.bias import causal_lower_right
    from transformers import AttentionInterface

    def attention(_: Any, queries: Any, keys: Any, values: Any, *__: Any, scaling: float, **___: Any) -> Any:
        new, context = queries.shape[2], keys.shape[2]
        output = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=causal_lower_right(new, context) if 1 < new < context else None,
            is_causal=new > 1 and new == context,
            scale=scaling,
            enable_gqa=True,
        )
        return output.transpose(1, 2).contiguous(), None

    AttentionInterface.register(ATTENTION, attention)


def _cuda_timed(step: Callable[[], Any]) -> tuple[float, float]:
    """Device seconds between two events around the call, and wall seconds until the host knew."""
    import torch

    new_event: Any = torch.cuda.Event
    start, end = new_event(enable_timing=True), new_event(enable_timing=True)
    began = time.perf_counter()
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) * 1e-3, time.perf_counter() - began
