"""How often the saturation verdict is right: queues of known load, many runs each, as a table for docs/metrics.md.

python benchmarks/saturation.py [RUNS]
"""

from __future__ import annotations

import sys
from array import array

import numpy as np

from infertuner.outcomes.saturation import queue_growth, saturation
from infertuner.outcomes.window import Metrics
from infertuner.records import CacheSizeColumns, Records, RequestColumns, Status, StepColumns
from infertuner.sources.requests import Floats, OpenLoop, Requests

LOADS = (0.5, 0.8, 0.9, 1.0, 1.05, 1.1, 1.2, 1.5)
REQUESTS = (300, 1000, 3000, 10_000, 30_000)
REPLICATIONS = 10
"""Runs of 1,000 requests that decide together, in the last column."""
QUEUES = {
    "M/M/1": ("poisson", 1),
    "M/D/1": ("poisson", 1),
    "8 × M/M/1": ("poisson", 8),
    "bursts": ("gamma", 1),
    "on-off": ("on-off", 1),
}
"""Arrivals and how many GPUs take turns."""


def gaps(kind: str, rng: np.random.Generator, n: int) -> Floats:
    """Times between arrivals of mean 1: Poisson; gamma with a coefficient of variation of 2; or on-off.

    On-off takes turns of 20 requests on average at 3 and at 0.6 times the mean rate.
    """
    if kind == "gamma":
        return rng.gamma(0.25, 4.0, n)
    lengths = np.ones(n)
    if kind == "on-off":
        turns = rng.geometric(1 / 20, n)
        lengths = np.repeat(np.where(np.arange(n) % 2, 1 / 0.6, 1 / 3), turns)[:n]
    return rng.exponential(1.0, n) * lengths


def growth(queue: str, load: float, n: int, rng: np.random.Generator) -> Metrics:
    """One run of `n` requests, first come first served, by the Lindley recursion."""
    arrivals, gpus = QUEUES[queue]
    arrived_at_s = np.cumsum(gaps(arrivals, rng, n)) / (load * gpus)
    service_s = np.ones(n) if queue == "M/D/1" else rng.exponential(1.0, n)
    gpu_id, started_at_s = np.arange(n) % gpus, np.empty(n)
    for gpu in range(gpus):
        mine = gpu_id == gpu
        work_s = np.cumsum(service_s[mine]) - service_s[mine]
        started_at_s[mine] = np.maximum.accumulate(arrived_at_s[mine] - work_s) + work_s
    requests = RequestColumns(n)
    requests.arrived_at_s = requests.routed_at_s = array("d", arrived_at_s)
    requests.started_at_s, requests.finished_at_s = array("d", started_at_s), array("d", started_at_s + service_s)
    requests.gpu_id, requests.status = array("q", gpu_id.tolist()), array("q", [Status.FINISHED]) * n
    ones = np.ones(n, dtype=np.int64)
    asked = Requests(OpenLoop(arrived_at_s), range(n), ones, ones, ones)
    return queue_growth(Records(asked, requests, StepColumns(), CacheSizeColumns(), gpus, 0.0, events=0))


def cell(queue: str, load: float, *, n: int, replications: int, runs: int, rng: np.random.Generator) -> str:
    """Percent of runs called saturated / stable."""
    found = [saturation([growth(queue, load, n, rng) for _ in range(replications)]) for _ in range(runs)]
    return " / ".join(f"{100 * found.count(verdict) / runs:.0f}" for verdict in ("saturated", "stable"))


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    rng = np.random.default_rng(1)
    columns = [(f"{n:,}", n, 1) for n in REQUESTS] + [(f"{REPLICATIONS} × 1,000", 1000, REPLICATIONS)]
    print("| queue | load | " + " | ".join(name for name, _, _ in columns) + " |")
    print("|---|---" + "|---" * len(columns) + "|")
    for queue in QUEUES:
        for load in LOADS:
            cells = [
                cell(queue, load, n=n, replications=r, runs=runs // (3 if r > 1 else 1), rng=rng) for _, n, r in columns
            ]
            print(f"| {queue} | {load:g} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
