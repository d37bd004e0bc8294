"""The timeline file: valid trace events whose slices and counters say what the run did."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from hypothesis import given, settings

from infertuner.errors import ResultsError
from infertuner.outcomes import perfetto
from infertuner.outcomes.perfetto import parse_window, timeline, write_timeline
from infertuner.outcomes.window import Window
from infertuner.records import Records
from infertuner.scenario import yaml12
from infertuner.simulate import main
from tests.test_outcomes_metrics import Row, record, runs
from tests.test_outcomes_segments import walks


def events_of(records: Records, window: Window | None = None) -> list[dict]:
    return json.loads(timeline(records, window or Window(0.0, records.ended_at_s)))["traceEvents"]


def check(events: list[dict], window: Window) -> None:
    """What the Trace Event Format asks for, and that slices of a track nest or follow one another."""
    tracks = defaultdict(list)
    for event in events:
        assert event["ph"] in "MXC"
        assert isinstance(event["pid"], int)
        if event["ph"] == "M":
            continue
        assert window.since_s * 1e6 - 1e-3 <= event["ts"] <= window.until_s * 1e6 + 1e-3
        if event["ph"] == "C":
            assert all(value >= 0 for value in event["args"].values())
        else:
            assert event["dur"] >= 0
            tracks[event["pid"]].append((event["ts"], event["ts"] + event["dur"]))
    for slices in tracks.values():
        open_until: list[float] = []
        for start, end in sorted(slices, key=lambda ends: (ends[0], -ends[1])):
            while open_until and open_until[-1] <= start + 2e-3:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 2e-3
            open_until.append(end)


@settings(deadline=None, max_examples=40)
@given(walks())
def test_a_continuous_run_by_its_rows(walked):
    records = walked.records
    events = events_of(records)
    check(events, Window(0.0, records.ended_at_s))
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == len(records.segments.gpu_id)
    assert sum(event["args"]["iterations"] for event in slices) == len(walked.iterations)
    busy_s = sum(end_s - start_s for start_s, end_s, _, _ in walked.iterations)
    assert sum(event["dur"] for event in slices) / 1e6 == pytest.approx(busy_s, abs=1e-6)
    last = {event["name"]: event["args"][event["name"]] for event in events if event["ph"] == "C"}
    assert set(last) == {"running", "waiting", "KV blocks"}


@settings(deadline=None, max_examples=40)
@given(walks())
def test_a_window_holds_what_overlaps_it_cut_to_it(walked):
    ended_at_s = walked.records.ended_at_s
    window = Window(ended_at_s / 3, ended_at_s / 2)
    events = events_of(walked.records, window)
    check(events, window)
    busy_s = sum(
        max(0.0, min(end_s, window.until_s) - max(start_s, window.since_s))
        for start_s, end_s, _, _ in walked.iterations
    )
    assert sum(event["dur"] for event in events if event["ph"] == "X") / 1e6 == pytest.approx(busy_s, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(runs())
def test_static_batches_too(records):
    check(events_of(records), Window(0.0, records.ended_at_s))


def test_static_batches_by_hand():
    rows = [Row(0.0, 1.0, 2.0, 4.0, gpu_id=0), Row(0.5, 1.0, 2.0, 4.0, gpu_id=0), Row(3.0, gpu_id=1)]
    events = events_of(record(rows, [(0, 1.0, 2, 0.0, 1.0, 2.0)], num_gpus=2, ended_at_s=5.0))
    assert [event["args"]["name"] for event in events if event["ph"] == "M"] == ["GPU 0", "GPU 1"]
    slices = [(event["name"], event["pid"], event["ts"], event["dur"]) for event in events if event["ph"] == "X"]
    assert slices == [("batch", 1, 1e6, 3e6), ("prefill", 1, 1e6, 1e6), ("decode", 1, 2e6, 2e6)]
    counters = defaultdict(list)
    for event in events:
        if event["ph"] == "C":
            counters[event["pid"], event["name"]].append((event["ts"] / 1e6, event["args"][event["name"]]))
    assert counters[1, "waiting"] == [(0.0, 1), (0.5, 2), (1.0, 0), (4.0, 0)]
    assert counters[1, "running"] == [(0.0, 0), (0.5, 0), (1.0, 2), (4.0, 0)]
    assert counters[2, "waiting"] == [(3.0, 1)]


def test_too_much_is_refused_with_a_window_that_fits(monkeypatch):
    monkeypatch.setattr(perfetto, "MAX_EVENTS", 400)
    steps = [(0, float(start), 1, 0.0, 0.5, 0.0) for start in range(1000)]
    records = record([], steps, ended_at_s=float(len(steps)))
    with pytest.raises(ResultsError, match="such as 0s:") as refusal:
        timeline(records, Window(0.0, records.ended_at_s))
    assert "\n" not in str(refusal.value)
    assert len(events_of(records, parse_window(str(refusal.value).split("such as ")[1]))) <= 400


@pytest.mark.parametrize("text", ["10s", "20s:10s", ":", "a:b", "-1s:3s", "1s:1s"])
def test_a_window_that_is_none_is_refused(text):
    with pytest.raises(ResultsError, match=r"--trace-window: .*10s:20s"):
        parse_window(text)


def test_nothing_is_left_where_it_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="choose another --trace"):
        write_timeline(tmp_path / "file" / "trace.json", record([Row()]))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_command_writes_it(tiny, tmp_path, capsys):

    path, trace = tmp_path / "tiny.yaml", tmp_path / "trace.json"
    path.write_text(yaml12.write(tiny))
    arguments = [str(path), "--out", str(tmp_path / "out"), "--trace-window", "0s:10s"]
    assert main(arguments) == 2
    assert main([*arguments, "--trace", str(trace)]) == 0
    events = json.loads(trace.read_text())["traceEvents"]
    check(events, Window(0.0, 10.0))
    assert {event["ph"] for event in events} == {"M", "X", "C"}
    assert str(trace) in capsys.readouterr().out
