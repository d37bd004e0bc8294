"""A sweep of 500 cells in 5 replications on one core and on two, killed half way, resumed, and on a Dask cluster.

python benchmarks/sweep_scaling.py [--requests N] [--repeats N]

Prints wall seconds of the whole command, the least of the repeats, and whether all tables are the same bytes. Run it
on a quiet machine: what else runs takes more from two processes than from one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCENARIO = """
name: scaling
replications: 5
warmup_s: 20
workload:
  kind: synthetic
  requests: {requests}
  arrivals: {{kind: poisson, per_s: 4}}
  prompt_tokens: {{kind: lognormal, mean_tokens: 200, cv: 1, max_tokens: 2000}}
  output_tokens: {{kind: uniform, min_tokens: 20, max_tokens: 80}}
cluster:
  gpus: 8
  router: {{kind: least_outstanding}}
  batcher: {{kind: timeout, max_batch_size: 4, timeout_s: 50ms}}
latency: {{kind: per_token, base_s: 20ms, per_prompt_token_s: 0.1ms, per_output_token_s: 20ms}}
sweep:
  cluster.gpus: {{range: {{min: 6, max: 10, step: 1}}}}
  cluster.batcher.max_batch_size: {{range: {{min: 1, max: 10, step: 1}}}}
  workload.arrivals.per_s: {{range: {{min: 3, max: 4.8, step: 0.2}}}}
"""
CELLS = 500 * 5


def sweep(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command; it writes the folder `name` and uses the store `name` unless told otherwise."""
    store = [] if "--store" in arguments else ["--store", str(folder / f"{name}.store")]
    command = [sys.executable, "-m", "infertuner.sweep", str(folder / "scaling.yaml"), "--out", str(folder / name)]
    return subprocess.Popen([*command, *store, *arguments], stdout=subprocess.DEVNULL)


def timed(folder: Path, name: str, *arguments: str) -> float:
    """Wall seconds of one whole command."""
    began = time.perf_counter()
    process = sweep(folder, name, *arguments)
    if process.wait():
        sys.exit(f"{name}: exit code {process.returncode}")
    return time.perf_counter() - began


def kept(store: Path) -> int:
    """Cells in a store."""
    return sum(1 for _ in store.rglob("*.json"))


def killed_and_resumed(folder: Path) -> str:
    """Kill the command when half of the cells are there, and run it again."""
    store = folder / "killed.store"
    process = sweep(folder, "killed", "--jobs", "2")
    while kept(store) < CELLS / 2:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = kept(store)
    timed(folder, "resumed", "--jobs", "2", "--store", str(store))
    run = json.loads((folder / "resumed" / "summary.json").read_text())["run"]
    return f"{before} cells kept, then {run['from_store']} read and {run['computed']} computed"


def on_dask(folder: Path) -> float:
    """Wall seconds on a local cluster of two workers that is already up."""
    from distributed import LocalCluster  # noqa: PLC0415 - an extra

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        return timed(folder, "dask", "--cluster", cluster.scheduler_address)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scaling.yaml").write_text(SCENARIO.format(requests=arguments.requests))
        one = min(timed(folder, f"one{n}", "--jobs", "1") for n in range(arguments.repeats))
        two = min(timed(folder, f"two{n}", "--jobs", "2") for n in range(arguments.repeats))
        print(f"one core {one:.1f} s, two cores {two:.1f} s: {one / two:.2f} times as fast", flush=True)
        print(f"kill -9: {killed_and_resumed(folder)}", flush=True)
        print(f"two Dask workers {on_dask(folder):.1f} s")
        for table in ("sweep.csv", "sweep.parquet"):
            tables = {(folder / run / table).read_bytes() for run in ("one0", "two0", "resumed", "dask")}
            print(f"{table}: {'the same bytes four times' if len(tables) == 1 else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
