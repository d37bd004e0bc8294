"""Traces as JSON lines, Azure's second trace, telling formats apart, and the writer, which reads back as it was."""

from __future__ import annotations

import itertools
import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.errors import TraceError
from infertuner.scenario.__main__ import main
from infertuner.scenario.study import load_study
from infertuner.sources.requests import ClosedLoop, OpenLoop, PrefixBlocks, Requests
from infertuner.sources.trace_detect import format_of
from infertuner.sources.trace_writer import mooncake_lines
from infertuner.sources.traces import Trace
from infertuner.streams import Streams

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def turn(**fields):
    return {"input_length": 100, "output_length": 10} | fields


def replay(path, form=None, **options):
    return Trace(kind="trace", path=path, format=form, **options).sample(Streams(1))


def test_azure_2024_has_a_zone_and_sometimes_no_fraction(tmp_path):
    path = tmp_path / "azure.csv"
    path.write_text(
        AZURE + "2024-05-10 00:00:00+00:00,5,6\n2024-05-10 00:00:00.009930+00:00,7,8\n2024-05-10 00:00:02+00:00,9,10\n"
    )
    for form in ("azure_2024", None):
        requests = replay(path, form)
        assert requests.pacing.arrived_at_s == pytest.approx([0, 0.00993, 2], abs=1e-12)
        assert requests.prompt_tokens.tolist() == [5, 7, 9]


def test_an_instant_without_a_zone_among_those_with_one_is_named(tmp_path):
    path = tmp_path / "azure.csv"
    path.write_text(AZURE + "2024-05-10 00:00:00+00:00,5,6\n2024-05-10 00:00:01.5,7,8\n")
    with pytest.raises(TraceError, match=r"line 3: TIMESTAMP is '2024-05-10 00:00:01.5', must be an instant with its"):
        replay(path, "azure_2024")


def test_a_timed_trace_of_vllm_is_a_mooncake_trace_in_seconds(tmp_path):
    path = lines(
        tmp_path / "vllm.jsonl",
        {"timestamp": 3.5, "input_length": 40, "output_length": 2, "hash_ids": [1, 2, 3]},
        {"timestamp": 5.0, "input_length": 33, "output_length": 2, "hash_ids": [1, 2, 9]},
        {"timestamp": 5.0, "input_length": 10, "output_length": 2, "hash_ids": [4]},
    )
    requests = replay(path, timestamp_unit_s=1, block_tokens=16)
    assert requests.pacing.arrived_at_s.tolist() == [0, 1.5, 1.5]
    assert requests.blocks.ids.tolist() == [1, 2, 1, 2]
    assert requests.prefix_tokens.tolist() == [0, 32, 0]


def test_lines_without_hashes_share_nothing(tmp_path):
    path = lines(tmp_path / "plain.jsonl", turn(timestamp=0), turn(timestamp=10))
    requests = replay(path)
    assert requests.blocks is None
    assert requests.session_id == [0, 1]
    assert requests.prefix_tokens.tolist() == [0, 0]


def test_hashes_that_only_some_lines_have_are_a_fault(tmp_path):
    path = lines(tmp_path / "half.jsonl", turn(timestamp=0, hash_ids=[1]), turn(timestamp=10))
    with pytest.raises(TraceError, match="line 2: hash_ids is missing"):
        replay(path, "mooncake")


def test_turns_of_aiperf_add_to_what_was_said(tmp_path, caplog):
    path = lines(
        tmp_path / "turns.jsonl",
        turn(session_id="a", timestamp=1000),
        turn(session_id="b", timestamp=2000, input_length=7),
        turn(session_id="a", delay=500, input_length=30, output_length=4),
        turn(session_id="a", timestamp=9000, input_length=1),
    )
    with caplog.at_level(logging.WARNING):
        requests = replay(path, "aiperf")
    assert requests.pacing.arrived_at_s.tolist() == [0, 0.5, 1, 8]
    assert requests.session_id == ["a", "a", "b", "a"]
    assert requests.prompt_tokens.tolist() == [100, 140, 7, 145]
    assert requests.prefix_tokens.tolist() == [0, 110, 0, 144]
    assert "1 turns are sent after the previous question" in caplog.text


