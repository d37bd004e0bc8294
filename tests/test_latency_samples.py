"""The sample file: nothing measured is lost, and nothing of another set-up is mixed in."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest

from infertuner.errors import CalibrationError
from infertuner.latency.measuring.extras import Extra
from infertuner.latency.measuring.sample_table import read_samples_csv, samples_csv
from infertuner.latency.measuring.samples import (
    ExtraVisit,
    Measurements,
    SampleFile,
    Skipped,
    Timing,
    Visit,
)
from infertuner.latency.points import Point

HEADER = {"schema": "infertuner.samples/1", "seed": 0, "hardware": {"name": "abacus"}}
VISITS = [
    Visit(Point("decode", 2, 1, 30, "fit"), 0, 1000.5, Timing([0.25, 0.5], [0.25, 0.5], [False, True])),
    Visit(Point("prefill", 1, 9, 0, "holdout"), 1, 1001.0, Timing([1.0], [1.5], [False])),
    Visit(Point("mixed", 1, 64, 8, "fit", 3, 70), 1, 1002.0, Timing([0.5], [0.5], [True])),
]
COPY = ExtraVisit(Extra("device_to_host", size=4096), 0, 1003.0, Timing([1e-5], [2e-5], [False]))
CALL = ExtraVisit(
    Extra("generate", batch_size=2, new_tokens=7, output_tokens=5), 0, 1004.0, Timing([0.1], [0.1], [False])
)
LOST = Skipped(Point("decode", 264, 1, 8191, "fit"), "out of memory")
ALL = [*VISITS, COPY, CALL, LOST]
MEASURED = Measurements(VISITS, [COPY, CALL], [LOST])


@pytest.fixture
def begun(tmp_path):
    file = SampleFile(tmp_path / "new" / "x.samples.jsonl.part")
    assert file.begin(HEADER, resume=False) == Measurements()
    for one in ALL:
        file.append(one)
    return file


def test_every_visit_is_on_disk_at_once_and_comes_back(begun):
    assert SampleFile(begun.path).begin(HEADER, resume=True) == MEASURED


def test_a_torn_last_line_is_dropped_and_measuring_goes_on(begun):
    begun.path.write_text(begun.path.read_text()[:-20])
    assert begun.begin(HEADER, resume=True) == Measurements(VISITS, [COPY, CALL])
    begun.append(LOST)
    assert begun.begin(HEADER, resume=True) == MEASURED


def test_resuming_what_does_not_exist_starts_it(tmp_path):
    assert SampleFile(tmp_path / "x.part").begin(HEADER, resume=True) == Measurements()


def test_an_unfinished_calibration_is_never_overwritten(begun):
    with pytest.raises(CalibrationError, match="add --resume"):
        begun.begin(HEADER, resume=False)
    assert len(begun.path.read_text().splitlines()) == 1 + len(ALL)


def test_another_set_up_cannot_be_resumed(begun):
    with pytest.raises(CalibrationError, match=r"another hardware.*name: .*abacus.* there, .*slide rule.* now"):
        begun.begin({**HEADER, "hardware": {"name": "slide rule"}}, resume=True)


def test_a_damaged_file_is_named_with_its_line(begun):
    lines = begun.path.read_text().splitlines()
    begun.path.write_text("\n".join([lines[0], "{", *lines[2:]]))
    with pytest.raises(CalibrationError, match="line 2: not JSON"):
        begun.begin(HEADER, resume=True)


@pytest.mark.parametrize("content", ["", "{", '{"seed": 7}\n'])
def test_a_file_without_a_visit_is_begun_again(tmp_path, content):
    (tmp_path / "x.part").write_text(content)
    assert SampleFile(tmp_path / "x.part").begin(HEADER, resume=False) == Measurements()
    assert json.loads((tmp_path / "x.part").read_text()) == HEADER


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "decode"}',
        '{"kind": "warp", "round": 0, "at_s": 1, "seconds": [], "wall_s": [], "preempted": []}',
        '{"kind": "host", "size": 8, "round": 0, "at_s": 1, "seconds": [1], "wall_s": [], "preempted": []}',
        "[]",
    ],
)
def test_a_line_that_is_no_visit_is_named_and_nothing_is_lost(begun, line):
    lines = begun.path.read_text().splitlines()
    damaged = "\n".join([lines[0], lines[1], line, *lines[2:]]) + "\n"
    begun.path.write_text(damaged)
    with pytest.raises(CalibrationError, match=r"line 3: not a visit of this version.*delete that line"):
        begun.begin(HEADER, resume=True)
    assert begun.path.read_text() == damaged


def test_a_file_of_another_schema_is_left_alone(begun):
    text = begun.path.read_text().replace("infertuner.samples/1", "somebody.else/9")
    begun.path.write_text(text)
    with pytest.raises(CalibrationError, match=r"schema is .*somebody.else/9.*choose another --out"):
        begun.begin(HEADER, resume=True)
    assert begun.path.read_text() == text


def test_the_csv_has_a_row_a_call_and_equal_bytes_every_time():
    packed = samples_csv(MEASURED)
    assert packed == samples_csv(MEASURED)
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))
    assert [float(row["seconds"]) for row in rows] == [0.25, 0.5, 1.0, 0.5, 1e-5, 0.1]
    assert [row["preempted"] for row in rows] == ["0", "1", "0", "1", "0", "0"]
    filled = [{key: cell for key, cell in row.items() if cell} for row in rows]
    assert filled[2] == {
        "kind": "prefill", "batch_size": "1", "new_tokens": "9", "cached_tokens": "0", "role": "holdout",
        "decodes": "0", "decode_context_tokens": "0",
        "round": "1", "at_s": "1001.0", "seconds": "1.0", "wall_s": "1.5", "preempted": "0",
    }  # fmt: skip
    assert filled[4].keys() == {"kind", "size", "round", "at_s", "seconds", "wall_s", "preempted"}


def test_the_csv_is_read_back():
    assert read_samples_csv(samples_csv(MEASURED)) == Measurements(VISITS, [COPY, CALL])


@pytest.mark.parametrize(
    "content",
    [b"", b"kind,seconds\n", gzip.compress(b"kind,seconds\ndecode,1\n"), gzip.compress(b"\xff")],
    ids=["empty", "not compressed", "other columns", "not text"],  # compressed bytes hold the time: no names for tests
)
def test_another_csv_is_refused(content):
    with pytest.raises(ValueError, match=r"."):
        read_samples_csv(content)


def test_lines_are_plain_json(begun):
    line = json.loads(begun.path.read_text().splitlines()[1])
    assert line["seconds"] == [0.25, 0.5]
    assert line["kind"] == "decode"
