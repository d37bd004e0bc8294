"""Latency tables and replays."""

from __future__ import annotations

from pathlib import Path

import pytest

from infertuner.errors import OutOfRangeError, ProfileError, ScenarioError
from infertuner.latency.measured import MeasuredTable, Replay
from infertuner.latency.model import Chunk
from infertuner.streams import Streams

HEADER = "kind,batch_size,tokens,seconds\n"
ROWS = "prefill,1,100,1.0\nprefill,1,200,3.0\nprefill,4,100,2.0\nprefill,4,150,4.0\ndecode,1,10,0.5\ndecode,1,30,0.9\n"


def table(folder: Path, text: str = HEADER + ROWS):
    (folder / "table.csv").write_text(text)
    return MeasuredTable(kind="table", path=folder / "table.csv").model(Streams(0))


def replay(folder: Path, text: str, **keys: str):
    (folder / "replay.csv").write_text(text)
    return Replay(kind="replay", path=folder / "replay.csv", **keys).model(Streams(0))


def test_a_table_returns_its_rows_and_straight_lines_between(tmp_path):
    model = table(tmp_path)
    assert model.prefill_s(batch_size=1, new_tokens=200, cached_tokens=0) == pytest.approx(3.0)
    assert model.prefill_s(batch_size=1, new_tokens=150, cached_tokens=0) == pytest.approx(2.0)
    assert model.prefill_s(batch_size=4, new_tokens=125, cached_tokens=0) == pytest.approx(3.0)
    third_of_the_way = model.prefill_s(batch_size=2, new_tokens=150, cached_tokens=0)
    assert third_of_the_way == pytest.approx(2.0 + (4.0 - 2.0) / 3)


def test_decode_steps_walk_along_the_context(tmp_path):
    assert table(tmp_path).decode_s(batch_size=1, context_tokens=10, steps=21) == pytest.approx(21 * 0.7)


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ({"batch_size": 5, "new_tokens": 100}, "prefill with batch_size 5 .*1 to 4"),
        ({"batch_size": 1, "new_tokens": 201}, "prefill with tokens 201 .*100 to 200"),
        ({"batch_size": 2, "new_tokens": 199}, "prefill with tokens 199 .*100 to 150"),
    ],
)
def test_a_table_refuses_what_is_outside_its_hull(tmp_path, question, complaint):
    with pytest.raises(OutOfRangeError, match=complaint):
        table(tmp_path).prefill_s(**question, cached_tokens=0)


def test_a_table_refuses_the_step_that_leaves_it(tmp_path):
    model = table(tmp_path)
    with pytest.raises(OutOfRangeError, match=r"decode with tokens 31"):
        model.decode_s(batch_size=1, context_tokens=10, steps=22)


def test_a_table_knows_no_cached_tokens(tmp_path):
    with pytest.raises(OutOfRangeError, match="cached_tokens 7"):
        table(tmp_path).prefill_s(batch_size=1, new_tokens=100, cached_tokens=7)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind,batch_size,seconds\n", "no column 'tokens'"),
        (HEADER + "mixed,1,1,1\n", "line 2: kind is 'mixed'"),
        (HEADER + "decode,1,1,fast\n", "line 2: seconds is 'fast'"),
        (HEADER + "decode,1.5,1,0.1\n", "line 2: batch_size is '1.5'"),
        (HEADER + "decode,1,1,-1\n", "line 2: seconds is '-1'"),
        (HEADER + "decode,1,1,0.1\n", "no row of kind prefill"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(tmp_path, text, complaint):
    with pytest.raises(ProfileError, match=complaint):
        table(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"gone\.csv: cannot be read"):
        MeasuredTable(kind="table", path=tmp_path / "gone.csv").model(Streams(0))


def test_a_replay_hands_out_its_measurements_in_order(tmp_path):
    model = replay(tmp_path, "request,inference_s\na,1.5\nb,0.5\n", column="inference_s")
    batch = {"batch_size": 1, "new_tokens": 9, "cached_tokens": 0}
    assert model.prefill_s(**batch) + model.decode_s(batch_size=1, context_tokens=10, steps=99) == 1.5
    assert model.prefill_s(**batch) == 0.5
    with pytest.raises(OutOfRangeError, match="holds 2 measurements"):
        model.prefill_s(**batch)


def test_every_replay_starts_at_the_first_measurement(tmp_path):
    (tmp_path / "replay.csv").write_text("seconds\n1\n2\n")
    part = Replay(kind="replay", path=tmp_path / "replay.csv")
    batch = {"batch_size": 1, "new_tokens": 9, "cached_tokens": 0}
    assert [part.model(Streams(0)).prefill_s(**batch) for _ in range(2)] == [1.0, 1.0]


def test_a_replay_names_the_columns_there_are(tmp_path):
    with pytest.raises(ProfileError, match="no column 'seconds'; it has a, b"):
        replay(tmp_path, "a,b\n1,2\n")


def test_a_replay_cannot_be_cut_into_iterations(tmp_path):
    model = replay(tmp_path, "seconds\n1\n2\n")
    for ask in (
        lambda: model.iteration_s(chunks=[Chunk(0, 9)], decodes=0, kv_entries=0),
        lambda: model.decode_line(1),
        lambda: model.note_outside(batch_size=1, kv_entries=1, steps=1),
    ):
        with pytest.raises(ScenarioError, match=r"kind: replay .*whole batches"):
            ask()


def test_a_table_is_bent_at_its_rows_and_refused_beyond_them(tmp_path):
    model = table(tmp_path)
    line = model.decode_line(1)
    assert (line.low, line.high) == (10, 30)
    assert line.step_ps(20) == 700_000_000_000
    for kv_entries, steps in ((9, 1), (10, 22)):
        with pytest.raises(OutOfRangeError, match=r"decode with tokens .*10 to 30"):
            model.note_outside(batch_size=1, kv_entries=kv_entries, steps=steps)
    with pytest.raises(OutOfRangeError, match=r"decode with batch_size 2 .*1 to 1"):
        model.decode_line(2)


def test_an_iteration_from_a_table_is_its_parts_one_after_the_other(tmp_path):
    model = table(tmp_path)
    chunks = [Chunk(cached_tokens=0, new_tokens=100), Chunk(cached_tokens=0, new_tokens=150)]
    assert model.iteration_s(chunks=chunks, decodes=1, kv_entries=10) == pytest.approx(1.0 + 2.0 + 0.5)
    with pytest.raises(OutOfRangeError, match="cached_tokens 7"):
        model.iteration_s(chunks=[Chunk(cached_tokens=7, new_tokens=100)], decodes=0, kv_entries=0)
    with pytest.raises(OutOfRangeError, match=r"decode with tokens 31"):
        model.iteration_s(chunks=chunks, decodes=1, kv_entries=31)
