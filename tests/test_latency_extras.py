"""What is measured beside the points: copies, ceilings and whole calls, and what the profile says about them."""

from __future__ import annotations

import pytest

from infertuner.latency.fitting.copies import copy_law
from infertuner.latency.fitting.side_sections import ceilings, copies, end_to_end, host_gap
from infertuner.latency.laws import PerToken
from infertuner.latency.machine import Ceilings, HostGap
from infertuner.latency.measuring.extras import BLOCK_TOKENS, LARGEST_COPY_BYTES, Extra, extras
from infertuner.latency.measuring.samples import ExtraVisit, Timing, Visit
from infertuner.latency.models import MODELS
from infertuner.latency.physics import SLACK, least_s, operations, read_bytes
from infertuner.latency.points import LIMITS, Point, design

BLOCK = BLOCK_TOKENS * MODELS["cpu-25m"].kv_bytes_per_token("fp32")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_copies_are_whole_blocks_up_to_the_largest_in_every_direction(device):
    beside = extras(device, LIMITS[device], design(LIMITS[device], 0), BLOCK, 0)
    assert beside == extras(device, LIMITS[device], design(LIMITS[device], 0), BLOCK, 0)
    copied = {
        kind: [one.size for one in beside if one.kind == kind]
        for kind in ("host", "host_to_device", "device_to_host", "device_to_device")
    }
    here = {kind: sizes for kind, sizes in copied.items() if sizes}
    assert set(here) == ({"host"} if device == "cpu" else {"host_to_device", "device_to_host", "device_to_device"})
    for sizes in here.values():
        assert all(size % BLOCK == 0 for size in sizes)
        assert (min(sizes), max(sizes)) == (BLOCK, LARGEST_COPY_BYTES // BLOCK * BLOCK)
        assert len(sizes) >= 7
    assert sum(one.kind == "decode_eager" for one in beside) == (6 if device == "cuda" else 0)
    for call in beside:
        if call.kind == "generate":
            assert call.batch_size in LIMITS[device].batch_sizes
            assert call.new_tokens + call.output_tokens <= LIMITS[device].max_context_tokens


def test_a_copy_law_finds_both_sides_of_a_cache():
    """1 us and 20 GB/s up to 8 MiB, then 100 us and 5 GB/s: both are found, and what lies between is predicted."""

    def truth_s(size: float) -> float:
        return 1e-6 + size / 20e9 if size < 2**23 else 1e-4 + size / 5e9

    law = copy_law({size: truth_s(size) for size in (2**p for p in range(16, 29))})
    assert len(law.segments) >= 2
    for size in (100_000, 3_000_000, 40_000_000, 200_000_000):
        assert law.copy_s(size) == pytest.approx(truth_s(size), rel=0.02)
    assert law.mean_error_ratio < 0.02
    assert law.largest_bytes == 2**28


def test_coefficients_of_a_copy_are_never_negative():
    law = copy_law({size: 1e-5 * (1 + 0.3 * (i % 2)) for i, size in enumerate(2**p for p in range(16, 26))})
    assert all(segment.alpha_s >= 0 and segment.beta_s_per_byte >= 0 for segment in law.segments)


def visited(extra: Extra, seconds: float, wall_s: float | None = None) -> ExtraVisit:
    return ExtraVisit(extra, 0, 0.0, Timing([seconds], [wall_s or seconds], [False]))


def test_ceilings_are_the_best_rates_of_the_bench():
    visits = [
        visited(Extra("matmul", size=1000), 2e-3),
        visited(Extra("matmul", size=2000), 8e-3),
        visited(Extra("read", size=10**9), 0.5),
        visited(Extra("device_to_device", size=10**9), 0.8),
    ]
    assert ceilings(visits) == Ceilings(read_bytes_per_s=2.5e9, flops_per_s=2e12)
    assert ceilings(visits[:2]) is None


def test_copies_of_too_few_sizes_make_no_law():
    assert copies([visited(Extra("host", size=2**p), 1e-5) for p in range(16, 20)]) == {}
    assert set(copies([visited(Extra("host", size=2**p), 2**p / 1e9) for p in range(16, 26)])) == {"host"}


def test_physics_counts_weights_cache_and_operations():
    """A step of one token reads every weight but the embedding, and does two operations with each."""
    config = MODELS["llama-3.1-8b"]
    step = Point("decode", 1, 1, 999, "fit")
    weights = config.num_params - config.vocab_size * config.hidden_size - config.hidden_size
    assert read_bytes(step, config, "bf16") == 2 * weights + 1000 * 128 * 1024
    norms = 2 * config.num_layers * config.hidden_size
    attention = 4 * config.num_layers * config.num_heads * config.head_dim * 1000
    assert operations(step, config) == pytest.approx(2 * weights + attention, abs=2 * norms)
    peak = Ceilings(read_bytes_per_s=4.8e12, flops_per_s=989e12)
    assert least_s(step, config, "bf16", peak) == pytest.approx(15.1e9 / 4.8e12, rel=0.01)  # the data sheet's 3.15 ms
    assert least_s(Point("prefill", 1, 8192, 0, "fit"), config, "bf16", peak) == pytest.approx(0.125, rel=0.1)
    assert SLACK > 1


def test_a_mixed_iteration_is_bound_by_all_its_work():
    config, mixed = MODELS["cpu-25m"], Point("mixed", 1, 100, 50, "fit", 7, 300)
    chunk, beside = Point("prefill", 1, 100, 50, "fit"), Point("decode", 7, 1, 299, "fit")
    assert operations(mixed, config) == operations(chunk, config) + operations(beside, config)
    cache_bytes = (150 + 7 * 300) * config.kv_bytes_per_token("fp32")
    assert (
        read_bytes(mixed, config, "fp32") - read_bytes(Point("decode", 1, 1, -1, "fit"), config, "fp32") == cache_bytes
    )


def test_the_host_gap_is_wall_minus_device_and_eager_its_own():
    steps = [
        Visit(Point("decode", size, 1, 99, "fit"), 0, 0.0, Timing([5e-3], [5e-3 + 2e-5], [False])) for size in (1, 8)
    ]
    eager = Extra("decode_eager", batch_size=8, new_tokens=1, cached_tokens=99)
    gap = host_gap("cuda", steps, [visited(eager, 0.02, 0.021)])
    assert gap.per_iteration_s == pytest.approx(2e-5)
    assert gap.eager_per_iteration_s == pytest.approx(0.016)
    on_cpu = host_gap("cpu", steps, [])
    assert (on_cpu.per_iteration_s, on_cpu.per_sequence_s) == (0, 0)
    assert "by construction" in on_cpu.how


def test_whole_calls_are_one_prefill_and_a_step_less_than_tokens():
    """A machine that follows the law and adds 1 ms a token: the law alone misses that, the host term finds it."""
    law = PerToken(kind="per_token", base_s=0.05, per_output_token_s=0.01)
    calls = [Extra("generate", batch_size=1, new_tokens=20, output_tokens=tokens) for tokens in (10, 20, 40)]
    visits = [visited(call, 0.05 + 0.01 * (call.output_tokens - 1) + 1e-3 * call.output_tokens) for call in calls]
    checks = end_to_end(visits, law, HostGap(per_iteration_s=0, per_sequence_s=0, how="none"))
    assert [check.predicted_s for check in checks] == pytest.approx([0.14, 0.24, 0.44])
    assert all(check.error_ratio < -0.05 for check in checks)
    assert [check.with_host_term_ratio for check in checks] == pytest.approx([0, 0, 0], abs=1e-6)
