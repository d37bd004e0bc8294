"""What a calibration measures, and the models it can build."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from infertuner.errors import CalibrationError
from infertuner.latency.models import MODELS, folder_config, model_config, shape_config, shard
from infertuner.latency.points import LIMITS, Limits, Point, design, jittered


@pytest.fixture(params=["cpu", "cuda"])
def limits(request):
    return LIMITS[request.param]


def shape(point):
    return replace(point, role="fit")


def test_attended_pairs_are_counted_one_by_one():
    point = Point("prefill", 3, 4, 10, "fit")
    assert point.attended_pairs == 3 * (11 + 12 + 13 + 14)
    assert (point.batch_tokens, point.context_tokens, point.kv_entries) == (12, 14, 42)


def test_equal_seeds_give_equal_designs_and_others_do_not(limits):
    assert design(limits, 7) == design(limits, 7)
    assert design(limits, 7) != design(limits, 8)


def test_no_point_is_measured_twice_and_held_out_points_are_never_fitted(limits):
    points = design(limits, 0)
    assert len({shape(point) for point in points}) == len(points)
    for kind in ("prefill", "decode", "mixed"):
        assert sum((point.kind, point.role) == (kind, "holdout") for point in points) >= 7


def test_every_point_is_within_the_limits(limits):
    for point in design(limits, 0):
        if point.role == "fit":
            assert point.batch_size in limits.batch_sizes
        assert min(limits.batch_sizes) <= point.batch_size <= max(limits.batch_sizes)
        assert point.context_tokens <= limits.max_context_tokens
        assert point.kind == "decode" or 2 <= point.new_tokens <= point.batch_tokens <= limits.max_batch_tokens
        assert point.kv_entries + point.decode_entries <= max(limits.batch_sizes) * limits.max_context_tokens
        if point.kind == "mixed":
            assert 1 <= point.decodes < max(limits.batch_sizes)
            assert 2 <= point.decode_context_tokens <= limits.max_context_tokens


def test_decode_is_judged_at_batch_sizes_nobody_fitted():
    held = [point for point in design(LIMITS["cuda"], 0) if (point.kind, point.role) == ("decode", "holdout")]
    assert sum(point.batch_size not in LIMITS["cuda"].batch_sizes for point in held) >= 3


def test_fitted_points_span_the_box_and_every_batch_size(limits):
    fitted = [point for point in design(limits, 0) if point.role == "fit"]
    decode = [point for point in fitted if point.kind == "decode"]
    prefill = [point for point in fitted if point.kind == "prefill"]
    assert {point.batch_size for point in decode} == set(limits.batch_sizes)
    for size in limits.batch_sizes:
        contexts = [point.context_tokens for point in decode if point.batch_size == size]
        assert (min(contexts), max(contexts)) == (1, limits.max_context_tokens)
    assert max(point.context_tokens for point in prefill) == limits.max_context_tokens
    assert max(point.batch_size for point in prefill) == max(limits.batch_sizes)
    assert max(point.batch_tokens for point in prefill) >= 0.9 * limits.max_batch_tokens
    assert any(point.cached_tokens > 0 for point in prefill)


def test_mixed_points_reach_the_corners_and_keep_apart(limits):
    mixed = [point for point in design(limits, 0) if (point.kind, point.role) == ("mixed", "fit")]
    assert len(mixed) == limits.mixed
    assert {point.decodes for point in mixed} >= {1, max(limits.batch_sizes) - 1}
    assert {point.decode_context_tokens for point in mixed} >= {2, limits.max_context_tokens}
    assert sum(point.cached_tokens == 0 for point in mixed) >= 3
    assert sum(point.cached_tokens > 0 for point in mixed) >= 3
    assert len({point.new_tokens for point in mixed}) >= limits.mixed // 2


def test_where_one_sequence_fits_nothing_is_mixed():
    assert not any(point.kind == "mixed" for point in design(Limits((1,), 128, 128, mixed=8), 0))


def test_inner_sizes_are_off_the_power_of_two_grid():
    inner = [size for seed in range(20) for size in jittered(1, 2048, 18, random.Random(seed))[1:-1] if size > 16]
    powers = sum(size & (size - 1) == 0 for size in inner)
    assert powers / len(inner) < 0.05


def test_a_small_kv_cache_leaves_out_the_largest_batches():
    limits = Limits((1, 2, 4, 8), max_context_tokens=100, max_batch_tokens=200, mixed=8)
    assert limits.within_kv(450).batch_sizes == (1, 2, 4)
    assert limits.within_kv(99).batch_sizes == ()


def test_large_batches_stop_at_the_context_that_fits():
    """80 GB for an 8 B model: 264 sequences fit, but not at 8192 tokens each."""
    limits = LIMITS["cuda"].within_kv(400_000)
    assert limits.batch_sizes == LIMITS["cuda"].batch_sizes
    points = design(limits, 0)
    assert all(point.kv_entries + point.decode_entries <= 400_000 for point in points)
    assert all(point.cached_tokens >= 0 for point in points)
    assert all(point.decode_context_tokens >= 2 for point in points if point.kind == "mixed")
    assert len(points) >= 0.9 * len(design(LIMITS["cuda"], 0))
    longest = {size: max(p.context_tokens for p in points if p.batch_size == size) for size in (1, 40, 264)}
    assert longest == {1: 8192, 40: 8192, 264: 400_000 // 264}


@pytest.mark.parametrize("kv_tokens", [600, 1100, 5000, 20_000])
def test_a_design_for_little_memory_stays_within_it(kv_tokens):
    for seed in range(5):
        for point in design(LIMITS["cuda"].within_kv(kv_tokens), seed):
            assert point.kv_entries + point.decode_entries <= kv_tokens
            assert point.new_tokens >= 1
            assert point.cached_tokens >= 0
            assert point.kind != "mixed" or point.decode_context_tokens >= 2


@pytest.mark.parametrize(
    ("name", "params", "kv_kib_bf16"),
    [
        # Published parameter counts and KV bytes per token of the same shapes.
        ("qwen2.5-0.5b", 494_032_768, 12),
        ("qwen2.5-1.5b", 1_543_714_304, 28),
        ("qwen2.5-7b", 7_615_616_512, 56),
        ("qwen1.5-1.8b", 1_836_828_672, 192),
        ("llama-3.1-8b", 8_030_261_248, 128),
        ("mistral-7b-v0.3", 7_248_023_552, 128),
        ("falcon3-7b", 7_455_550_464, 112),
    ],
)
def test_bundled_shapes_have_the_published_sizes(name, params, kv_kib_bf16):
    assert MODELS[name].num_params == params
    assert MODELS[name].kv_bytes_per_token("bf16") == kv_kib_bf16 * 1024
    assert MODELS[name].kv_bytes_per_token("fp32") == 2 * kv_kib_bf16 * 1024


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(CalibrationError, match="'gpt-2' is not known; choose one of cpu-25m"):
        model_config("gpt-2")


def test_a_shape_is_written_out_with_its_defaults():
    config = shape_config("layers=2, hidden=64,heads=4,kv_heads=2,intermediate=96,vocab=128")
    assert (config.num_layers, config.num_kv_heads, config.head_dim) == (2, 2, 16)
    assert shape_config("layers=2,hidden=64,heads=4,intermediate=96,vocab=128").num_kv_heads == 4


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("layers=2", "heads, hidden, intermediate, vocab missing"),
        ("layer=2", "'layer' is not a size; choose from layers"),
        ("layers=two", "layers is 'two'; write a whole number"),
        ("layers=2,hidden=64,heads=4,kv_heads=3,intermediate=96,vocab=128", "4 heads cannot share 3 KV heads"),
        ("layers=2,hidden=60,heads=4,intermediate=96,vocab=128", "head_dim is 15"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_in_one_line(text, complaint):
    with pytest.raises(CalibrationError, match=f"^--shape: .*{complaint}") as caught:
        shape_config(text)
    assert "\n" not in str(caught.value)


def test_a_shard_has_its_part_of_everything_but_the_hidden_size():
    whole, quarter = MODELS["llama-3.1-8b"], shard(MODELS["llama-3.1-8b"], 4)
    assert (quarter.num_heads, quarter.num_kv_heads, quarter.intermediate_size) == (8, 2, 3584)
    assert (quarter.hidden_size, quarter.num_layers, quarter.head_dim) == (4096, 32, 128)
    norms = (2 * whole.num_layers + 1) * whole.hidden_size  # every shard has them whole
    assert 4 * (quarter.num_params - norms) == whole.num_params - norms
    assert shard(whole, 16).num_kv_heads == 1
    with pytest.raises(CalibrationError, match="--tp: num_heads 32 cannot be divided by 3"):
        shard(whole, 3)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "no readable config"),
        ("[]", "no readable config"),
        ('{"model_type": "mamba"}', "of type 'mamba'"),
        ('{"model_type": "llama", "hidden_size": 64}', "lacks num_hidden_layers"),
        ('{"model_type": "mistral", "sliding_window": 4096}', "sliding window"),
    ],
)
def test_a_folder_that_is_no_decoder_is_refused_in_one_line(tmp_path, content, complaint):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CalibrationError, match=complaint) as caught:
        folder_config(tmp_path)
    assert "\n" not in str(caught.value)