def test_single_turns_of_aiperf_keep_their_hashes(tmp_path):
    rows = [turn(timestamp=i, session_id=str(i), input_length=1024, hash_ids=[5, 6 + i]) for i in range(2)]
    requests = replay(lines(tmp_path / "one.jsonl", *rows), "aiperf")
    assert requests.blocks.ids.tolist() == [5, 6, 5, 7]


def test_a_session_of_aiperf_needs_a_beginning(tmp_path):
    path = lines(tmp_path / "late.jsonl", turn(timestamp=5, session_id="x"), turn(session_id="y", delay=5))
    with pytest.raises(TraceError, match="request 2: has no timestamp, and nothing came before it in its session"):
        replay(path, "aiperf")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("note,arrived_at_s,prompt_tokens,output_tokens\n", "csv"),
        (AZURE, "azure_2023"),
        ("Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n", "burstgpt"),
        ('{"timestamp": 1, "input_length": 2, "output_length": 3}\n', "mooncake"),
        ('\ufeff{"timestamp": 1, "input_length": 2, "output_length": 3, "hash_ids": []}\n', "mooncake"),
    ],
)
def test_formats_are_told_by_their_names(text, form, tmp_path):
    (tmp_path / "trace").write_text(text, encoding="utf-8")
    assert format_of(tmp_path / "trace") == form


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("time,tokens\n", r"line 1: no known format has these columns \(time, tokens\)"),
        ("", r"no known format has these columns \(nothing\)"),
        ('{"input_length": 2, "output_length": 3}\n', "no known format has these columns"),
        ('{"timestamp": 1, "input_length": 2, "output_length": 3, "session_id": "a"}\n', "aiperf .* or mooncake"),
        ('{"timestamp": 1\n', "line 1: must be one complete JSON object"),
    ],
)
def test_what_is_in_doubt_is_asked_for(text, complaint, tmp_path):
    (tmp_path / "trace").write_text(text)
    with pytest.raises(TraceError, match=complaint):
        replay(tmp_path / "trace")


def asked(at_s, sessions, prompts, prefixes, outputs, *, blocks=None):
    columns = [np.array(column, dtype=np.int64) for column in (prompts, prefixes, outputs)]
    return Requests(OpenLoop(np.array(at_s, dtype=float)), sessions, *columns, blocks=blocks)


def test_what_is_written_of_sessions(tmp_path):
    requests = asked([3, 3.5, 4, 9.0004], ["a", "b", "a", "a"], [40, 16, 70, 49], [0, 0, 39, 48], [1, 2, 3, 4])
    written = [json.loads(line) for line in mooncake_lines(requests, 16)]
    assert [row["timestamp"] for row in written] == [0, 500, 1000, 6000]
    assert [row["hash_ids"] for row in written] == [[0, 1, 2], [3], [0, 1, 4, 5, 6], [0, 1, 4, 7]]


