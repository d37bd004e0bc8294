"""Exports against hand-computed values, against the metrics of the same run, and read back."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from infertuner import simulate, validate
from infertuner.experiments.runs import run_arm
from infertuner.outcomes.exports.aiperf import aiperf_records, aiperf_summary
from infertuner.outcomes.exports.client import About, client_of
from infertuner.outcomes.exports.llmd import llmd_report
from infertuner.outcomes.exports.tokens import token_gaps_s
from infertuner.outcomes.exports.vllm import vllm_result
from infertuner.outcomes.metrics import summarise
from infertuner.outcomes.window import finished, view
from infertuner.records import RequestColumns, SegmentColumns, StallColumns, Status
from infertuner.scenario import yaml12
from infertuner.scenario.study import study_from
from infertuner.validation.files import read_measured
from infertuner.validation.runs import run_of
from tests.conftest import ROOT

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)
SMALL = {"kind": "continuous", "num_gpu_blocks": 45, "max_num_seqs": 16, "max_num_batched_tokens": 128}
ENGINES = {
    "roomy": {"kind": "continuous", "num_gpu_blocks": 4000},
    "preempting": {**SMALL, "long_prefill_token_threshold": 40},
    "prefill first": {**SMALL, "kind": "prefill_first", "num_gpu_blocks": 60, "max_num_batched_tokens": 512},
}


def about(**changes):
    given = {"scenario": "tiny", "description": "", "latency": "a law", "parameters": {"cluster.gpus": "2"}}
    return About(**given | {"seed": 3, "warmup_s": 0.0, "metrics": {"preemptions": 0}} | changes)


def served(tiny, batcher, **changes):
    tiny["workload"] |= {
        "requests": 120,
        "arrivals": {"kind": "poisson", "per_s": 20},
        "prompt_tokens": {"kind": "lognormal", "mean_tokens": 100, "cv": 1, "max_tokens": 400},
        "output_tokens": {"kind": "uniform", "min_tokens": 1, "max_tokens": 60},
    }
    tiny["cluster"]["batcher"] = batcher
    if batcher["kind"] != "none":
        tiny["latency"] = {
            "kind": "profile",
            "path": "calibration/public-rtx4090-llama-3.1-8b.json",
            "out_of_range": "extrapolate",
        }
    return run_arm(study_from(tiny | changes, ROOT).arms[0])


@pytest.fixture
def by_hand(tiny):
    """Two requests of one engine and one that was rejected; iterations end at 1, 2, 3, 4 and 6 s.

    Request 0 has its tokens at 1, 2, 4 and 6 (it is preempted between 2 and 4); request 1 at 2, 3 and 4.
    """
    records = run_arm(study_from(tiny | {"replications": 1}).arms[0])
    records.asked = type(records.asked)(
        pacing=records.asked.pacing,
        session_id=["ann", "ann", "bob"],
        prompt_tokens=np.array([10, 20, 30]),
        prefix_tokens=np.zeros(3, dtype=np.int64),
        output_tokens=np.array([4, 3, 9]),
    )
    records.requests = RequestColumns(3)
    for row, (sent, first, last) in enumerate(((0.5, 1.0, 6.0), (0.75, 2.0, 4.0))):
        records.requests.arrived_at_s[row] = records.requests.started_at_s[row] = sent
        records.requests.first_token_at_s[row], records.requests.finished_at_s[row] = first, last
        records.requests.gpu_id[row] = 0
    records.requests.arrived_at_s[2] = 2.25
    records.requests.status[2] = Status.REJECTED_KV
    records.segments = SegmentColumns()
    for start, end, iterations, decodes in ((0.5, 1, 1, 0), (1, 4, 3, 1), (4, 6, 1, 1)):
        for name in ("gpu_id", "iteration", "prefills", "prefill_tokens", "kv_entries", "kv_blocks", "waiting"):
            getattr(records.segments, name).append(0)
        records.segments.started_at_s.append(start)
        records.segments.ended_at_s.append(end)
        records.segments.iterations.append(iterations)
        records.segments.first_s.append((end - start) / iterations)
        records.segments.rise_s.append(0.0)
        records.segments.decodes.append(decodes)
    records.stalls = StallColumns()
    records.stalls.request_id.append(0)
    records.stalls.last_token_at_s.append(2.0)
    records.stalls.next_token_at_s.append(4.0)
    records.noise_permille, records.ended_at_s = [], 6.0
    return records


def test_tokens_come_at_the_ends_of_iterations_and_not_during_a_preemption(by_hand):
    assert [gaps.tolist() for gaps in token_gaps_s(by_hand)] == [[1.0, 2.0, 2.0], [1.0, 1.0], []]


def test_the_vllm_file_by_hand(by_hand):
    result = vllm_result(client_of(by_hand, 0.0), about(), NOW)
    assert result["date"] == "20261123-040506"
    assert (result["num_prompts"], result["completed"], result["failed"]) == (3, 2, 1)
    assert result["cluster.gpus"] == "2"
    assert result["duration"] == 5.5
    assert result["request_throughput"] == pytest.approx(2 / 5.5)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (30, 7)
    assert result["total_token_throughput"] == pytest.approx(37 / 5.5)
    assert result["output_lens"] == [4, 3, 0]
    assert result["ttfts"] == [0.5, 1.25, 0.0]
    assert result["latencies"] == [5.5, 3.25, 0.0]
    assert result["itls"] == [[1.0, 2.0, 2.0], [1.0, 1.0], []]
    assert result["errors"][:2] == ["", ""]
    assert "KV blocks" in result["errors"][2]
    assert result["mean_ttft_ms"] == pytest.approx(875)
    assert result["mean_tpot_ms"] == pytest.approx(1000 * (5 / 3 + 1) / 2)
    assert result["mean_itl_ms"] == pytest.approx(1400)
    assert result["p99_e2el_ms"] == pytest.approx(3250 + 0.99 * 2250)
    assert result["max_concurrent_requests"] == 2
    assert result["max_output_tokens_per_s"] == 2  # at 3.5 to 4.5 s after the first was sent


def test_the_aiperf_files_by_hand(by_hand):
    client = client_of(by_hand, 0.6)
    warm, plain, rejected = aiperf_records(client)
    assert (warm["metadata"]["benchmark_phase"], plain["metadata"]["benchmark_phase"]) == ("warmup", "profiling")
    assert (warm["metadata"]["turn_index"], plain["metadata"]["turn_index"]) == (0, 1)
    assert plain["metadata"]["request_start_ns"] == 750_000_000
    assert plain["metadata"]["request_end_ns"] == 4_000_000_000
    assert plain["metrics"]["inter_token_latency"] == {"value": 1000.0, "unit": "ms"}
    assert plain["metrics"]["inter_chunk_latency"]["value"] == [1000.0, 1000.0]
    assert plain["metrics"]["output_token_throughput_per_user"] == {"value": 1.0, "unit": "tokens/sec/user"}
    assert rejected["metrics"] == {}
    assert "KV blocks" in rejected["error"]["message"]
    summary = aiperf_summary(client, about(warmup_s=0.6))
    assert summary["request_count"] == {"unit": "requests", "avg": 1.0}
    assert summary["error_request_count"]["avg"] == 1
    assert summary["time_to_first_token"]["avg"] == 1250
    assert summary["time_to_first_token"]["count"] == 1
    assert summary["benchmark_duration"] == {"unit": "sec", "avg": 3.25}
    assert summary["start_time"] == "1970-01-01T00:00:00.750000"


def test_the_llmd_report_by_hand(by_hand):
    report = llmd_report(client_of(by_hand, 0.0), about(metrics={"preemptions": 1, "kv_usage_mean_ratio": 0.25}), NOW)
    found = report["results"]["request_performance"]["aggregate"]
    assert found["requests"]["total"] == 3
    assert found["requests"]["failures"] == 1
    assert found["latency"]["time_to_first_token"]["mean"] == 0.875
    assert found["latency"]["normalized_time_per_output_token"]["max"] == pytest.approx(5.5 / 4)
    assert found["latency"]["inter_token_latency"]["mean"] == pytest.approx(1.4)
    assert found["throughput"]["request_rate"] == {"units": "queries/s", "mean": pytest.approx(2 / 5.5)}
    engine = report["results"]["observability"]["components"][0]["aggregate"]
    assert engine["kv_cache_usage"] == {"units": "percent", "mean": 25.0, "max": None}
    assert engine["cache_hit_rate"] is None
    assert report["run"]["time"]["duration"] == "PT5.5S"


STATISTICS = {"units", "mean", "stddev", "min", "max", "p0p1", "p1", "p5", "p10", "p25", "p50", "p75", "p90"} | {
    "p95", "p99", "p99p9",
}  # fmt: skip
UNITS = {
    "time_to_first_token": "s", "request_latency": "s", "time_per_output_token": "s/token",
    "inter_token_latency": "s/token", "normalized_time_per_output_token": "s/token", "input_length": "count",
    "output_length": "count", "input_token_rate": "tokens/s", "output_token_rate": "tokens/s",
    "total_token_rate": "tokens/s", "request_rate": "queries/s",
}  # fmt: skip


def test_the_llmd_report_has_the_published_shape(tiny):
    """What the published schema of 0.2.1 asks for: these keys, no others, these units."""
    report = llmd_report(client_of(served(tiny, {"kind": "none"}), 0.0), about(), NOW)
    assert report["version"] == "0.2.1"
    assert set(report) == {"version", "run", "scenario", "results"}
    assert set(report["run"]) <= {"uid", "eid", "cid", "pid", "time", "user", "description", "keywords"}
    for part in (*report["scenario"]["stack"], report["scenario"]["load"]):
        assert set(part) == {"metadata", "standardized", "native"}
        assert {"tool", "tool_version"} <= set(part["standardized"])
    assert {"source", "input_seq_len"} <= set(report["scenario"]["load"]["standardized"])
    found = report["results"]["request_performance"]["aggregate"]
    assert set(found) == {"requests", "latency", "throughput"}
    for part in found.values():
        for name, value in part.items():
            if isinstance(value, dict):
                assert value["units"] == UNITS[name]
                assert set(value) <= STATISTICS


def test_an_empty_run_is_written_all_the_same(tiny):
    """All requests come after the end: nothing was sent."""
    tiny["workload"]["arrivals"] = {"kind": "fixed", "interval_s": 1, "first_at_s": 50}
    client = client_of(run_arm(study_from(tiny | {"horizon_s": 10}).arms[0]), 0.0)
    assert vllm_result(client, about(), NOW)["num_prompts"] == 0
    assert vllm_result(client, about(), NOW)["mean_ttft_ms"] == 0
    assert "time_to_first_token" not in aiperf_summary(client, about())
    assert llmd_report(client, about(), NOW)["results"]["request_performance"]["aggregate"]["requests"]["total"] == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_gaps_are_those_of_the_metrics_whatever_was_preempted(tiny, engine):
    records = served(tiny, ENGINES[engine])
    gaps = token_gaps_s(records)
    answered, output_tokens = finished(records), records.asked.output_tokens
    assert [len(found) for found in gaps] == np.where(answered, output_tokens - 1, 0).tolist()
    decoding_s = view(records.requests.finished_at_s) - view(records.requests.first_token_at_s)
    assert [found.sum() for found in gaps] == pytest.approx(np.where(answered, decoding_s, 0), abs=1e-9)
    pooled, metrics = np.concatenate(gaps), summarise(records, 0.0)
    assert pooled.mean() == pytest.approx(metrics["itl_mean_s"], rel=1e-9)
    assert np.percentile(pooled, 99) == pytest.approx(metrics["itl_p99_s"], rel=1e-4)
    assert pooled.min() > 0
    assert bool(len(records.stalls.request_id)) == (engine != "roomy")


def test_a_request_that_lost_its_gpu_has_the_tokens_of_its_last_attempt(tiny):
    tiny["cluster"]["outages"] = {"kind": "planned", "events": [{"gpu_id": 0, "at_s": 2, "down_s": 1}]}
    records = served(tiny, ENGINES["roomy"])
    again = np.flatnonzero(view(records.requests.retries))
    assert again.size
    gaps = token_gaps_s(records)
    for row in again:
        decoding_s = records.requests.finished_at_s[row] - records.requests.first_token_at_s[row]
        assert len(gaps[row]) == records.asked.output_tokens[row] - 1
        assert gaps[row].sum() == pytest.approx(decoding_s, abs=1e-9)


def test_gaps_of_a_static_batch_are_equal(tiny):
    records = served(tiny, {"kind": "none"})
    assert all(np.ptp(gaps) < 1e-12 for gaps in token_gaps_s(records) if gaps.size)


@pytest.mark.parametrize("engine", ENGINES)
def test_exported_files_are_read_back_as_they_were_simulated(tiny, tmp_path, engine):
    records = served(tiny, ENGINES[engine], horizon_s=5)
    client = client_of(records, 0.0)
    assert not client.answered.all()
    (tmp_path / "v.json").write_text(json.dumps(vllm_result(client, about(), NOW)))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in aiperf_records(client)))
    truth = run_of(records)
    there = finished(records)
    for name in ("v.json", "a.jsonl"):
        run, failed = read_measured(tmp_path / name, {})
        assert failed == (~client.answered).sum()
        for metric in ("ttft", "tpot", "e2e"):
            assert run.latencies_s(metric) == pytest.approx(truth.latencies_s(metric)[there], abs=2e-9, nan_ok=True)
        assert run.arrived_at_s == pytest.approx(truth.arrived_at_s[there] - truth.arrived_at_s[0], abs=2e-9)
        assert np.array_equal(run.output_tokens, truth.output_tokens[there])
        assert np.concatenate(run.gaps_s).mean() == pytest.approx(client.pooled_gaps_s().mean(), rel=1e-9)


def test_the_command_writes_them_and_validate_finds_no_difference(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny["cluster"]["gpus"] = 1
    (tmp_path / "tiny.yaml").write_text(yaml12.write(tiny | {"warmup_s": 3}))
    tools = [argument for tool in ("vllm", "aiperf", "llmd") for argument in ("--export", tool)]
    assert simulate.main(["tiny.yaml", "--out", "run", *tools]) == 0
    written = {
        path.relative_to(tmp_path / "run/exports").as_posix() for path in (tmp_path / "run/exports").rglob("*.*")
    }
    assert written == {
        "vllm_bench_serve.json",
        "aiperf/profile_export_aiperf.json",
        "aiperf/profile_export.jsonl",
        "llmd_benchmark_report.json",
    }
    bounds = [
        text for name in ("ttft_mean", "tpot_mean", "e2e_mean", "throughput") for text in ("--bound", f"{name}=1e-7")
    ]
    pair = ["run/exports/vllm_bench_serve.json", "run/exports/aiperf/profile_export.jsonl"]
    assert validate.main(["results", *pair, "--out", "same", *bounds]) == 0
    assert (
        validate.main(["results", "run", pair[0], "--out", "other", "--bound", "e2e_mean=0.01", "--format", "json"])
        == 1
    )
    told = capsys.readouterr().out
    assert "do not hold the same requests (20 against" in told


def test_a_simulation_of_an_exported_run_is_that_run(tiny, tmp_path, monkeypatch):
    """What the file says was asked, sent to the same scenario again, is answered as the file says."""
    monkeypatch.chdir(tmp_path)
    tiny["cluster"] |= {"gpus": 1, "batcher": {"kind": "timeout", "max_batch_size": 4, "timeout_s": 0.25}}
    (tmp_path / "tiny.yaml").write_text(yaml12.write(tiny))
    assert simulate.main(["tiny.yaml", "--out", "run", "--export", "aiperf"]) == 0
    bounds = [text for name in ("ttft_mean", "e2e_mean", "e2e_p50") for text in ("--bound", f"{name}=1e-7")]
    for file in ("run/exports/aiperf/profile_export.jsonl", "run"):
        assert validate.main(["file", file, "tiny.yaml", "--out", "again", "--overwrite", *bounds]) == 0


def test_each_of_several_arms_has_a_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml12.write(tiny | {"sweep": {"cluster.gpus": [1, 2]}}))
    assert simulate.main(["tiny.yaml", "--out", "run", "--export", "vllm"]) == 0
    one, two = (json.loads((tmp_path / f"run/exports/arm-{i}/vllm_bench_serve.json").read_text()) for i in (0, 1))
    assert (one["cluster.gpus"], two["cluster.gpus"]) == ("1", "2")
    assert one["mean_ttft_ms"] > two["mean_ttft_ms"]


def test_aiperf_loads_what_was_written_for_it(tiny, tmp_path):
    """With AIPerf's own models, where AIPerf is installed."""
    export_models = pytest.importorskip("aiperf.common.models.export_models")
    record_models = pytest.importorskip("aiperf.common.models.record_models")
    client = client_of(served(tiny, ENGINES["preempting"]), 1.0)
    summary = export_models.JsonExportData.model_validate(aiperf_summary(client, about()))
    assert summary.request_count.avg == client.counted.sum()
    for line in aiperf_records(client):
        record_models.MetricRecordInfo.model_validate(line)
