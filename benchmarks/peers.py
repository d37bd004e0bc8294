"""How fast InferTuner simulates beside its peers and the floor, on the same requests under the same latency law.

    python benchmarks/peers.py --requests azure-conv-3-per-s.requests.csv --peer vidur=~/vidur --peer blis=~/blis

Peers that are not given are left out; docs/speed.md says how to install them. A peer may also be named by an
environment variable, PEER_VIDUR=~/vidur. A Python peer runs under ROOT/.venv/bin/python where that exists. With
--compiled FOLDER, InferTuner runs as setup.py compiles it as well. Each run is a process of its own; tools take turns,
so that a machine that slows down slows all of them.

The request file has columns request_id,arrived_at,num_prefill_tokens,num_decode_tokens; without one, a synthetic
workload of similar lengths stands in. Eight GPUs get the same requests eight times as fast.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
PEERS = ("distserve", "blis", "splitwise", "vidur")
OURS, COMPILED = "infertuner", "infertuner-compiled"
HEADER = ("request_id", "arrived_at", "num_prefill_tokens", "num_decode_tokens")
KINDS = (int, float, int, int)
Row = tuple[int, float, int, int]


class Case(NamedTuple):
    """One table: a request file and how many GPUs serve it."""

    title: str
    requests: Path
    gpus: int
    tools: tuple[str, ...]


class Run(NamedTuple):
    """What one process of a tool took."""

    whole_s: float
    peak_bytes: int
    said: dict[str, Any]
    """The last line it printed."""


def synthetic(n: int) -> list[Row]:
    """Poisson arrivals at 3/s; lognormal lengths around those of the Azure conversation trace of 2023, cut at 4096."""
    chance = random.Random(0)
    rows, now_s = [], 0.0
    for number in range(n):
        now_s += chance.expovariate(3.0)
        prompt_tokens = min(4096, max(1, round(chance.lognormvariate(6.8, 0.9))))
        rows.append((number, now_s, prompt_tokens, min(1000, max(2, round(chance.lognormvariate(5.0, 0.85))))))
    return rows


def read(path: Path) -> list[Row]:
    """All rows of a request file."""
    with path.open() as file:
        return [
            tuple(kind(row[name]) for kind, name in zip(KINDS, HEADER, strict=True)) for row in csv.DictReader(file)
        ]


def write(path: Path, rows: list[Row], faster: int) -> Path:
    """The rows with all gaps divided by `faster`."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(HEADER)
        lines.writerows((number, at_s / faster, *tokens) for number, at_s, *tokens in rows)
    return path


def run(tool: str, root: Path, *arguments: object) -> Run:
    """One run in a process of its own; raises SystemExit with what it said when it fails."""
    own = root / ".venv" / "bin" / "python"
    python = str(own) if tool in PEERS and own.exists() else sys.executable
    adapter = HERE / "adapters" / f"run_{OURS if tool == COMPILED else tool}.py"
    command = [python, str(adapter), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with tempfile.TemporaryFile() as complaints:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, env=environment)
        said = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        whole_s, process.returncode = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            complaints.seek(0)
            raise SystemExit(f"{tool} failed:\n{complaints.read().decode()[-2000:]}")
    figures = [line for line in said.splitlines() if line.startswith("{")]
    return Run(whole_s, usage.ru_maxrss * 1024, json.loads(figures[-1]))


def spread(values: list[float], unit: str = "{:,.0f}") -> str:
    """The median, and in brackets the lowest and highest."""
    if len(values) == 1:
        return unit.format(values[0])
    return f"{unit.format(median(values))} ({unit.format(min(values))}-{unit.format(max(values))})"


def table(case: Case, runs: dict[str, list[Run]], timeout_s: float) -> list[str]:
    """The case as lines of a Markdown table."""
    ours_s = median(one.said["simulated_s"] for one in runs[OURS])
    lines = [
        f"### {case.title}",
        "",
        "| tool | requests/s, simulation alone | requests/s, whole process | events/request | iterations/request "
        "| peak memory, MB | bare timeouts/request | times InferTuner's time | mean E2E, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for tool, of_tool in runs.items():
        said = of_tool[0].said
        n = said["finished"]
        each_s = median(one.said["simulated_s"] for one in of_tool)
        cells = (
            tool,
            spread([n / one.said["simulated_s"] for one in of_tool]),
            spread([n / one.whole_s for one in of_tool]),
            "not told" if said["events"] is None else f"{said['events'] / n:.2f}",
            "not told" if said["iterations"] is None else f"{said['iterations'] / n:.1f}",
            f"{max(one.peak_bytes for one in of_tool) / 1e6:,.0f}",
            f"{each_s / n / timeout_s:,.1f}",
            f"{each_s / ours_s:,.{0 if each_s > 10 * ours_s else 1}f}",
            f"{said['e2e_mean_s']:.3f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def installed(given: list[str]) -> dict[str, Path]:
    """Where peers are: from the environment, and from NAME=ROOT, which wins."""
    named = {name: os.environ[f"PEER_{name.upper()}"] for name in PEERS if f"PEER_{name.upper()}" in os.environ}
    for text in given:
        name, _, root = text.partition("=")
        if name not in PEERS or not root:
            raise SystemExit(f"--peer {text}: must be NAME=ROOT with NAME one of {', '.join(PEERS)}")
        named[name] = root
    roots = {name: Path(root).expanduser().resolve() for name, root in named.items()}
    for name, root in roots.items():
        if not root.is_dir():
            raise SystemExit(f"--peer {name}={root}: no such folder; see docs/speed.md for how to install it")
    return roots


def main(argv: list[str] | None = None) -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=Path, metavar="CSV", help="request file (default: synthetic)")
    parser.add_argument("--first", type=int, default=2000, help="how many of them the peers get too (default 2000)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=ROOT", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--compiled", type=Path, metavar="FOLDER", help="where a compiled InferTuner was installed")
    parser.add_argument("--floor-events", type=int, default=1_000_000, help="events of each floor (default a million)")
    asked = parser.parse_args(argv)
    ours = {OURS: PROJECT} | ({COMPILED: asked.compiled.resolve()} if asked.compiled else {})
    roots = ours | installed(asked.peer)
    every = read(asked.requests) if asked.requests else synthetic(20_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = []
        for gpus, which in ((1, "one GPU"), (8, "8 GPUs, round robin")):
            first = write(folder / f"first-{gpus}.csv", every[: asked.first], gpus)
            cases.append(Case(f"{which}, {min(asked.first, len(every)):,} requests", first, gpus, tuple(roots)))
        for gpus, which in ((1, "one GPU"), (8, "8 GPUs, round robin")) if len(every) > asked.first else ():
            whole = write(folder / f"whole-{gpus}.csv", every, gpus)
            cases.append(Case(f"{which}, all {len(every):,} requests", whole, gpus, tuple(ours)))
        runs: dict[Case, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
        floors = []
        for repeat in range(asked.repeats):
            floors.append(run("floor", PROJECT, asked.floor_events).said)
            for case in cases:
                for tool in case.tools:
                    print(f"repeat {repeat + 1} of {asked.repeats}: {case.title}: {tool}", file=sys.stderr)
                    runs[case][tool].append(run(tool, roots[tool], case.requests, case.gpus))
    for what in floors[0]:
        print(f"- {what}: {spread([1e6 * floor[what] for floor in floors], '{:.2f}')} us")
    timeout_s = median(floor["SimPy timeout, 1 process"] for floor in floors)
    print()
    for case in cases:
        print("\n".join(table(case, runs[case], timeout_s)))


if __name__ == "__main__":
    main()
