"""The decoder that is measured: it computes what transformers computes, and times what it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infertuner.errors import CalibrationError
from infertuner.latency import hardware
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
        decoder.network.set_attn_implementation(hardware.ATTENTION)
        for begin, end in ((0, 5), (5, 11), (11, 12)):  # a prompt, a chunk behind it, a decode step
            cache = hardware.SlotCache([(keys[:, :, :end], values[:, :, :end]) for keys, values in memory], begin)
            positions = torch.arange(begin, end)[None]
            logits = decoder.network(ids[:, begin:end], past_key_values=cache, position_ids=positions).logits
            torch.testing.assert_close(logits, plain[:, begin:end], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "point", [Point("prefill", 2, 8, 0, "fit"), Point("prefill", 2, 8, 8, "fit"), Point("decode", 4, 1, 15, "fit")]
)
def test_a_visit_times_calls_of_every_kind(decoder, point):
    timing = decoder.visit(point, target_s=0.01)
    assert 1 <= len(timing.seconds) == len(timing.wall_s) == len(timing.preempted) <= 40
    assert all(0 < seconds < 5 for seconds in timing.seconds)


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
