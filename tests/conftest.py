"""Shared by all tests: where things are, and the smallest scenario that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from infertuner.latency.models import ModelConfig

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("untimed", deadline=None)  # speed lives in benchmarks/, and machines are shared
settings.load_profile("untimed")

TINY_MODEL = ModelConfig(
    family="llama",
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=96,
    vocab_size=128,
    tied_embeddings=False,
)
"""A decoder small enough to be measured in a test."""


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture
def shared_data() -> Path:
    """Measured data and traces that are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the measured data beside the checkout are not here")
    return folder


@pytest.fixture
def tiny() -> dict[str, Any]:
    """A complete scenario as plain data: 20 requests, two GPUs, one second each."""
    return {
        "name": "tiny",
        "replications": 2,
        "workload": {
            "kind": "synthetic",
            "requests": 20,
            "arrivals": {"kind": "poisson", "per_s": 1},
            "prompt_tokens": {"kind": "constant", "tokens": 10},
            "output_tokens": {"kind": "uniform", "min_tokens": 1, "max_tokens": 20},
        },
        "cluster": {"gpus": 2, "router": {"kind": "round_robin"}, "batcher": {"kind": "none"}},
        "latency": {"kind": "per_token", "base_s": "100ms", "per_output_token_s": "100ms"},
    }
