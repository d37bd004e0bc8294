"""KV of real models, by the numbers their config.json give, and how it is shared among GPUs."""

from __future__ import annotations

import pytest

from infertuner.cache.kv_bytes import ConstantState, GroupedQuery, Latent, kv_bytes


def attention(num_layers, num_kv_heads, head_dim, **window):
    return GroupedQuery(num_layers=num_layers, num_kv_heads=num_kv_heads, head_dim=head_dim, **window)


LLAMA_8B = attention(32, 8, 128)
DEEPSEEK_V3 = Latent(num_layers=61, kv_lora_rank=512, qk_rope_head_dim=64)


@pytest.mark.parametrize(
    ("layers", "kib_per_token"),
    [
        (attention(24, 16, 128), 192),  # Qwen1.5-1.8B, MHA
        (attention(28, 4, 256), 112),  # Falcon3-7B
        (attention(28, 4, 128), 56),  # Qwen2.5-7B
        (LLAMA_8B, 128),
        (attention(40, 40, 128), 800),  # Llama-2-13B, MHA
        (attention(48, 4, 128), 96),  # Qwen3-30B-A3B
        (attention(80, 8, 128), 320),  # Llama-3.1-70B
        (DEEPSEEK_V3, 68.625),
        (attention(32, 1, 128), 16),  # MQA
    ],
)
def test_bytes_of_a_token_in_bf16(layers, kib_per_token):
    assert kv_bytes([layers], 1) == kib_per_token * 1024
    assert kv_bytes([layers], 1000) == 1000 * kib_per_token * 1024
    assert kv_bytes([layers], 1000, element_bytes=1) == 500 * kib_per_token * 1024


def test_kv_heads_are_divided_among_gpus_and_replicated_when_there_are_fewer():
    assert [kv_bytes([LLAMA_8B], 8, tp=tp) / 1024 for tp in (1, 2, 8, 16)] == [1024, 512, 128, 128]


def test_latent_attention_is_replicated():
    assert kv_bytes([DEEPSEEK_V3], 100, tp=8) == kv_bytes([DEEPSEEK_V3], 100)


def test_a_window_keeps_only_its_last_tokens():
    window = attention(10, 2, 64, sliding_window=512)
    assert kv_bytes([window], 511) < kv_bytes([window], 512) == kv_bytes([window], 100_000)
    assert kv_bytes([window], 512) == kv_bytes([attention(10, 2, 64)], 512)


def test_layers_of_several_kinds_add_up():
    """One layer in four attends to everything, the others keep a state: it pays off only beyond some length."""
    hybrid = [attention(12, 2, 256), ConstantState(num_layers=36, state_bytes=2**20)]
    assert kv_bytes(hybrid, 0) == 0
    assert kv_bytes(hybrid, 1) == 36 * 2**20 + 24 * 1024
    assert kv_bytes(hybrid, 1000) - kv_bytes(hybrid, 999) == 24 * 1024
    assert kv_bytes(hybrid, 1, tp=2) == kv_bytes(hybrid, 1) / 2
