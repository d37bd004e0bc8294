"""Files of measured requests: every format by plain values, and what is wrong with a file in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from infertuner import simulate
from infertuner.errors import ValidationError
from infertuner.scenario import yaml12
from infertuner.scenario.study import study_from
from infertuner.validation import file_requests, file_results
from infertuner.validation.files import read_measured

VLLM = {
    "start_times": [100.0, 100.5, 101.0, 100.2],
    "ttfts": [0.5, 0.25, 0.0, 0.1],
    "itls": [[0.1, 0.2], [], [], [0.3]],
    "input_lens": [10, 20, 30, 40],
    "output_lens": [3, 1, 0, 2],
    "errors": ["", "", "timeout", ""],
}


def aiperf_line(**changes):
    line = {
        "metadata": {"request_start_ns": 5_000_000_000, "benchmark_phase": "profiling"},
        "metrics": {
            "time_to_first_token": {"value": 250.0, "unit": "ms"},
            "request_latency": {"value": 1.5, "unit": "s"},
            "input_sequence_length": {"value": 12, "unit": "tokens"},
            "output_sequence_length": {"value": 7, "unit": "tokens"},
        },
        "error": None,
    }
    return {**line, **changes}


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_vllm_detailed_results(tmp_path):
    run, failed = read_measured(written(tmp_path / "run.json", VLLM), {})
    assert failed == 1
    assert run.arrived_at_s.tolist() == pytest.approx([0.0, 0.2, 0.5])
    assert run.latencies_s("ttft").tolist() == pytest.approx([0.5, 0.1, 0.25])
    assert run.latencies_s("e2e").tolist() == pytest.approx([0.8, 0.4, 0.25])
    assert run.prompt_tokens.tolist() == [10, 40, 20]
    assert [gaps.tolist() for gaps in run.gaps_s] == [[0.1, 0.2], [0.3], []]


def test_aiperf_records(tmp_path):
    lines = [
        aiperf_line(),
        aiperf_line(metadata={"request_start_ns": 4_000_000_000, "benchmark_phase": "warmup"}),
        aiperf_line(metadata={"request_start_ns": 4_500_000_000}),
        aiperf_line(error={"code": 500}),
    ]
    path = written(tmp_path / "profile_export.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    run, failed = read_measured(path, {})
    assert failed == 1
    assert run.arrived_at_s.tolist() == [0.0, 0.5]
    assert run.latencies_s("ttft").tolist() == pytest.approx([0.25, 0.25])
    assert run.latencies_s("e2e").tolist() == pytest.approx([1.5, 1.5])
    assert run.output_tokens.tolist() == [7, 7]
    assert not run.gaps_s


def test_csv_with_columns_of_its_own(tmp_path):
    text = "sent,first_token_at_s,finished_at_s,prompt_tokens,output_tokens\n2,3,4,5,6\n1,1.5,,5,6\n1.5,2,3,7,8\n"
    run, failed = read_measured(written(tmp_path / "run.csv", text), {"arrived_at_s": "sent"})
    assert failed == 1
    assert run.arrived_at_s.tolist() == [0.0, 0.5]
    assert run.prompt_tokens.tolist() == [7, 5]


def guidellm(successful, *, errored=(), incomplete=()):
    requests = {"successful": successful, "errored": list(errored), "incomplete": list(incomplete)}
    return {"metadata": {"version": 2}, "benchmarks": [{"requests": requests}]}


GUIDELLM_REQUEST = {
    "request_start_time": 1000.0,
    "request_end_time": 1001.5,
    "time_to_first_token_ms": 250.0,
    "prompt_tokens": 12,
    "output_tokens": 5,
    "info": {"timings": {"last_token_iteration": 1001.25}},
}


def test_guidellm_requests_end_with_their_last_token(tmp_path):
    later = GUIDELLM_REQUEST | {"request_start_time": 1002.0, "request_end_time": 1004.0, "info": {"timings": {}}}
    run, failed = read_measured(
        written(tmp_path / "benchmarks.json", guidellm([later, GUIDELLM_REQUEST], errored=[{}], incomplete=[{}])), {}
    )
    assert failed == 2
    assert run.arrived_at_s.tolist() == [0.0, 2.0]
    assert run.latencies_s("ttft").tolist() == [0.25, 0.25]
    assert run.latencies_s("e2e").tolist() == [1.25, 2.0]
    assert run.latencies_s("tpot")[0] == 0.25


def test_inference_perf_requests_are_timed_by_their_tokens(tmp_path):
    info = {"input_tokens": 7, "response_metrics": {"output_tokens": 3, "output_token_times": [5.5, 6.0, 6.25]}}
    lines = [
        {"start_time": 5.0, "end_time": 6.5, "info": info, "error": None},
        {"start_time": 5.0, "end_time": 6.0, "info": info, "error": {"error_type": "x", "error_msg": "y"}},
        {"start_time": 5.0, "end_time": 6.0, "info": {"response_metrics": {"output_token_times": []}}, "error": None},
    ]
    run, failed = read_measured(written(tmp_path / "per_request_lifecycle_metrics.json", lines), {})
    assert failed == 2
    assert run.latencies_s("ttft").tolist() == [0.5]
    assert run.latencies_s("e2e").tolist() == [1.25]
    assert [gaps.tolist() for gaps in run.gaps_s] == [[0.5, 0.25]]
    assert run.prompt_tokens.tolist() == [7]


def test_sglang_says_not_when_it_sent(tmp_path, tiny):
    content = {key: value for key, value in VLLM.items() if key != "start_times"}
    path = written(tmp_path / "sglang.jsonl", json.dumps(content) + "\n")
    run, failed = read_measured(path, {})
    assert failed == 1
    assert not run.has_arrivals
    assert sorted(run.latencies_s("e2e")) == pytest.approx([0.25, 0.4, 0.8])
    with pytest.raises(ValidationError, match="does not say when requests were sent"):
        file_requests.validate(study_from(tiny), path, {}, {})
    found = file_results.validate(path, path, {}, {})
    assert "throughput" not in found.errors
    assert found.errors["e2e_mean"].ratio.mean == 0
    with pytest.raises(ValidationError, match="holds 2 runs"):
        read_measured(written(path, (json.dumps(content) + "\n") * 2), {})


def test_a_line_that_vllm_appended_is_read_as_its_file(tmp_path):
    run, _ = read_measured(written(tmp_path / "appended.jsonl", json.dumps(VLLM) + "\n"), {})
    assert run.has_arrivals
    assert run.arrived_at_s.tolist() == pytest.approx([0.0, 0.2, 0.5])


def test_a_run_folder_is_read_as_its_records(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny["horizon_s"], tiny["cluster"]["gpus"] = 10, 1
    (tmp_path / "tiny.yaml").write_text(yaml12.write(tiny))
    assert simulate.main(["tiny.yaml", "--out", "run", "--export", "vllm"]) == 0
    (folder, unanswered), (exported, failed) = (
        read_measured(tmp_path / name, {}) for name in ("run", "run/exports/vllm_bench_serve.json")
    )
    assert unanswered == failed > 0
    for metric in ("ttft", "tpot", "e2e"):
        assert folder.latencies_s(metric) == pytest.approx(exported.latencies_s(metric), abs=1e-12, nan_ok=True)
    assert np.array_equal(folder.output_tokens, exported.output_tokens)
    (tmp_path / "tiny.yaml").write_text(yaml12.write(tiny | {"sweep": {"cluster.gpus": [1, 2]}}))
    assert simulate.main(["tiny.yaml", "--out", "two"]) == 0
    with pytest.raises(ValidationError, match="holds 2 arms"):
        read_measured(tmp_path / "two", {})
    with pytest.raises(ValidationError, match="give the folder of python -m infertuner"):
        read_measured(tmp_path, {})


def test_unlike_requests_are_compared_as_samples(tmp_path):
    header = "arrived_at_s,first_token_at_s,finished_at_s,prompt_tokens,output_tokens\n"
    slow = written(tmp_path / "slow.csv", header + "".join(f"{i},{i + 0.5},{i + 2.0},5,6\n" for i in range(30)))
    fast = written(tmp_path / "fast.csv", header + "".join(f"{i},{i + 0.5},{i + 1.0},5,6\n" for i in range(20)))
    found = file_results.validate(slow, fast, {}, {"e2e_mean": 0.4})
    assert found.errors["e2e_mean"].ratio.mean == pytest.approx(-0.5)
    assert found.errors["ttft_mean"].ratio.mean == 0
    assert "do not hold the same requests (30 against 20)" in found.notes[0]
    assert not found.held
    assert not file_results.validate(slow, slow, {}, {}).notes


HEADER = "arrived_at_s,first_token_at_s,finished_at_s,prompt_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("run.txt", "", "cannot tell its format"),
        ("run.csv", "a,b\n1,2\n", "no column 'arrived_at_s'"),
        ("run.csv", HEADER, "no answered request"),
        ("run.csv", HEADER + "1,2,x,4,5\n", "line 2: finished_at_s is 'x'"),
        ("run.csv", HEADER + "3,2,4,4,5\n", "line 2: arrived at 3 s, first token at 2 s"),
        ("run.csv", HEADER + "1,2,3,4.5,5\n", "line 2: prompt_tokens is '4.5'"),
        ("run.csv", HEADER + "1,2,3,4,0\n", "line 2: output_tokens is 0"),
        ("run.json", "{", "not JSON"),
        ("run.json", {"ttfts": []}, "no array 'start_times'"),
        ("run.json", {**VLLM, "ttfts": [1.0]}, "arrays differ in length"),
        ("run.json", {**VLLM, "itls": [0.1, [], [], [0.3]]}, "request 0: itls is 0.1"),
        ("run.json", {"benchmarks": []}, "holds 0 benchmarks"),
        ("run.json", guidellm([{}]), "request 0: request_start_time is None"),
        ("run.json", guidellm([GUIDELLM_REQUEST | {"info": {}}]), "request 0: info.timings is missing"),
        ("run.json", [{}], "request 0: has no info"),
        ("run.json", [{"start_time": 1, "info": {"response_metrics": None}}], "info.response_metrics is missing"),
        ("run.jsonl", "{}\n", "line 1: no metadata and metrics"),
        ("run.jsonl", json.dumps(aiperf_line(metrics={})), "line 1: time_to_first_token is None"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, name, content, complaint):
    with pytest.raises(ValidationError) as error:
        read_measured(written(tmp_path / name, content), {})
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_and_columns_of_a_file_that_has_none(tmp_path):
    with pytest.raises(ValidationError, match="cannot be read"):
        read_measured(tmp_path / "none.csv", {})
    with pytest.raises(ValidationError, match="--column"):
        read_measured(written(tmp_path / "run.json", VLLM), {"arrived_at_s": "sent"})


def test_a_run_of_vllm_as_others_published_it(shared_data):
    columns = {
        "arrived_at_s": "queued_s",
        "first_token_at_s": "first_token_s",
        "finished_at_s": "last_token_s",
        "prompt_tokens": "input_toks",
        "output_tokens": "output_toks",
    }
    run, failed = read_measured(shared_data / "vllm_runs" / "rtx4090-llama-3.1-8b.requests.csv", columns)
    assert (run.finished, failed) == (300, 0)
    assert run.latencies_s("ttft")[1] == pytest.approx(0.302532, abs=2e-6)
