"""Loading against computing: published numbers, and brute force over every choice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.transfer import (
    Channel,
    break_even_bytes_per_s,
    leading_to_load,
    mooncake_bytes_per_s,
    overlapped,
    smallest_prefix_worth_loading,
)

KIB, GB = 1024, 1e9


def roofline(params, layers, heads, head_dim, gpus=1):
    """Seconds of a prefill on H200s at half of their 989 TFLOP/s."""
    flops = 989e12 * 0.5 * gpus
    return lambda tokens: (2 * params * tokens + 2 * layers * heads * head_dim * tokens.astype(float) ** 2) / flops


QWEN_1_8B = roofline(1.837e9, 24, 16, 128)
LLAMA_8B = roofline(8.03e9, 32, 32, 128)
LLAMA_70B = roofline(70.55e9, 80, 64, 128, gpus=8)


def test_a_transfer_is_latency_and_bytes_over_the_share_of_the_link():
    assert Channel(10 * GB, 0.001).transfer_s(5 * GB) == pytest.approx(0.501)
    assert Channel(10 * GB, 0.001, share=0.25).transfer_s(5 * GB) == pytest.approx(2.001)
    assert Channel(10 * GB, 0.001).transfer_s(0) == 0
    assert Channel().transfer_s(5 * GB) == 0


@pytest.mark.parametrize(
    ("kib_per_token", "prefill_s", "recompute_s", "bytes_per_s"),
    [(192, QWEN_1_8B, 0.074, 21.7), (128, LLAMA_8B, 0.302, 3.6), (320, LLAMA_70B, 0.315, 8.5)],
)
def test_break_even_bandwidth_of_8k_tokens(kib_per_token, prefill_s, recompute_s, bytes_per_s):
    assert prefill_s(np.array([8192]))[0] == pytest.approx(recompute_s, rel=0.01)
    assert break_even_bytes_per_s(8192, kib_per_token * KIB, prefill_s) / GB == pytest.approx(bytes_per_s, abs=0.05)


def test_at_the_break_even_bandwidth_loading_takes_as_long_as_prefilling():
    needed = break_even_bytes_per_s(4096, 128 * KIB, LLAMA_8B, latency_s=0.01)
    assert Channel(needed, 0.01).transfer_s(4096 * 128 * KIB) == pytest.approx(LLAMA_8B(np.array([4096]))[0])
    assert break_even_bytes_per_s(10, 128 * KIB, LLAMA_8B, latency_s=1) == math.inf


def test_the_smallest_prefix_worth_loading():
    """With t seconds a token to prefill, b bytes a token and latency t0 it is the first beyond t0 / (t - b / BW)."""
    linear = lambda tokens: tokens * 50e-6  # noqa: E731
    assert smallest_prefix_worth_loading(100 * KIB, Channel(1024e7, 0.01), linear, 1000) == 251  # 0.01 / (50e-6 - 1e-5)
    assert smallest_prefix_worth_loading(100 * KIB, Channel(1024e7, 0.01), linear, 250) is None
    assert smallest_prefix_worth_loading(100 * KIB, Channel(1024e7, 0.01, share=0.1), linear, 10**5) is None
    assert smallest_prefix_worth_loading(100 * KIB, Channel(), linear, 1000) == 1


def test_computing_while_loading_is_best_when_both_end_together():
    seconds, loaded = overlapped(0.3, 0.6)
    assert (seconds, loaded) == (pytest.approx(0.2), pytest.approx(2 / 3))
    shares = np.linspace(0, 1, 1001)
    assert seconds == pytest.approx(np.maximum(shares * 0.3, (1 - shares) * 0.6).min(), abs=1e-3)


@pytest.mark.parametrize(("flops_per_s", "bytes_per_s"), [(8 * 312e12, 5.86), (8 * 989e12, 18.57)])
def test_the_inequality_of_the_mooncake_paper(flops_per_s, bytes_per_s):
    """LLaMA3-70B with 8,192 tokens on 8 A800 and 8 H800; the paper prints 6 and 19 GB/s."""
    assert mooncake_bytes_per_s(flops_per_s, 8192, 8192, 8) / GB == pytest.approx(bytes_per_s, abs=0.005)


def rest_of(prompt_tokens, token_s, pair_s):
    """Prefill of what is not cached, whose tokens attend to all before them, and never less than a floor."""
    return lambda cached: np.maximum(
        0.02, (prompt_tokens - cached) * token_s + (prompt_tokens**2 - cached.astype(float) ** 2) * pair_s
    )


blocks = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**8), st.integers(1, 64)), max_size=30)
rates = st.floats(1e6, 1e11)


channels_of_three_tiers = st.builds(
    lambda dram, nvme, latency_s: [Channel(), Channel(dram, 1e-5), Channel(nvme, latency_s, share=0.5)],
    rates,
    rates,
    st.floats(0, 0.1),
)


@given(blocks, channels_of_three_tiers, st.floats(1e-6, 1e-3), st.floats(0, 1e-6))
def test_no_other_number_of_blocks_is_faster(held, channels, token_s, pair_s):
    rest_s = rest_of(2000, token_s, pair_s)
    count, fetch_s, prefill_s = leading_to_load(
        *([list(c) for c in zip(*held, strict=True)] or [[]] * 3), channels, rest_s
    )

    def of(taken):
        from_each = [sum(size for tier, size, _ in taken if tier == each) for each in range(3)]
        fetch = max(channel.transfer_s(num_bytes) for channel, num_bytes in zip(channels, from_each, strict=True))
        return fetch, float(rest_s(np.array([sum(tokens for *_, tokens in taken)]))[0])

    assert (fetch_s, prefill_s) == pytest.approx(of(held[:count]))
    assert fetch_s + prefill_s == pytest.approx(min(sum(of(held[:k])) for k in range(len(held) + 1)))


def test_fast_links_load_all_slow_ones_nothing_and_a_slow_tail_is_left():
    tiers, sizes, tokens = [0, 1, 1, 2], [1e9] * 4, [500] * 4
    rest_s = rest_of(3000, 1e-4, 0)
    assert leading_to_load(tiers, sizes, tokens, [Channel(), Channel(50e9), Channel(50e9)], rest_s).num_blocks == 4
    assert leading_to_load(tiers, sizes, tokens, [Channel(), Channel(50e9), Channel(5e9)], rest_s).num_blocks == 3
    assert leading_to_load(tiers, sizes, tokens, [Channel(), Channel(5e9), Channel(5e9)], rest_s) == (
        1,
        0,
        pytest.approx(0.25),
    )


def test_among_equals_the_most_is_loaded():
    assert leading_to_load([0, 0], [1, 1], [10, 10], [Channel()], lambda cached: cached * 0.0).num_blocks == 2
