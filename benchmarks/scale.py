"""How fast the simulator is at scale, beside what SimPy itself costs. Run: python benchmarks/scale.py

Prints, for each case, requests simulated per second, events per request, peak memory and the time over that of the bare
SimPy events it is made of. Machines differ and are noisy: the ratio to the floor of the same run is what travels.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

from adapters.run_floor import timeout_s

from infertuner.experiments.report import peak_rss_bytes
from infertuner.experiments.runs import run_arm
from infertuner.outcomes.metrics import summarise
from infertuner.scenario.study import load_study

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
CASES = {
    "1,024 GPUs, round robin": ("gpu_scaling_1024.yaml", 10),
    "1,024 GPUs, least outstanding": ("gpu_scaling_1024.yaml", 11),
    "100 k users, STATIC": ("cache_two_level_at_scale.yaml", 0),
    "100 k users, FLUID": ("cache_two_level_at_scale.yaml", 1),
    "100 k users, FREQUENCY": ("cache_two_level_at_scale.yaml", 2),
}
"""Scenario file and arm."""


def measure(name: str, requests: int | None) -> None:
    """Run one case in this process and print its line."""
    file, arm_index = CASES[name]
    settings = {} if requests is None else {"workload.requests": requests}
    arm = load_study(SCENARIOS / file, settings).arms[arm_index]
    gc.collect()
    started = time.perf_counter()
    records = run_arm(arm)
    simulated_s = time.perf_counter() - started
    summarise(records, 0.0)
    metrics_s = time.perf_counter() - started - simulated_s
    n = len(records.asked)
    memory = peak_rss_bytes() / 2**30
    floor_s = records.events * timeout_s(records.events, arm.scenario.cluster.gpus)
    print(
        f"{name:32} {n:>9,} requests {simulated_s:5.1f} s + {metrics_s:.1f} s metrics",
        f"{n / simulated_s:>8,.0f} requests/s",
        f"{records.events / n:.2f} events/request  {memory:.2f} GiB  {simulated_s / floor_s:.1f} x bare SimPy",
        flush=True,
    )


def in_own_process(work: Callable[..., None], *arguments: object) -> None:
    """Run `work` in a fresh process, so that its peak memory is its own."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--requests", type=int, help="requests a case (default: as the scenarios have them, about a million)"
    )
    chosen = parser.parse_args().requests
    for case in CASES:
        in_own_process(measure, case, chosen)
