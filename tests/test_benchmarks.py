"""The speed benchmark runs with no peers installed, and its adapter simulates what the law says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def peers(*arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / "peers.py"), *map(str, arguments)]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PEER_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=bare, check=False)


def test_one_command_needs_no_peers(tmp_path):
    """Requests that never meet: 100 prompt tokens take 10.7 ms, then ten decodes of 6.015 ms and 29 ns a KV entry."""
    asked = tmp_path / "requests.csv"
    lines = [f"{number},{1000 * number},100,11" for number in range(3)]
    asked.write_text("\n".join(["request_id,arrived_at,num_prefill_tokens,num_decode_tokens", *lines]))
    done = peers("--requests", asked, "--repeats", 1, "--floor-events", 1000)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| infertuner")]
    assert len(rows) == 2, "one GPU and eight"
    for row in rows:
        iterations, e2e_s = float(row[4]), float(row[8])
        assert iterations == 11
        assert e2e_s == pytest.approx(0.0107 + 10 * 0.006015 + 29e-9 * sum(range(101, 111)), abs=0.0006)
    assert done.stdout.count(" us") == 4, "two floors of SimPy and two of a heap loop"


def test_unknown_peer_is_named():
    done = peers("--peer", "vidor=/nowhere")
    assert done.returncode == 1
    assert "vidor" in done.stderr
    assert "vidur" in done.stderr
    assert "Traceback" not in done.stderr
