"""Trace readers against the public files and by plain value; test_sources_trace_errors.py has what they refuse."""

import itertools
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from infertuner.sources.kinds import WorkloadKind
from infertuner.sources.trace_mooncake import conversations, mooncake
from infertuner.sources.traces import Trace
from infertuner.streams import Streams

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces"
FORMAT = {"azure2023_code.csv": "azure_2023", "azure2023_conv.csv": "azure_2023"}

CSV = "arrived_at_s,prompt_tokens,output_tokens\n"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
BURSTGPT_SESSIONS = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"  # release 2
)


def public(name):
    if not (TRACES / name).exists():
        pytest.skip(f"the public trace {name} is not here")
    return Trace(kind="trace", path=TRACES / name, format=FORMAT.get(name, "mooncake"))


def replay(path, form, text=None, *, encoding="utf-8", **options):
    if text is not None:
        path.write_text(text, encoding=encoding)
    return Trace(kind="trace", path=path, format=form, **options).sample(Streams(1))


@pytest.mark.parametrize(
    ("name", "rows", "duration_s", "prompt", "output"),
    [
        ("azure2023_code.csv", 8819, 3436, (1469, 7437), (13, 1899)),
        ("azure2023_conv.csv", 19366, 3502, (1020, 14050), (129, 1000)),
        ("mooncake_conversation_trace.jsonl", 12031, 3537, (6909, 126195), (350, 2000)),
    ],
)
def test_public_traces_have_their_known_statistics(name, rows, duration_s, prompt, output):
    """Rows, duration, median and largest token counts as counted by other means."""
    requests = public(name).sample(Streams(1))
    at_s = requests.pacing.arrived_at_s
    assert len(requests) == rows
    assert at_s[0] == 0
    assert at_s[-1] == pytest.approx(duration_s, abs=0.5)
    assert (np.median(requests.prompt_tokens), requests.prompt_tokens.max()) == prompt
    assert (np.median(requests.output_tokens), requests.output_tokens.max()) == output
    assert (requests.prefix_tokens < requests.prompt_tokens).all()


def test_azure_keeps_every_digit_of_its_clock():
    gaps_s = np.diff(public("azure2023_code.csv").sample(Streams(1)).pacing.arrived_at_s)
    assert gaps_s[0] == pytest.approx(0.052, abs=1e-9)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(13.2, abs=0.1)


def test_jitter_spreads_the_coarse_clock_of_mooncake():
    trace = public("mooncake_conversation_trace.jsonl")
    coarse = trace.sample(Streams(1))
    assert len(np.unique(coarse.pacing.arrived_at_s)) == 1180
    trace.jitter_s = 3.0
    spread = trace.sample(Streams(1))
    assert len(np.unique(spread.pacing.arrived_at_s)) == len(spread)
    assert (np.diff(spread.pacing.arrived_at_s) >= 0).all()
    delay_s = spread.pacing.arrived_at_s.mean() - coarse.pacing.arrived_at_s.mean()
    assert abs(delay_s - 1.5) < 4 * 3 / np.sqrt(12 * len(spread))
    assert sorted(zip(spread.prompt_tokens, spread.output_tokens, strict=True)) == sorted(
        zip(coarse.prompt_tokens, coarse.output_tokens, strict=True)
    )


def test_mooncake_conversations_hold_their_reuse():
    """Counting blocks seen before, row by row, gives 37.4 % of all tokens; the one system prompt is 2.6 % of them."""
    requests = public("mooncake_conversation_trace.jsonl").sample(Streams(1))
    known, reused, system = set(), 0, 0
    with (TRACES / "mooncake_conversation_trace.jsonl").open() as lines:
        for line in lines:
            row = json.loads(line)
            blocks = row["hash_ids"]
            depth = next((d for d, block in enumerate(blocks) if block not in known), len(blocks))
            known.update(blocks)
            reused += min(512 * depth, row["input_length"] - 1) if depth > 1 else 0
            system += 512
    assert requests.prefix_tokens.sum() == reused
    sessions, sizes = np.unique(requests.session_id, return_counts=True)
    assert (len(sessions), sizes.max()) == (7373, 43)


def test_own_csv_is_taken_at_its_word(tmp_path):
    text = (
        "note,session_id,arrived_at_s,prompt_tokens,output_tokens,prefix_tokens\n"
        "x,ann,2.5,10,3,9\ny,,1,20,4,0\nz,ann,4,30,5,10\n"
    )
    requests = replay(tmp_path / "own.csv", "csv", text)
    assert requests.pacing.arrived_at_s.tolist() == [1, 2.5, 4]
    assert requests.session_id == [1, "ann", "ann"]
    assert requests.prompt_tokens.tolist() == [20, 10, 30]
    assert requests.prefix_tokens.tolist() == [0, 9, 10]
    assert requests.output_tokens.tolist() == [4, 3, 5]


@given(
    rows=st.lists(
        st.tuples(st.floats(0, 1e6), st.integers(1, 10**6), st.integers(1, 10**6)),
        min_size=1,
        max_size=30,
    )
)
def test_own_csv_round_trip(rows, tmp_path_factory):
    rows = sorted(rows, key=lambda row: row[0])
    text = CSV + "".join(f"{at_s!r},{prompt},{output}\n" for at_s, prompt, output in rows)
    requests = replay(tmp_path_factory.mktemp("trip") / "own.csv", "csv", text)
    columns = (requests.pacing.arrived_at_s, requests.prompt_tokens, requests.output_tokens)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == rows