@st.composite
def workloads(draw):
    """Requests with block ids, as a trace would have them, at whole milliseconds."""
    prompts = draw(st.lists(st.integers(1, 100), min_size=1, max_size=12))
    at_ms = sorted(draw(st.lists(st.integers(0, 10**7), min_size=len(prompts), max_size=len(prompts))))
    ids = [draw(st.lists(st.integers(0, 2**31), min_size=n // 16, max_size=n // 16)) for n in prompts]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    flat = np.array(list(itertools.chain(*ids)), dtype=np.int64)
    outputs = draw(st.lists(st.integers(1, 50), min_size=len(prompts), max_size=len(prompts)))
    blocks = PrefixBlocks(16, flat, offsets)
    return asked(np.array(at_ms) / 1e3, list(range(len(prompts))), prompts, [0] * len(prompts), outputs, blocks=blocks)


@given(requests=workloads())
def test_what_is_written_is_read_back(requests, tmp_path_factory):
    path = tmp_path_factory.mktemp("trip") / "trace.jsonl"
    path.write_text("".join(mooncake_lines(requests, block_tokens=999)))
    read = replay(path, block_tokens=16)
    at_s = requests.pacing.arrived_at_s
    assert read.pacing.arrived_at_s == pytest.approx(at_s - at_s[0], abs=1e-9)
    assert np.array_equal(read.prompt_tokens, requests.prompt_tokens)
    assert np.array_equal(read.output_tokens, requests.output_tokens)
    assert np.array_equal(read.blocks.ids, requests.blocks.ids)
    assert np.array_equal(read.blocks.offsets, requests.blocks.offsets)


def test_every_prompt_has_an_id_for_each_started_block_and_partial_ones_are_nobodys():
    requests = asked(
        [0, 1], [0, 1], [40, 40], [0, 0], [1, 1], blocks=PrefixBlocks(16, np.array([7, 8, 7, 8]), np.array([0, 2, 4]))
    )
    written = [json.loads(line)["hash_ids"] for line in mooncake_lines(requests, 1)]
    assert written == [[7, 8, 9], [7, 8, 10]]


def test_a_closed_loop_has_no_instants():
    requests = asked([0], [0], [1], [0], [1])
    closed = Requests(ClosedLoop(1, np.zeros(1)), *(getattr(requests, name) for name in COLUMNS))
    with pytest.raises(TraceError, match="closed loop"):
        list(mooncake_lines(closed, 16))


COLUMNS = ("session_id", "prompt_tokens", "prefix_tokens", "output_tokens")


def test_the_command_writes_what_the_scenario_asks(repository, tmp_path, capsys):
    out = tmp_path / "new" / "tiny.jsonl"
    assert main(["trace", str(repository / "scenarios/tiny.yaml"), "--out", str(out), "--block-tokens", "32"]) == 0
    assert "100 requests, 32 tokens a block" in capsys.readouterr().out
    sent = load_study(repository / "scenarios/tiny.yaml").scenario.workload.sample(Streams(1))
    read = replay(out, block_tokens=32)
    at_s = sent.pacing.arrived_at_s
    assert read.pacing.arrived_at_s == pytest.approx(at_s - at_s[0], abs=0.00051)
    assert np.array_equal(read.prompt_tokens, sent.prompt_tokens)
    assert np.array_equal(read.output_tokens, sent.output_tokens)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--block-tokens", "0"], "--block-tokens: is 0, must be 1 or more"),
        (["--replication", "-1"], "--replication: is -1, must be 0 or more"),
        (["--set", "sweep={workload.requests: [1, 2]}"], "its arms have different workloads"),
        (["--set", "workload.arrivals={kind: closed_loop, users: 2, think_s: 1}"], "closed loop"),
    ],
)
def test_what_cannot_be_written_is_said(repository, tmp_path, capsys, arguments, complaint):
    given = ["trace", str(repository / "scenarios/tiny.yaml"), "--out", str(tmp_path / "out.jsonl"), *arguments]
    assert main(given) == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(repository, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["trace", str(repository / "scenarios/tiny.yaml"), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_a_public_trace_is_written_as_it_was_read(shared_data, tmp_path):
    path = shared_data / "traces" / "mooncake_conversation_trace.jsonl"
    requests = replay(path)
    (tmp_path / "again.jsonl").write_text("".join(mooncake_lines(requests, 512)))
    again = replay(tmp_path / "again.jsonl")
    assert np.array_equal(again.pacing.arrived_at_s, requests.pacing.arrived_at_s)
    assert np.array_equal(again.blocks.ids, requests.blocks.ids)
    assert np.array_equal(again.prompt_tokens, requests.prompt_tokens)
    assert np.array_equal(again.output_tokens, requests.output_tokens)
