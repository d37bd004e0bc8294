"""Published kernel tables become whole iterations: lookups, sums, and what is refused."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.errors import CalibrationError
from infertuner.latency.importers import aiconfigurator, llmservingsim, splitwise
from infertuner.latency.importers.design import Counts, choose
from infertuner.latency.importers.observations import Reach
from infertuner.latency.importers.tables import Table
from infertuner.latency.points import Point

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="measured data are not here")


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 100), st.floats(0, 100))
def test_a_table_of_a_plane_is_the_plane_between_rows_and_beyond(a: float, b: float, x: float, y: float) -> None:
    rows = [((u, v), a * u + b * v) for u in (1, 7, 30) for v in (2, 3, 50)]
    assert Table(rows)(x, y) == pytest.approx(a * x + b * y, abs=1e-6)


def test_a_ragged_table_is_exact_on_its_rows() -> None:
    rows = [((1, 1), 5.0), ((1, 4), 9.0), ((3, 2), 7.0), ((3, 8), 1.0)]
    table = Table(rows)
    assert [table(*at) for at, _ in rows] == [value for _, value in rows]
    assert table(2, 2) == pytest.approx(0.5 * (5 + 4 / 3) + 0.5 * 7)


REACH = Reach(
    decode_batch=(1, 256),
    context_tokens=(16, 16384),
    prefill_batch=(1, 8),
    new_tokens=(16, 2048),
    batch_tokens=2048,
    timed_tokens=tuple(range(1, 2049)),
    kv_entries=50_000,
    cached=True,
)


@pytest.mark.parametrize("seed", range(4))
def test_a_design_has_what_was_asked_and_stays_inside(seed: int) -> None:
    points = choose(REACH, Counts(12, 13, 14), Counts(9, 8, 7), seed)
    sizes = {(role, kind): 0 for role in ("fit", "holdout") for kind in ("decode", "prefill", "mixed")}
    for point in points:
        sizes[point.role, point.kind] += 1
        assert point.batch_tokens <= REACH.batch_tokens
        assert point.kv_entries + point.decode_entries <= REACH.kv_entries + REACH.context_tokens[0] * 256
    assert list(sizes.values()) == [12, 13, 14, 9, 8, 7]
    assert len({replace(point, role="fit") for point in points}) == len(points)


def _layer_tables(folder: Path, dense_us: float = 3.0, attention_us: float = 0.01) -> Path:
    """Tables in which every dense operation costs `dense_us` a token and attention so much a KV entry."""
    folder.mkdir()
    layers = [*llmservingsim.IN_EACH_LAYER, *llmservingsim.ONCE]
    _write(
        folder / "dense.csv",
        ["layer", "tokens", "time_us"],
        [(n, t, dense_us * t) for n in layers for t in (1, 64, 2048)],
    )
    rows = [(n, t, 1.0 * t) for n in llmservingsim.PER_SEQUENCE for t in (1, 256)]
    _write(folder / "per_sequence.csv", ["layer", "sequences", "time_us"], rows)
    grid = [(c, p, n, k) for c in (0, 16, 2048) for p in (0, 16384) for n in (0, 1, 256) for k in (0, 16, 16384)]
    grid = [(c, p, n, k) for c, p, n, k in grid if (c or not p) and bool(n) == bool(k) and c + n]
    rows4 = [(c, p, n, k, attention_us * (c + p + n * k)) for c, p, n, k in grid]
    _write(folder / "attention.csv", [*llmservingsim.ATTENTION, "time_us"], rows4)
    return folder


def _write(path: Path, header: list[str], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_layers_run_as_often_as_a_decoder_runs_them(tmp_path: Path) -> None:
    path = _layer_tables(tmp_path / "rtx4090")
    steps = llmservingsim.read(path, model="llama-3.1-8b", gpu=None, tp=1).steps
    assert steps is not None
    in_layer, once = 8, 2  # two norms, six others; embedding and the last norm
    decode = 1e-6 * (32 * (in_layer * 3 * 10 + 0.01 * 10 * 500) + once * 3 * 10 + 2 * 10)
    assert steps.step_s(Point("decode", 10, 1, 499, "fit")) == pytest.approx(decode)
    mixed = 1e-6 * (32 * (in_layer * 3 * 110 + 0.01 * (100 + 50 + 10 * 500)) + once * 3 * 110 + 2 * 11)
    assert steps.step_s(Point("mixed", 1, 100, 50, "fit", 10, 500)) == pytest.approx(mixed)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("dense.csv", "time_us", "milliseconds", "no column 'time_us'"),
        ("dense.csv", "qkv_proj", "experts", "no layer 'qkv_proj'"),
        ("attention.csv", "16384", "many", "not a number"),
    ],
)
def test_a_table_that_is_not_what_it_seems_is_refused(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    path = _layer_tables(tmp_path / "rtx4090")
    (path / file).write_text((path / file).read_text().replace(old, new))
    with pytest.raises(CalibrationError, match=message):
        llmservingsim.read(path, model="llama-3.1-8b", gpu=None, tp=1)


def test_a_missing_table_and_an_unknown_gpu_are_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="--gpu"):
        llmservingsim.read(_layer_tables(tmp_path / "some-gpu"), model="llama-3.1-8b", gpu=None, tp=1)
    with pytest.raises(CalibrationError, match="--model"):
        llmservingsim.read(tmp_path / "some-gpu", model=None, gpu="h200", tp=1)
    with pytest.raises(CalibrationError, match="no such file"):
        llmservingsim.read(tmp_path / "nothing-llama-3.1-8b", model=None, gpu="h200", tp=1)


def test_layer_tables_know_whether_prefixes_were_measured(tmp_path: Path) -> None:
    path = _layer_tables(tmp_path / "rtx4090")
    for measured in (True, False):
        steps = llmservingsim.read(path, model="llama-3.1-8b", gpu=None, tp=1).steps
        assert steps is not None
        assert steps.reach.cached is measured
        attention = pd.read_csv(path / "attention.csv")
        attention[attention.kv_prefill == 0].to_csv(path / "attention.csv", index=False)


FLOPS_PER_S, BYTES_PER_S = 0.25e15, 1.2e12
"""Of products and weights; halves of what they are, since a product is two operations and a weight two bytes."""


def _aiconfigurator_tables(folder: Path, fp8_s: float = 1e-9) -> Path:
    """Tables of a GPU that reads and computes one after the other, beside fp8 rows that must not count."""
    folder.mkdir()
    sizes = (16, 4096, 16384, 65536)
    gemm = [
        (dtype, m, n, k, 1e3 * (m * n * k / FLOPS_PER_S + n * k / BYTES_PER_S) if dtype == "bfloat16" else fp8_s)
        for dtype in ("bfloat16", "fp8") for m in (1, 512, 16384) for n in sizes for k in sizes
    ]  # fmt: skip
    heads = {"num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "window_size": 0}
    kinds = {"attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16"}
    shapes = [(b, s) for b in (1, 256) for s in (16, 4096)]
    context = [{"batch_size": b, "isl": s, "step": 0, **heads, **kinds, "latency": 1e-5 * b * s * s} for b, s in shapes]
    generation = [
        {"batch_size": b, "isl": 1, "step": s - 1, **heads, **kinds, "latency": 1e-5 * b * s} for b, s in shapes
    ]
    frame = pd.DataFrame(gemm, columns=["gemm_dtype", "m", "n", "k", "latency"])
    for name, table in (("gemm", frame), ("context_attention", pd.DataFrame(context))):
        table.to_parquet(folder / f"h200_{name}_perf.parquet")
    pd.DataFrame(generation).to_parquet(folder / "h200_generation_attention_perf.parquet")
    return folder


def test_matrix_products_of_one_model_are_added_up(tmp_path: Path) -> None:
    found = aiconfigurator.read(_aiconfigurator_tables(tmp_path / "aic"), model="llama-3.1-8b", gpu=None, tp=1)
    assert found.steps is not None
    assert found.left_out == []
    weights, head = 32 * (4096 * (6144 + 4096 + 2 * 14336) + 14336 * 4096), 4096 * 128256
    products_s = (512 * weights + head) / FLOPS_PER_S + (weights + head) / BYTES_PER_S
    attention_s = 32 * 1e-8 * 512**2
    assert found.steps.step_s(Point("prefill", 1, 512, 0, "fit")) == pytest.approx(products_s + attention_s)


def test_rows_faster_than_the_gpu_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = _aiconfigurator_tables(tmp_path / "aic")
    path = folder / "h200_gemm_perf.parquet"
    table = pd.read_parquet(path)
    table.loc[(table.gemm_dtype == "bfloat16") & (table.m == 512) & (table.n == 65536), "latency"] = 1e-6
    table.to_parquet(path)
    found = aiconfigurator.read(folder, model="llama-3.1-8b", gpu=None, tp=1)
    assert found.left_out == [f"{path.name}: 4 of 48 rows are faster than NVIDIA H200 can be"]


def test_attention_behind_a_prefix_does_not_count_as_attention_without(tmp_path: Path) -> None:
    folder = _aiconfigurator_tables(tmp_path / "aic")
    path = folder / "h200_context_attention_perf.parquet"
    table = pd.read_parquet(path)
    pd.concat([table, table.assign(step=1024, latency=9 * table.latency)]).to_parquet(path)
    point = Point("prefill", 1, 512, 0, "fit")
    with_them, without = (
        aiconfigurator.read(at, model="llama-3.1-8b", gpu=None, tp=1).steps
        for at in (folder, _aiconfigurator_tables(tmp_path / "plain"))
    )
    assert with_them is not None
    assert without is not None
    assert with_them.step_s(point) == without.step_s(point)
    assert not with_them.reach.cached


@needs_data
def test_h200_tables_give_what_the_study_found() -> None:
    steps = aiconfigurator.read(DATA / "published_gpu", model="llama-3.1-8b", gpu="h200", tp=1).steps
    assert steps is not None
    published_ms = {(1, 1023): 4.6, (32, 1023): 6.3, (128, 1023): 10.2}  # with norms clamped in; ours lacks those
    for (batch, cached), milliseconds in published_ms.items():
        assert 1e3 * steps.step_s(Point("decode", batch, 1, cached, "fit")) == pytest.approx(milliseconds, rel=0.08)


@needs_data
def test_splitwise_leaves_out_what_is_synthetic_or_stopped_early() -> None:
    path = DATA / "published_gpu" / "splitwise-perf-model.csv"
    found = splitwise.read(path, model=None, gpu="h100-80gb", tp=8)
    assert {one.point.kind for one in found.observations} == {"prefill", "decode"}
    assert len(found.observations) == 2 * 75  # 13 shapes of 5 runs, one of them 15 times
    with pytest.raises(CalibrationError, match="--tp"):
        splitwise.read(path, model=None, gpu="h100-80gb", tp=1)
    with pytest.raises(CalibrationError, match="bloom"):
        splitwise.read(path, model="bloom-176b", gpu="h100-80gb", tp=8)
