"""The decoder that is measured: it computes what transformers computes, and times what it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infertuner.errors import CalibrationError
from infertuner.latency import hardware
from infertuner.latency.hardware.attention import ATTENTION, PackedCache, SlotCache, _attend, _attend_at_once
from infertuner.latency.hardware.bench import MachineBench
from infertuner.latency.hardware.timing import device_state, parse_device_state
from infertuner.latency.measuring.extras import Extra
from infertuner.latency.measuring.protocol import CannotMeasureError
from infertuner.latency.models import folder_config, shard
from infertuner.latency.points import Point
from tests.conftest import TINY_MODEL

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="needs infertuner[calibrate]")
pytest.importorskip("transformers", reason="needs infertuner[calibrate]")

TINY = replace(TINY_MODEL, family="qwen2")


@pytest.fixture(scope="module")
def decoder():
    return hardware.build_decoder(TINY, dtype="fp32", device="cpu", threads=1, kv_tokens=64, seed=0)


def test_the_parameter_count_is_the_built_models(decoder):
    assert sum(weights.numel() for weights in decoder.network.parameters()) == TINY.num_params


def test_weights_and_cache_are_not_zero(decoder):
    """Zeros run faster than numbers."""
    assert all(weights.detach().std() > 0.01 for weights in decoder.network.parameters() if weights.ndim == 2)
    assert all(tensor.std() > 0.5 for layer in decoder.arena for tensor in layer)


def test_prefill_chunk_and_decode_give_the_logits_of_one_plain_pass(decoder):
    """Behind the slot cache, without a mask, the model is still the same model."""
    ids = torch.randint(0, TINY.vocab_size, (3, 12), generator=torch.Generator().manual_seed(1))
    shape = (3, TINY.num_kv_heads, 12, TINY.head_dim)
    memory = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(TINY.num_layers)]
    with torch.inference_mode():
        decoder.network.set_attn_implementation("sdpa")
        plain = decoder.network(ids, use_cache=False).logits
        decoder.network.set_attn_implementation(ATTENTION)
        for begin, end in ((0, 5), (5, 11), (11, 12)):  # a prompt, a chunk behind it, a decode step
            cache = SlotCache([(keys[:, :, :end], values[:, :, :end]) for keys, values in memory], begin)
            positions = torch.arange(begin, end)[None]
            logits = decoder.network(ids[:, begin:end], past_key_values=cache, position_ids=positions).logits
            torch.testing.assert_close(logits, plain[:, begin:end], rtol=1e-4, atol=1e-5)


def test_a_long_chunk_behind_a_prefix_is_attended_block_by_block():
    import torch

    torch.manual_seed(0)
    queries, keys, values = torch.randn(1, 4, 600, 8), torch.randn(1, 2, 623, 8), torch.randn(1, 2, 623, 8)
    at_once = _attend_at_once(queries, keys, values, 0.3)
    torch.testing.assert_close(_attend(queries, keys, values, 0.3), at_once)


def test_a_mixed_iteration_gives_the_logits_of_its_parts_run_alone(decoder):
    """Chunk and decodes share one pass over the weights and nothing else."""
    new, cached, decodes, context = 5, 4, 3, 7
    heads, width = TINY.num_kv_heads, TINY.head_dim
    generator = torch.Generator().manual_seed(2)

    def cache(rows: int, tokens: int, filled: int) -> SlotCache:
        shape = (rows, heads, tokens, width)
        return SlotCache(
            [tuple(torch.randn(shape, generator=generator) for _ in range(2)) for _ in range(TINY.num_layers)], filled
        )

    def copy(of: SlotCache) -> SlotCache:
        return SlotCache([(keys.clone(), values.clone()) for keys, values in of.layers], of.cached_tokens)

    chunk, beside = cache(1, cached + new, cached), cache(decodes, context, context - 1)
    alone = copy(chunk), copy(beside)
    ids = torch.randint(0, TINY.vocab_size, (1, new + decodes), generator=generator)
    positions = torch.cat([torch.arange(cached, cached + new), torch.full((decodes,), context - 1)])[None]
    with torch.inference_mode():
        together = decoder.network(ids, past_key_values=PackedCache(chunk, beside, new), position_ids=positions).logits
        first = decoder.network(ids[:, :new], past_key_values=alone[0], position_ids=positions[:, :new]).logits
        second = decoder.network(ids[:, new:].T, past_key_values=alone[1], position_ids=positions[:, new:].T).logits
    torch.testing.assert_close(together[:, :new], first, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[0, new:], second[:, 0], rtol=1e-4, atol=1e-5)
    for packed, single in ((chunk, alone[0]), (beside, alone[1])):
        for written, expected in zip(packed.layers, single.layers, strict=True):
            torch.testing.assert_close(written, expected, rtol=1e-4, atol=1e-5)


POINTS = [
    Point("prefill", 2, 8, 0, "fit"),
    Point("prefill", 2, 8, 8, "fit"),
    Point("decode", 4, 1, 15, "fit"),
    Point("mixed", 1, 8, 8, "fit", 3, 16),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.kind)
def test_a_visit_times_calls_of_every_kind(decoder, point):
    timing = decoder.visit(point, target_s=0.01)
    assert 1 <= len(timing.seconds) == len(timing.wall_s) == len(timing.preempted) <= 40
    assert all(0 < seconds < 5 for seconds in timing.seconds)


@pytest.mark.parametrize(
    "extra",
    [
        Extra("host", size=4096),
        Extra("matmul", size=64),
        Extra("read", size=2**16),
        Extra("generate", batch_size=2, new_tokens=5, output_tokens=3),
        Extra("decode_eager", batch_size=2, new_tokens=1, cached_tokens=7),
    ],
    ids=lambda extra: extra.kind,
)
def test_everything_beside_the_points_is_timed_too(decoder, extra):
    timing = MachineBench(decoder).visit(extra, target_s=0.001)
    assert all(0 < seconds < 10 for seconds in timing.seconds)


def test_generate_makes_every_token_it_is_asked_for(decoder):
    with torch.inference_mode():
        call = MachineBench(decoder)._call(Extra("generate", batch_size=2, new_tokens=5, output_tokens=9))
        assert call().shape == (2, 14)


def test_copies_move_the_bytes(decoder):
    bench = MachineBench(decoder)
    call = bench._call(Extra("host", size=4096))
    source, target = bench._memory["cpu", 0], bench._memory["cpu", 1]
    call()
    assert any(torch.equal(source[at : at + 4096], target[at : at + 4096]) for at in range(0, 3 * 4096, 4096))


def test_running_out_of_memory_is_a_reason_and_nothing_else_is(decoder, monkeypatch):
    def fails_with(error):
        def step(point):
            raise error

        monkeypatch.setattr(decoder, "step", step)

    bench = MachineBench(decoder)
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("not enough memory: 9 TB")):
        fails_with(error)
        with pytest.raises(CannotMeasureError, match="out of memory"):
            bench.visit(POINTS[0], 0.01)
    fails_with(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        bench.visit(POINTS[0], 0.01)


def test_real_weights_are_run_and_a_broken_folder_is_said_in_one_line(decoder, tmp_path):
    decoder.network.save_pretrained(tmp_path)
    assert folder_config(tmp_path) == TINY
    own = hardware.build_decoder(
        folder_config(tmp_path), dtype="fp32", device="cpu", threads=1, kv_tokens=64, seed=9, weights=tmp_path
    )
    for mine, theirs in zip(own.network.parameters(), decoder.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert own.visit(POINTS[2], 0.001).seconds
    weights = next(tmp_path.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CalibrationError, match=r"weights in .* cannot be loaded") as caught:
        hardware.build_decoder(TINY, dtype="fp32", device="cpu", threads=1, kv_tokens=64, seed=9, weights=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ways", [2, 4])
def test_a_shard_is_a_decoder_that_runs(ways):
    part = shard(TINY, ways)
    decoder = hardware.build_decoder(part, dtype="fp32", device="cpu", threads=1, kv_tokens=64, seed=0)
    assert sum(weights.numel() for weights in decoder.network.parameters()) == part.num_params
    assert decoder.visit(POINTS[3], 0.001).seconds


def test_a_step_chooses_one_token_a_sequence(decoder):
    with torch.inference_mode():
        assert decoder.step(Point("decode", 4, 1, 15, "fit"))().shape == (4, 1)


def test_the_machine_is_described_without_its_name(decoder):
    machine, software = hardware.describe("cpu", threads=1)
    assert machine.name
    assert machine.memory_bytes > 2**28
    assert software.torch == torch.__version__


def test_a_missing_cuda_device_is_said_in_one_line():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert hardware.choose_device("auto") == "cpu"
    with pytest.raises(CalibrationError, match="use --device cpu"):
        hardware.choose_device("cuda")


def test_what_nvidia_smi_says_is_read():
    state = parse_device_state("1980, 2619, 41, 123.45\n")
    assert (state.sm_clock_mhz, state.memory_clock_mhz, state.temperature_c, state.power_w) == (1980, 2619, 41, 123.45)
    assert parse_device_state("1980, 2619, 41, [N/A]").power_w is None
    with pytest.raises(ValueError, match=r"."):
        parse_device_state("No devices were found")
    assert device_state("cpu") is None
