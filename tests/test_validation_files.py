"""Files of measured requests: three formats, and what is wrong with a file in one line."""

from __future__ import annotations

import json

import pytest

from infertuner.errors import ValidationError
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