def test_limit_then_jitter_then_speedup(tmp_path):
    text = CSV + "".join(f"{at_s},{at_s + 1},1\n" for at_s in (4, 0, 2, 6))
    path = tmp_path / "own.csv"
    assert replay(path, "csv", text, requests=3, speedup=2).pacing.arrived_at_s.tolist() == [0, 1, 2]
    assert len(replay(path, "csv", requests=100)) == 4
    jittered = replay(path, "csv", requests=3, speedup=2, jitter_s=1).pacing.arrived_at_s
    assert ((jittered >= [0, 1, 2]) & (jittered < [0.5, 1.5, 2.5])).all()


def test_jitter_moves_whole_requests(tmp_path):
    text = CSV + "".join(f"{at_s},{at_s + 1},1\n" for at_s in range(50))
    requests = replay(tmp_path / "own.csv", "csv", text, jitter_s=20)
    delays_s = requests.pacing.arrived_at_s - (requests.prompt_tokens - 1)
    assert ((delays_s >= 0) & (delays_s < 20)).all()
    assert (np.diff(requests.prompt_tokens) < 0).any()


def test_burstgpt_leaves_out_failures_and_says_how_many(tmp_path, caplog):
    text = BURSTGPT + "5,ChatGPT,472,18,490,Conversation log\n9,GPT-4,7,0,7,API log\n45,ChatGPT,9,2,11,API log\n"
    with caplog.at_level(logging.WARNING):
        requests = replay(tmp_path / "v1.csv", "burstgpt", text)
    assert requests.pacing.arrived_at_s.tolist() == [0, 40]
    assert requests.prompt_tokens.tolist() == [472, 9]
    assert "left out 1 of 3 rows" in caplog.text


def test_burstgpt_sessions_are_kept_and_others_stand_alone(tmp_path, caplog):
    rows = [(10.0, "a-1", 906, 446), (11.5, "", 5, 6), (12.0, "a-1", 7, 8), (12.5, "", 5, 6)]
    text = BURSTGPT_SESSIONS + "".join(f"{t},{s},43,GPT-4,{p},{o},{p + o},log\n" for t, s, p, o in rows)
    requests = replay(tmp_path / "v2.csv", "burstgpt", text)
    assert requests.pacing.arrived_at_s.tolist() == [0, 1.5, 2, 2.5]
    assert requests.session_id == ["a-1", 1, "a-1", 3]
    assert not caplog.records


def test_a_conversation_is_a_chain_of_prefixes():
    """Block 0 begins every prompt; 1-2 and 1-3 are continuations of the first, 7 is a stranger that returns."""
    prompts = [[0, 1], [0, 7], [0, 1, 2], [0, 1, 2, 4], [0, 1, 3], [0, 7], [0]]
    session, known = conversations(np.concatenate(prompts), np.array([len(prompt) for prompt in prompts]))
    assert session.tolist() == [0, 1, 0, 0, 0, 1, 6]
    assert known.tolist() == [0, 0, 2, 3, 2, 2, 0]


def test_a_prompt_that_is_known_to_the_end_still_has_a_new_token(tmp_path):
    rows = [
        {"timestamp": 0, "input_length": 1024, "output_length": 3, "hash_ids": [5, 6]},
        {"timestamp": 1500, "input_length": 512, "output_length": 3, "hash_ids": [8]},
        {"timestamp": 3000, "input_length": 1024, "output_length": 3, "hash_ids": [5, 6], "extra": {"is": "ignored"}},
    ]
    path = tmp_path / "mooncake.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = mooncake(path, block_tokens=512, timestamp_unit_s=0.001)
    assert read.at_s.tolist() == [0, 1.5, 3]
    assert read.session_id.tolist() == [0, 1, 0]
    assert read.prefix_tokens.tolist() == [0, 0, 1023]


def test_a_relative_path_starts_at_the_scenario_folder_and_must_exist(tmp_path):
    (tmp_path / "own.csv").write_text(CSV + "0,1,1\n")
    written = {"kind": "trace", "path": "own.csv", "format": "csv"}
    trace = TypeAdapter(WorkloadKind).validate_python(written, context={"folder": tmp_path})
    assert len(trace.sample(Streams(1))) == 1
    with pytest.raises(ValidationError, match=r"there is no file own\.csv"):
        TypeAdapter(WorkloadKind).validate_python(written)


def test_files_from_spreadsheets_are_read(tmp_path):
    requests = replay(tmp_path / "own.csv", "csv", (CSV + '0,"1",1\n').replace("\n", "\r\n"), encoding="utf-8-sig")
    assert len(requests) == 1


def test_block_ids_follow_their_requests_and_partial_blocks_have_none(tmp_path):
    rows = [
        {"timestamp": 9, "input_length": 40, "output_length": 1, "hash_ids": [1, 2, 3]},
        {"timestamp": 0, "input_length": 15, "output_length": 1, "hash_ids": [7]},
        {"timestamp": 5, "input_length": 32, "output_length": 1, "hash_ids": [1, 9]},
    ]
    path = tmp_path / "blocks.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    asked = Trace(kind="trace", path=path, format="mooncake", block_tokens=16).sample(Streams(0))
    assert asked.blocks.block_tokens == 16
    assert [asked.blocks.ids[a:b].tolist() for a, b in itertools.pairwise(asked.blocks.offsets)] == [[], [1, 9], [1, 2]]


def test_an_own_trace_may_say_who_is_urgent(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("arrived_at_s,prompt_tokens,output_tokens,priority\n2,5,5,1\n1,5,5,-3\n")
    asked = Trace(kind="trace", path=path, format="csv").sample(Streams(0))
    assert asked.priority.tolist() == [-3, 1]
