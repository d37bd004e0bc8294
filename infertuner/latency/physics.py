"""The least time a step can take: every byte it must read and every operation it must do, at the hardware's best.

A measurement below that is a mistake of the measurement, and a law below it a mistake of the law. The bound is generous
to the hardware: activations, norms and everything between the kernels count nothing. S. Williams et al., Roofline
(2009).
"""

from __future__ import annotations

from infertuner.latency.machine import Ceilings
from infertuner.latency.models import DTYPE_BYTES, ModelConfig
from infertuner.latency.points import Point

SLACK = 1.25
"""How much faster than the measured ceilings a step may be: a short bench does not find the last tenth, and a cache
that holds part of the weights is not in it."""


def least_s(point: Point, config: ModelConfig, dtype: str, ceilings: Ceilings) -> float:
    """Seconds below which no step of `point` can be on hardware with these ceilings."""
    return max(
        read_bytes(point, config, dtype) / ceilings.read_bytes_per_s,
        operations(point, config) / ceilings.flops_per_s,
    )


def read_bytes(point: Point, config: ModelConfig, dtype: str) -> float:
    """Bytes a step has to read: every weight once but the embedding rows it does not look up, and the KV cache."""
    weights = config.layer_params * config.num_layers + config.hidden_size * config.vocab_size
    entries = point.kv_entries + point.decode_entries
    return weights * DTYPE_BYTES[dtype] + entries * config.kv_bytes_per_token(dtype)


def operations(point: Point, config: ModelConfig) -> float:
    """Floating-point operations of a step, two for a multiply and an add, over weights and attended pairs.

    The vocabulary is computed for one token a sequence: the only logits that are asked for.
    """
    sequences = point.batch_size + point.decodes
    pairs = point.attended_pairs + point.decode_entries
    dense = config.layer_params * config.num_layers * point.batch_tokens
    head = config.hidden_size * config.vocab_size * sequences
    attention = 2 * config.num_layers * config.num_heads * config.head_dim * pairs
    return 2 * (dense + head + attention)
