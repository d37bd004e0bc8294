"""What only a GPU can show. Runs wherever CUDA is; everywhere else the same code paths are tested on the CPU."""

from __future__ import annotations

import pytest

from infertuner.latency import hardware
from infertuner.latency.measuring.extras import Extra
from infertuner.latency.measuring.protocol import CannotMeasureError
from infertuner.latency.points import Point
from tests.conftest import TINY_MODEL

pytestmark = [pytest.mark.torch, pytest.mark.gpu]
torch = pytest.importorskip("torch", reason="needs infertuner[calibrate]")
pytest.importorskip("transformers", reason="needs infertuner[calibrate]")
if not torch.cuda.is_available():
    pytest.skip("torch sees no CUDA device here", allow_module_level=True)

POINTS = [
    Point("decode", 3, 1, 40, "fit"),
    Point("prefill", 2, 12, 0, "fit"),
    Point("prefill", 2, 12, 20, "fit"),
    Point("mixed", 1, 12, 20, "fit", 3, 40),
]


@pytest.fixture(scope="module")
def bench():
    return hardware.build_bench(TINY_MODEL, dtype="bf16", device="cuda", threads=1, kv_tokens=512, seed=0)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.kind}-{point.cached_tokens}")
def test_a_replayed_graph_chooses_the_tokens_of_the_eager_step(bench, point):
    """Were a mask built during capture, another kernel would run; were inputs lost, other tokens would come out."""
    decoder = bench.decoder
    with torch.inference_mode():
        step = decoder.step(point)
        eager = step().clone()
        replay = decoder.graphs.replay(("test", point), lambda: step)
        for _ in range(3):
            torch.randn(2**20, device="cuda")  # memory that was freed by mistake would be overwritten
            replayed = replay().clone()
        torch.cuda.synchronize()
    assert (eager == replayed).float().mean() > 0.9  # bf16 ties may fall either way


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.kind}-{point.cached_tokens}")
def test_device_seconds_are_within_wall_seconds(bench, point):
    timing = bench.visit(point, 0.02)
    assert all(0 < device <= wall for device, wall in zip(timing.seconds, timing.wall_s, strict=True))


def test_a_replayed_decode_is_faster_than_an_eager_one(bench):
    eager = Extra("decode_eager", batch_size=3, new_tokens=1, cached_tokens=40)
    assert bench.visit(POINTS[0], 0.05).median_s < bench.visit(eager, 0.05).median_s


@pytest.mark.parametrize("kind", ["host_to_device", "device_to_host", "device_to_device"])
def test_copies_take_longer_the_larger_they_are(bench, kind):
    small, large = (bench.visit(Extra(kind, size=size), 0.02).median_s for size in (2**16, 2**27))
    assert 0 < small < large
    assert 2**27 / large < 20e12


def test_a_step_that_does_not_fit_is_said_and_the_next_one_runs(bench):
    with pytest.raises(CannotMeasureError, match="out of memory"):
        bench.visit(Extra("matmul", size=2**18), 0.01)
    assert bench.visit(POINTS[0], 0.01).seconds


def test_clocks_are_told_or_unknown(bench):
    state = bench.state()
    assert state is None or state.sm_clock_mhz > 0
