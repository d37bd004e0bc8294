"""Metrics and frames: one run worked out by hand, then what must hold for every run."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.outcomes.frames import cache_sizes_frame, capacities_frame, requests_frame, segments_frame, steps_frame
from infertuner.outcomes.latencies import TTFT_PARTS
from infertuner.outcomes.metrics import gpu_distribution, summarise
from infertuner.records import CacheLevel, CacheSizeColumns, Records, RequestColumns, Status, StepColumns, TierUse
from infertuner.sources.requests import OpenLoop, Requests

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Row:
    """One request and what became of it."""

    arrived_at_s: float = nan
    started_at_s: float = nan
    first_token_at_s: float = nan
    finished_at_s: float = nan
    gpu_id: int = -1
    output_tokens: int = 1
    cache_level: int = CacheLevel.NONE
    fetch_s: float = 0.0
    batch_size: int = 0
    cached_tokens: int = 0
    status: int = Status.UNFINISHED
    routed_at_s: float = nan
    prefill_s: float = 0.0
    others_prefill_s: float = 0.0
    others_decode_s: float = 0.0
    preemptions: int = 0
    retries: int = 0
    cache_tier: int = -1
    prefill_saved_s: float = 0.0


RECORDED = [name for name in RequestColumns.__dataclass_fields__ if name != "n"]
STEP = ("gpu_id", "started_at_s", "batch_size", "fetch_s", "prefill_s", "decode_s")
CACHE_SIZE = ("gpu_id", "at_s", "entries")


def record(rows, steps=(), cache_sizes=(), *, num_gpus=1, ended_at_s=1.0, session_id=None) -> Records:
    """The records of a run, from plain rows."""
    columns = RequestColumns(len(rows))
    for name in RECORDED:
        for index, row in enumerate(rows):
            getattr(columns, name)[index] = getattr(row, name)
    step_columns, size_columns = StepColumns(), CacheSizeColumns()
    for target, names, table in ((step_columns, STEP, steps), (size_columns, CACHE_SIZE, cache_sizes)):
        for values in table:
            for name, value in zip(names, values, strict=True):
                getattr(target, name).append(value)
    ones = np.ones(len(rows), dtype=np.int64)
    asked = Requests(
        pacing=OpenLoop(np.array([row.arrived_at_s for row in rows])),
        session_id=list(range(len(rows))) if session_id is None else session_id,
        prompt_tokens=10 * ones,
        prefix_tokens=5 * ones,
        output_tokens=np.array([row.output_tokens for row in rows], dtype=np.int64),
    )
    return Records(asked, columns, step_columns, size_columns, num_gpus, ended_at_s, events=0)


@pytest.fixture
def by_hand() -> Records:
    """Two GPUs for 10 s: three requests answered, one cut by the horizon, one never sent."""
    rows = [
        Row(0, 0, 1, 3, gpu_id=0, output_tokens=3, cache_level=CacheLevel.MISS, fetch_s=0.5, batch_size=1),
        Row(1, 3, 4, 4, gpu_id=0, output_tokens=1, cache_level=CacheLevel.LOCAL, batch_size=1, cached_tokens=5),
        Row(2, 2, 3, 7, gpu_id=1, output_tokens=5, cache_level=CacheLevel.REMOTE, fetch_s=0.1, batch_size=3),
        Row(4, 8, gpu_id=1, output_tokens=2, cache_level=CacheLevel.MISS, fetch_s=0.5, batch_size=1),
        Row(),
    ]
    steps = [(0, 0.0, 1, 0.5, 0.5, 2.0), (0, 3.0, 1, 0.0, 1.0, 0.0), (1, 2.0, 3, 0.0, 1.0, 4.0)]
    cache_sizes = [(0, 0.0, 4), (1, 0.0, 2), (0, 5.0, 8)]
    return record(rows, steps, cache_sizes, num_gpus=2, ended_at_s=10.0, session_id=["a", "b", "a", "c", "b"])


PERCENTILES = {f"{name}_p{q}_s": None for name in ("ttft", "tpot", "itl", "e2e") for q in (50, 95, 99)}
OTHERS = {
    **PERCENTILES,
    **{f"ttft_{name}_mean_s": None for name in TTFT_PARTS},
    **dict.fromkeys(("itl_mean_s", "iterations", "kv_usage_mean_ratio", "kv_usage_max_ratio")),
    **dict.fromkeys(("rejected_length", "rejected_kv", "failed", "preemptions", "retries"), 0),
    "queue_growth_p_value": 1.0, "queue_growth_ratio": None, "queue_growth_error_ratio": None,
}  # fmt: skip
"""What a short run of static batches has nothing to say about."""


def test_whole_run_by_hand(by_hand):
    assert summarise(by_hand, warmup_s=0.0) == pytest.approx(
        {
            **OTHERS,
            "requests": 5, "finished": 3, "unfinished": 2,
            "throughput_per_s": 0.3, "output_tokens_per_s": 0.9, "makespan_s": 7.0,
            "wait_mean_s": 2 / 3, "ttft_mean_s": 5 / 3, "tpot_mean_s": 1.0, "e2e_mean_s": 11 / 3,
            "batch_size_mean": 5 / 3, "utilization_ratio": (3 + 1 + 5 + 2) / 20, "gpus_mean": 2.0,
            "gpu_share_max_ratio": 2 / 3, "gpu_share_min_ratio": 1 / 3,
            "local_hit_ratio": 0.25, "remote_hit_ratio": 0.25, "hit_ratio": 0.5, "miss_ratio": 0.5,
            "cached_tokens_ratio": 5 / 40, "fetch_mean_s": 1.1 / 4, "local_entries_mean": (6 + 2) / 2,
        }
    )  # fmt: skip
    assert gpu_distribution(by_hand) == [2, 1]


def test_warm_up_by_hand(by_hand):
    """From 2 s on: latencies of the one request that arrived and finished, rates over 8 s."""
    assert summarise(by_hand, warmup_s=2.0) == pytest.approx(
        {
            **OTHERS,
            "requests": 5, "finished": 3, "unfinished": 2,
            "throughput_per_s": 3 / 8, "output_tokens_per_s": 9 / 8, "makespan_s": 7.0,
            "wait_mean_s": 0.0, "ttft_mean_s": 1.0, "tpot_mean_s": 1.0, "e2e_mean_s": 5.0,
            "batch_size_mean": 2.0, "utilization_ratio": (1 + 1 + 5 + 2) / 16, "gpus_mean": 2.0,
            "gpu_share_max_ratio": 2 / 3, "gpu_share_min_ratio": 1 / 3,
            "local_hit_ratio": 0.0, "remote_hit_ratio": 0.5, "hit_ratio": 0.5, "miss_ratio": 0.5,
            "cached_tokens_ratio": 0.0, "fetch_mean_s": 0.3, "local_entries_mean": (52 / 8 + 2) / 2,
        }
    )  # fmt: skip


def test_rates_count_completions_from_the_end_of_the_warm_up(by_hand):
    """They complete at 3, 4 and 7 s; an answer on the boundary is inside."""
    for warmup_s, completions, tokens in ((3.0, 3, 9), (3.5, 2, 6)):
        metrics = summarise(by_hand, warmup_s)
        assert metrics["throughput_per_s"] == pytest.approx(completions / (10 - warmup_s))
        assert metrics["output_tokens_per_s"] == pytest.approx(tokens / (10 - warmup_s))


@pytest.mark.parametrize("rows", [[], [Row()], [Row(0.0, gpu_id=0)]])
def test_a_run_without_answers_has_the_same_metrics_all_missing(rows, by_hand):
    ended = dict.fromkeys(("finished", "rejected_length", "rejected_kv", "failed", "preemptions", "retries"), 0)
    counts = {"requests": len(rows), "unfinished": len(rows), "queue_growth_p_value": 1.0} | ended
    idle = {"throughput_per_s": 0.0, "output_tokens_per_s": 0.0, "utilization_ratio": 0.0, "gpus_mean": 1.0}
    expected = dict.fromkeys(summarise(by_hand, 0.0)) | counts | idle
    assert summarise(record(rows), warmup_s=0.0) == expected


def test_a_run_that_ends_within_its_warm_up_has_no_rates(by_hand):
    metrics = summarise(by_hand, warmup_s=10.0)
    assert metrics["finished"] == 3
    rates = ("throughput_per_s", "output_tokens_per_s", "utilization_ratio", "local_entries_mean", "e2e_mean_s")
    assert [metrics[name] for name in rates] == [None] * len(rates)


@pytest.mark.parametrize(("name", "enough"), [("ttft_p50_s", 10), ("ttft_p95_s", 100), ("e2e_p99_s", 500)])
def test_a_percentile_wants_five_samples_beyond_it(name, enough):
    rows = [Row(0.0, 0.0, float(i), float(i), gpu_id=0) for i in range(enough)]
    assert summarise(record(rows[1:]), 0.0)[name] is None
    quantile = int(name.split("_p")[1][:2]) / 100
    assert summarise(record(rows), 0.0)[name] == pytest.approx(quantile * (enough - 1))


def test_single_tokens_do_not_count_towards_tpot_percentiles():
    """Ten requests carry a median of TTFT; nine of them have gaps between tokens, too few for one of TPOT."""
    rows = [Row(0.0, 0.0, 1.0, 2.0, gpu_id=0, output_tokens=2) for _ in range(9)] + [Row(0.0, 0.0, 1.0, 1.0, gpu_id=0)]
    metrics = summarise(record(rows), 0.0)
    assert (metrics["ttft_p50_s"], metrics["tpot_p50_s"], metrics["tpot_mean_s"]) == (1.0, None, 1.0)


def test_every_request_ends_in_exactly_one_named_state():
    rows = [Row(0.0, status=status, gpu_id=0) for status in Status for _ in range(status + 1)]
    for row in rows:
        if row.status == Status.FINISHED:
            row.started_at_s, row.first_token_at_s, row.finished_at_s = 0.0, 1.0, 2.0
    metrics, frame = summarise(record(rows), 0.0), requests_frame(record(rows))
    assert {status.name.lower(): status + 1 for status in Status} == frame["status"].value_counts().to_dict()
    assert {name: metrics[name] for name in frame["status"].unique()} == frame["status"].value_counts().to_dict()


@st.composite
def runs(draw) -> Records:
    """Static batches one after another on each GPU, cut at a horizon."""
    duration = st.floats(0.0, 10.0)
    horizon_s = draw(st.floats(0.1, 30.0))
    num_gpus = draw(st.integers(1, 3))
    rows, steps, sizes = [], [], []
    for gpu_id in range(num_gpus):
        now_s = 0.0
        sizes += [(gpu_id, 0.0, draw(st.integers(1, 50))), (gpu_id, draw(duration), draw(st.integers(1, 50)))]
        for _ in range(draw(st.integers(0, 4))):
            start_s, size = now_s + draw(duration), draw(st.integers(1, 3))
            fetch_s, prefill_s, decode_s = draw(duration), draw(duration), draw(duration)
            now_s = start_s + fetch_s + prefill_s + decode_s
            if now_s <= horizon_s:
                steps.append((gpu_id, start_s, size, fetch_s, prefill_s, decode_s))
            for _ in range(size):
                row = Row(
                    gpu_id=gpu_id, output_tokens=draw(st.integers(1, 9)), arrived_at_s=start_s * draw(st.floats(0, 1))
                )
                if start_s <= horizon_s:
                    row.started_at_s, row.batch_size = start_s, size
                    row.cache_level = draw(st.sampled_from(list(CacheLevel)))
                if now_s <= horizon_s:
                    row.first_token_at_s, row.finished_at_s = start_s + fetch_s + prefill_s, now_s
                rows.append(row if row.arrived_at_s <= horizon_s else Row(output_tokens=row.output_tokens))
    return record(rows, steps, sizes, num_gpus=num_gpus, ended_at_s=horizon_s)


warm_ups = st.floats(0.0, 30.0)


@given(runs(), warm_ups)
def test_laws_of_every_run(records, warmup_s):
    metrics = summarise(records, warmup_s)
    assert sum(metrics[status.name.lower()] for status in Status) == metrics["requests"] == len(records.asked)
    assert sum(gpu_distribution(records)) == metrics["finished"]
    ratios = [value for name, value in metrics.items() if name.endswith("_ratio") and value is not None]
    assert all(0.0 <= ratio <= 1.0 + 1e-9 for ratio in ratios)
    assert all(value is None or np.isfinite(value) for value in metrics.values())
    if metrics["hit_ratio"] is not None:
        assert metrics["local_hit_ratio"] + metrics["remote_hit_ratio"] == pytest.approx(metrics["hit_ratio"])
        assert metrics["hit_ratio"] + metrics["miss_ratio"] == pytest.approx(1.0)
    if metrics["e2e_mean_s"] is not None:
        assert metrics["wait_mean_s"] <= metrics["ttft_mean_s"] + 1e-9
        assert metrics["ttft_mean_s"] <= metrics["e2e_mean_s"] + 1e-9
        assert metrics["gpu_share_min_ratio"] * records.num_gpus <= 1.0 + 1e-9
        assert metrics["gpu_share_max_ratio"] * records.num_gpus >= 1.0 - 1e-9
    if metrics["local_entries_mean"] is not None:
        entries = records.cache_sizes.entries
        assert min(entries) - 1e-9 <= metrics["local_entries_mean"] <= max(entries) + 1e-9


def rows_of(records: Records) -> list[Row]:
    asked, columns = records.asked, records.requests
    return [
        Row(output_tokens=int(asked.output_tokens[i]), **{name: getattr(columns, name)[i] for name in RECORDED})
        for i in range(len(asked))
    ]


def with_rows(records: Records, rows: list[Row]) -> Records:
    other = record(rows, num_gpus=records.num_gpus, ended_at_s=records.ended_at_s)
    other.steps, other.cache_sizes = records.steps, records.cache_sizes
    return other


@given(runs(), warm_ups, st.randoms(use_true_random=False))
def test_the_order_of_requests_changes_nothing(records, warmup_s, chance):
    rows = rows_of(records)
    chance.shuffle(rows)
    assert summarise(with_rows(records, rows), warmup_s) == pytest.approx(summarise(records, warmup_s))


@given(runs(), warm_ups)
def test_the_warm_up_leaves_out_what_arrived_before_it(records, warmup_s):
    later = with_rows(records, [row for row in rows_of(records) if row.arrived_at_s >= warmup_s])
    whole, part = summarise(records, warmup_s), summarise(later, 0.0)
    for name in ("wait_mean_s", "ttft_mean_s", "tpot_mean_s", "e2e_mean_s", "e2e_p50_s", "hit_ratio", "fetch_mean_s"):
        assert whole[name] == pytest.approx(part[name])


def test_frame_by_hand(by_hand):
    frame = requests_frame(by_hand)
    assert list(frame["status"]) == ["finished"] * 3 + ["unfinished"] * 2
    assert list(frame["session_id"]) == ["a", "b", "a", "c", "b"]
    assert list(frame["cache_level"].astype(object).fillna("none")) == ["miss", "local", "remote", "miss", "none"]
    np.testing.assert_array_equal(frame["wait_s"], [0.0, 2.0, 0.0, 4.0, nan])
    np.testing.assert_array_equal(frame["ttft_s"], [1.0, 3.0, 1.0, nan, nan])
    np.testing.assert_array_equal(frame["tpot_s"], [1.0, nan, 1.0, nan, nan])
    np.testing.assert_array_equal(frame["e2e_s"], [3.0, 3.0, 5.0, nan, nan])
    np.testing.assert_array_equal(frame["fetch_s"], [0.5, 0.0, 0.1, 0.5, nan])
    for name in ("gpu_id", "batch_size", "cached_tokens"):
        assert list(frame[name].isna()) == [False] * 4 + [True]
    assert list(frame["cached_tokens"].dropna()) == [0, 5, 0, 0]


def test_a_request_still_fetching_at_the_horizon_was_looked_up_but_never_started():
    frame = requests_frame(record([Row(0.0, gpu_id=0, cache_level=CacheLevel.REMOTE, fetch_s=2.0, cached_tokens=5)]))
    found = frame.iloc[0]
    assert (found["cache_level"], found["fetch_s"], found["cached_tokens"]) == ("remote", 2.0, 5)
    assert found["batch_size"] is pd.NA


def test_step_and_cache_size_frames_by_hand(by_hand):
    steps, sizes = steps_frame(by_hand), cache_sizes_frame(by_hand)
    assert steps.iloc[2].to_dict() == dict(zip(STEP, (1, 2.0, 3, 0.0, 1.0, 4.0), strict=True))
    assert sizes.to_numpy().tolist() == [[0, 0.0, 4], [1, 0.0, 2], [0, 5.0, 8]]


@given(runs())
def test_missing_is_never_a_number(records):
    frame = requests_frame(records)
    assert set(frame["gpu_id"].dropna()) <= set(range(records.num_gpus))
    np.testing.assert_array_equal(frame["gpu_id"].isna(), frame["arrived_at_s"].isna())
    np.testing.assert_array_equal(frame["batch_size"].isna(), frame["started_at_s"].isna())
    assert (frame["batch_size"].dropna() >= 1).all()
    np.testing.assert_array_equal(frame["status"] == "unfinished", frame["e2e_s"].isna())
    done = frame[frame["status"] == "finished"]
    assert (done["wait_s"] <= done["ttft_s"]).all()
    assert (done["ttft_s"] <= done["e2e_s"]).all()


def test_frames_survive_parquet(by_hand, tmp_path):
    for name, frame in (("requests", requests_frame(by_hand)), ("steps", steps_frame(by_hand))):
        frame.to_parquet(tmp_path / name)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / name), frame)


def test_a_frame_cannot_change_the_records(by_hand):
    frame = requests_frame(by_hand)
    copy = frame.copy()
    copy.loc[0, "arrived_at_s"] = 99.0
    with pytest.raises(ValueError, match="read-only"):
        frame.loc[0, "arrived_at_s"] = 99.0
    assert by_hand.requests.arrived_at_s[0] == 0.0


@pytest.mark.parametrize("session_id", [[7, 8], np.array([7, 8]), range(7, 9), ("7", "8"), ["seven", 8]])
def test_every_kind_of_session_id_reaches_parquet(session_id, tmp_path):
    frame = requests_frame(record([Row(), Row()], session_id=session_id))
    frame.to_parquet(tmp_path / "requests")
    back = pd.read_parquet(tmp_path / "requests")["session_id"]
    assert [str(key) for key in back] == [str(key) for key in session_id]


def first_cells(page: Path, heading: str) -> list[str]:
    """The code words in the first column of the tables under a heading."""
    section = page.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_dictionaries_list_exactly_what_is_written(by_hand):
    metrics, results = ROOT / "docs" / "metrics.md", ROOT / "results" / "README.md"
    assert first_cells(metrics, "Per run") == list(summarise(by_hand, 0.0))
    assert first_cells(results, "requests.parquet") == ["arm", *requests_frame(by_hand)]
    assert first_cells(results, "segments.parquet") == ["arm", *segments_frame(by_hand)]
    assert first_cells(results, "steps.parquet") == ["arm", *steps_frame(by_hand)]
    assert first_cells(results, "cache_sizes.parquet") == ["arm", *cache_sizes_frame(by_hand)]
    assert first_cells(results, "tiers.parquet") == ["arm", *(column.name for column in fields(TierUse))]
    assert first_cells(results, "capacities.parquet") == ["arm", *capacities_frame(by_hand)]
