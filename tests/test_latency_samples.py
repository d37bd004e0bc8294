"""The sample file: nothing measured is lost, and nothing of another set-up is mixed in."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest

from infertuner.errors import CalibrationError
from infertuner.latency.points import Point
from infertuner.latency.samples import SampleFile, Timing, Visit, samples_csv

HEADER = {"schema": "infertuner.samples/1", "seed": 0, "hardware": {"name": "abacus"}}
VISITS = [
    Visit(Point("decode", 2, 1, 30, "fit"), 0, 1000.5, Timing([0.25, 0.5], [0.25, 0.5], [False, True])),
    Visit(Point("prefill", 1, 9, 0, "holdout"), 1, 1001.0, Timing([1.0], [1.5], [False])),
]


@pytest.fixture
def begun(tmp_path):
    file = SampleFile(tmp_path / "new" / "x.samples.jsonl.part")
    assert file.begin(HEADER, resume=False) == []
    for visit in VISITS:
        file.append(visit)
    return file


def test_every_visit_is_on_disk_at_once_and_comes_back(begun):
    assert SampleFile(begun.path).begin(HEADER, resume=True) == VISITS


def test_a_torn_last_line_is_dropped_and_measuring_goes_on(begun):
    begun.path.write_text(begun.path.read_text()[:-20])
    assert begun.begin(HEADER, resume=True) == VISITS[:1]
    begun.append(VISITS[1])
    assert begun.begin(HEADER, resume=True) == VISITS


def test_resuming_what_does_not_exist_starts_it(tmp_path):
    assert SampleFile(tmp_path / "x.part").begin(HEADER, resume=True) == []


def test_an_unfinished_calibration_is_never_overwritten(begun):
    with pytest.raises(CalibrationError, match="add --resume"):
        begun.begin(HEADER, resume=False)
    assert len(begun.path.read_text().splitlines()) == 3


def test_another_set_up_cannot_be_resumed(begun):
    with pytest.raises(CalibrationError, match=r"another hardware.*abacus.* there, .*slide rule.* now"):
        begun.begin({**HEADER, "hardware": {"name": "slide rule"}}, resume=True)


def test_a_damaged_file_is_named_with_its_line(begun):
    lines = begun.path.read_text().splitlines()
    begun.path.write_text("\n".join([lines[0], "{", lines[2]]))
    with pytest.raises(CalibrationError, match="line 2: not JSON"):
        begun.begin(HEADER, resume=True)


@pytest.mark.parametrize("content", ["", "{", '{"seed": 7}\n'])
def test_a_file_without_a_visit_is_begun_again(tmp_path, content):
    (tmp_path / "x.part").write_text(content)
    assert SampleFile(tmp_path / "x.part").begin(HEADER, resume=False) == []
    assert json.loads((tmp_path / "x.part").read_text()) == HEADER


def test_the_csv_has_a_row_a_call_and_equal_bytes_every_time():
    packed = samples_csv(VISITS)
    assert packed == samples_csv(VISITS)
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))
    assert [float(row["seconds"]) for row in rows] == [0.25, 0.5, 1.0]
    assert [row["preempted"] for row in rows] == ["0", "1", "0"]
    assert rows[2] | {} == {
        "kind": "prefill", "batch_size": "1", "new_tokens": "9", "cached_tokens": "0", "role": "holdout",
        "round": "1", "at_s": "1001.0", "seconds": "1.0", "wall_s": "1.5", "preempted": "0",
    }  # fmt: skip


def test_lines_are_plain_json(begun):
    line = json.loads(begun.path.read_text().splitlines()[1])
    assert line["seconds"] == [0.25, 0.5]
    assert line["kind"] == "decode"
