"""The simulate command end to end: files, exit codes, and what a person reads when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from infertuner.scenario import yaml12
from infertuner.simulate import main
from tests.conftest import ROOT


@pytest.fixture
def scenario(tiny, tmp_path):
    tiny["sweep"] = {"cluster.gpus": [1, 2]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    return path


def test_a_run_writes_its_folder(scenario, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(scenario), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    written = sorted(path.name for path in out.iterdir())
    assert written == [
        "fleet.parquet", "plain.csv", "provenance.json", "replications.csv", "report.html", "requests.parquet",
        "scenario.resolved.yaml", "steps.parquet", "summary.json",
    ]  # fmt: skip
    for name in written:
        assert str(out / name) in printed
    summary = json.loads((out / "summary.json").read_text())
    assert [arm["parameters"] for arm in summary["arms"]] == [{"cluster.gpus": 1}, {"cluster.gpus": 2}]
    assert {"mean", "ci_low", "ci_high", "n"} == set(summary["arms"][0]["throughput_per_s"])
    assert {"requests", "wall_s", "events", "peak_rss_bytes", "seed", "replications"} <= set(summary["run"])
    requests = pd.read_parquet(out / "requests.parquet")
    assert requests.groupby("arm").size().tolist() == [20, 20]
    assert pd.read_csv(out / "replications.csv").shape[0] == 4


def test_json_is_alone_on_stdout(scenario, tmp_path, capsys):
    assert main([str(scenario), "--out", str(tmp_path / "out"), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["arms"] == json.loads((tmp_path / "out" / "summary.json").read_text())["arms"]


def test_overrides_seed_and_replications(scenario, tmp_path, capsys):
    arguments = ["--set", "workload.requests=7", "--seed", "5", "--replications", "3", "--format", "json"]
    assert main([str(scenario), "--out", str(tmp_path / "out"), *arguments]) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    assert (run["requests"], run["seed"], run["replications"]) == (7 * 2 * 3, 5, 3)


def test_the_same_seed_writes_the_same_bytes(scenario, tmp_path):
    for name in ("a", "b"):
        assert main([str(scenario), "--out", str(tmp_path / name)]) == 0
    for name in ("plain.csv", "replications.csv", "requests.parquet", "steps.parquet", "scenario.resolved.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_resolved_scenario_runs_again_from_where_it_lies(scenario, tmp_path):
    (tmp_path / "trace.csv").write_text("arrived_at_s,prompt_tokens,output_tokens\n0,5,5\n1,6,6\n")
    out = tmp_path / "some" / "out"
    trace = "workload={kind: trace, format: csv, path: trace.csv}"
    assert main([str(scenario), "--out", str(out), "--set", trace]) == 0
    again = tmp_path / "again"
    assert main([str(out / "scenario.resolved.yaml"), "--out", str(again)]) == 0
    assert (out / "replications.csv").read_bytes() == (again / "replications.csv").read_bytes()
    assert set(json.loads((out / "provenance.json").read_text())["files"]) == {"trace.csv"}


BAD_TRACE = "arrived_at_s,prompt_tokens,output_tokens\n0,5,5\n1,six,6\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "cluster.gpu=3"], ["cluster.gpu: unknown key", "'gpus'"]),
        (["--set", "cluster.gpus=few"], ["cluster.gpus", "whole number", "'few'"]),
        (["--set", "cluster.gpus=0"], ["cluster.gpus", "at least 1", "0"]),
        (["--set", "oops"], ["--set oops", "KEY=VALUE"]),
        (["--replications", "0"], ["replications", "at least 1", "0"]),
        (["--set", "latency={kind: profile, path: none.json}"], ["latency.path", "none.json"]),
        (["--set", "latency={kind: profile, path: old.json}"], ["old.json", "schema"]),
        (["--set", "workload={kind: trace, format: csv, path: none.csv}"], ["workload.path", "none.csv"]),
        (["--set", "workload={kind: trace, format: csv, path: empty.csv}"], ["empty.csv"]),
        (["--set", "workload={kind: trace, format: csv, path: bad.csv}"], ["bad.csv", "3", "six"]),
        (["--set", "workload.arrivals={kind: closed_loop, users: 1, think_s: 0}",
          "--set", "cluster.batcher={kind: fixed, max_batch_size: 4}"], ["cluster.batcher", "to fill", "timeout"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_code_2(scenario, tmp_path, capsys, arguments, words):
    (tmp_path / "old.json").write_text(json.dumps({"schema": "infertuner.calibration/0"}))
    (tmp_path / "empty.csv").write_text("arrived_at_s,prompt_tokens,output_tokens\n")
    (tmp_path / "bad.csv").write_text(BAD_TRACE)
    before = sorted(tmp_path.iterdir())
    assert main([str(scenario), "--out", str(tmp_path / "out"), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    for word in words:
        assert word in captured.err
    assert sorted(tmp_path.iterdir()) == before, "nothing half-written"


def test_a_missing_scenario(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml: cannot be read" in capsys.readouterr().err


def test_arms_with_named_and_numbered_sessions_are_refused(scenario, tmp_path, capsys):
    named = "{kind: published_basic, requests: 5, interval_s: 1, loop: open}"
    arms = f"arms=[{{workload.requests: 5}}, {{workload: {named}}}]"
    assert main([str(scenario), "--out", str(tmp_path / "out"), "--set", arms]) == 2
    assert "named and with numbered sessions" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_existing_results_are_kept(scenario, tmp_path, capsys):
    assert main([str(scenario), "--out", str(tmp_path / "out")]) == 0
    assert main([str(scenario), "--out", str(tmp_path / "out")]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_default_folder(scenario, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(scenario)]) == 0
    folders = list((tmp_path / "results" / "plain").iterdir())
    assert len(folders) == 1
    assert folders[0].name.startswith("tiny-")


def test_help_has_an_example():
    done = subprocess.run(
        [sys.executable, "-m", "infertuner.simulate", "--help"], capture_output=True, text=True, check=True
    )
    assert "example: python -m infertuner.simulate scenarios/cache.yaml" in " ".join(done.stdout.split())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupted_run_leaves_nothing_behind(tiny, tmp_path):
    tiny["workload"]["requests"] = 1_000_000
    path = tmp_path / "long.yaml"
    path.write_text(yaml12.write(tiny))
    command = [sys.executable, "-m", "infertuner.simulate", str(path), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        while not list(tmp_path.glob(".out.*")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.strip() == "interrupted"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["long.yaml"]
