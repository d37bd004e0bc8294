"""What outcomes expand from an engine's rows is what happened, token by token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infertuner.experiments.runs import run_arm
from infertuner.outcomes.latencies import TTFT_PARTS, ttft_parts
from infertuner.outcomes.metrics import summarise
from infertuner.outcomes.segments import Gaps, instants, over_time
from infertuner.scenario.study import study_from
from tests.conftest import ROOT
from tests.walked import Walked, walk


@st.composite
def walks(draw) -> Walked:
    """A busy GPU: bursts, few blocks, so that requests wait and some are preempted."""
    n = draw(st.integers(1, 30))
    arrived_at_s = np.cumsum(draw(st.lists(st.sampled_from([0.0, 0.01, 0.3, 2.0]), min_size=n, max_size=n)))
    tokens = st.lists(st.integers(1, 25), min_size=n, max_size=n)
    return walk(
        arrived_at_s.tolist(), draw(tokens), draw(tokens),
        max_num_seqs=draw(st.integers(1, 8)), blocks=draw(st.integers(14, 40)),
        noise_permille=draw(st.none() | st.lists(st.integers(900, 1200), min_size=1, max_size=9)),
    )  # fmt: skip


def gaps_of(walked: Walked) -> np.ndarray:
    return np.concatenate([np.diff(tokens_at_s) for tokens_at_s in walked.tokens_at_s])


@settings(deadline=None, max_examples=50)
@given(walks(), st.integers(1, 40))
def test_rows_expand_to_the_iterations_that_were_run(walked, block):
    """However small the blocks, and across the noise ring's end."""
    everyone = np.arange(len(walked.records.segments.gpu_id))
    parts = list(instants(walked.records, everyone, block))
    assert all(len(part.duration_s) == part.lengths.sum() <= block for part, _ in parts)
    started_at_s = np.concatenate([began_at_s for _, began_at_s in parts])
    duration_s = np.concatenate([part.duration_s for part, _ in parts])
    truth = np.array(walked.iterations)
    np.testing.assert_allclose(started_at_s, truth[:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(duration_s, truth[:, 1] - truth[:, 0], rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(walks())
def test_gaps_batches_and_work_are_those_of_every_token(walked):
    metrics, gaps = summarise(walked.records, 0.0), gaps_of(walked)
    start_s, end_s, sequences, blocks = np.array(walked.iterations).T
    assert metrics["itl_mean_s"] == (pytest.approx(gaps.mean()) if gaps.size else None)
    for q, enough in ((50, 10), (95, 100), (99, 500)):
        expected = pytest.approx(np.percentile(gaps, q), rel=2e-4) if gaps.size >= enough else None
        assert metrics[f"itl_p{q}_s"] == expected
    assert metrics["iterations"] == len(sequences)
    assert metrics["batch_size_mean"] == pytest.approx(sequences.mean())
    assert metrics["utilization_ratio"] == pytest.approx((end_s - start_s).sum() / walked.records.ended_at_s)
    capacity = walked.records.kv_blocks[0]
    assert metrics["kv_usage_max_ratio"] == pytest.approx(blocks.max() / capacity)
    mean = (blocks * (end_s - start_s)).sum() / walked.records.ended_at_s / capacity
    assert metrics["kv_usage_mean_ratio"] == pytest.approx(mean, abs=8 / capacity), "within a block a sequence"
    assert metrics["preemptions"] == len(walked.records.stalls.request_id), "all had a token"


@settings(deadline=None, max_examples=50)
@given(walks(), st.floats(0.0, 3.0))
def test_the_window_leaves_out_iterations_that_began_before_it(walked, warmup_s):
    metrics = summarise(walked.records, warmup_s)
    start_s = np.array(walked.iterations)[:, 0]
    near = np.abs(start_s - warmup_s) < 1e-9
    assert abs(metrics["iterations"] - (start_s >= warmup_s).sum()) <= near.sum()


@settings(deadline=None, max_examples=50)
@given(walks())
def test_the_parts_of_a_ttft_sum_to_it_and_waiting_is_the_time_in_the_queue(walked):
    records = walked.records
    metrics, parts = summarise(records, 0.0), ttft_parts(records)
    assert parts is not None
    assert list(parts) == list(TTFT_PARTS)
    assert sum(metrics[f"ttft_{name}_mean_s"] for name in TTFT_PARTS) == pytest.approx(metrics["ttft_mean_s"])
    queued_s = np.asarray(records.requests.started_at_s) - np.asarray(records.requests.arrived_at_s)
    np.testing.assert_allclose(parts["waiting"], queued_s, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(walks(), st.integers(1, 50), st.integers(1, 20))
def test_curves_over_time_have_the_areas_of_what_was_run(walked, bins, block):
    """Bin by bin against the iterations themselves; KV blocks within one a sequence."""
    edges_s = np.linspace(0.0, walked.records.ended_at_s, bins + 1)
    found = over_time(walked.records, edges_s, block)
    start_s, end_s, sequences, blocks = np.array(walked.iterations).T
    overlap_s = np.minimum(end_s, edges_s[1:, None]) - np.maximum(start_s, edges_s[:-1, None])
    share = np.maximum(overlap_s, 0.0) / np.diff(edges_s)[:, None]
    np.testing.assert_allclose(found.busy_gpus, share.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(found.running, share @ sequences, atol=1e-9)
    assert (np.abs(found.kv_blocks - share @ blocks) <= share @ sequences + 1e-9).all()
    busy = found.busy_gpus > 1e-9
    np.testing.assert_allclose(found.batch_size()[busy], (share @ sequences)[busy] / share.sum(axis=1)[busy])


@given(st.lists(st.tuples(st.floats(1e-6, 1e4), st.integers(0, 50)), min_size=1), st.floats(0, 100))
def test_weighted_percentiles_are_those_of_every_single_gap(pairs, q):
    gaps = Gaps()
    for seconds, weight in pairs:
        gaps.add(np.array([seconds]), np.array([weight]))
    single = np.repeat(*(np.array(column) for column in zip(*pairs, strict=True)))
    assert gaps.count == single.size
    if single.size:
        assert gaps.mean_s() == pytest.approx(single.mean())
        assert gaps.percentile_s(q) == pytest.approx(np.percentile(single, q), rel=1e-4)
    else:
        assert gaps.mean_s() is None


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_gaps_in_which_answers_wait_for_whole_prompts(data):
    """Prefill first: sequences stand still for the prompts of others, also several iterations in a row."""
    n = data.draw(st.integers(1, 20))
    arrived_at_s = np.cumsum(data.draw(st.lists(st.sampled_from([0.0, 0.02, 0.1, 2.0]), min_size=n, max_size=n)))
    prompts = data.draw(st.lists(st.integers(1, 25), min_size=n, max_size=n))
    outputs = data.draw(st.lists(st.integers(2, 25), min_size=n, max_size=n))
    ring = data.draw(st.none() | st.lists(st.integers(900, 1200), min_size=1, max_size=9))
    walked = walk(
        arrived_at_s.tolist(), prompts, outputs, max_num_seqs=6, blocks=data.draw(st.integers(14, 40)),
        noise_permille=ring, prefill_first=True,
    )  # fmt: skip
    metrics, gaps = summarise(walked.records, 0.0), gaps_of(walked)
    assert metrics["itl_mean_s"] == pytest.approx(gaps.mean())
    for q, enough in ((50, 10), (95, 100)):
        if gaps.size >= enough:
            assert metrics[f"itl_p{q}_s"] == pytest.approx(np.percentile(gaps, q), rel=2e-4)


def test_equal_gaps_have_exact_percentiles():
    gaps = Gaps()
    gaps.add(np.full(1000, 0.0123), np.full(1000, 7))
    assert gaps.percentile_s(99) == pytest.approx(0.0123, rel=1e-12)


def test_a_preempted_request_has_its_long_gap():
    """Two grow until one must go; its gap spans the time in which the other finished and it was computed again."""
    walked = walk([0.0, 0.0], [4, 4], [12, 12], max_num_seqs=2, blocks=6)
    stalls = walked.records.stalls
    assert list(stalls.request_id) == [1]
    assert stalls.next_token_at_s[0] - stalls.last_token_at_s[0] == pytest.approx(gaps_of(walked).max())
    assert summarise(walked.records, 0.0)["preemptions"] == 1


ENGINES = [
    {"kind": "continuous", "num_gpu_blocks": 2000},
    {"kind": "continuous", "num_gpu_blocks": 90, "max_num_seqs": 16, "max_num_batched_tokens": 128},
    {"kind": "prefill_first", "num_gpu_blocks": 2000, "max_num_seqs": 16},
    {"kind": "prefill_first", "num_gpu_blocks": 90, "max_num_seqs": 16},
]


@pytest.mark.parametrize("batcher", ENGINES, ids=["roomy", "preempting", "prefill first", "prefill first, preempting"])
def test_gaps_expanded_from_a_real_run_are_those_between_first_and_last_tokens(tiny, batcher):
    """Every gap of an answered request lies between its first and last token, and they sum to that time."""
    tiny["workload"] |= {"requests": 400, "arrivals": {"kind": "poisson", "per_s": 20}}
    tiny["workload"]["prompt_tokens"] = {"kind": "uniform", "min_tokens": 1, "max_tokens": 400}
    tiny["workload"]["output_tokens"] = {"kind": "uniform", "min_tokens": 2, "max_tokens": 200}
    tiny["cluster"]["batcher"] = batcher
    tiny["latency"] = {"kind": "per_token", "base_s": "5ms", "per_prompt_token_s": "50us", "per_output_token_s": "5ms"}
    records = run_arm(study_from(tiny, ROOT).arms[0])
    requests, metrics = records.requests, summarise(records, 0.0)
    assert metrics["finished"] == metrics["requests"] == 400
    assert (metrics["preemptions"] > 0) == (batcher["num_gpu_blocks"] == 90)
    generating_s = np.asarray(requests.finished_at_s) - np.asarray(requests.first_token_at_s)
    gaps = int((records.asked.output_tokens - 1).sum())
    assert metrics["itl_mean_s"] == pytest.approx(generating_s.sum() / gaps, rel=1e-9)
    counted = np.asarray(records.segments.decodes) @ np.asarray(records.segments.iterations)
    assert counted + len(records.stalls.request_id) == gaps
    parts = ttft_parts(records)
    assert parts is not None
    queued_s = np.asarray(requests.started_at_s) - np.asarray(requests.routed_at_s)
    np.testing.assert_allclose(parts["waiting"], queued_s, rtol=0, atol=1e-9)
