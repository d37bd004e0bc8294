"""What a configuration does at steady state, by simulation: replications with common random numbers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from infertuner.experiments.runs import run_study
from infertuner.scenario.study import load_study
from infertuner.tuning.comparison.targets import Measure, Outcome, Target


class SteadyState:
    """Runs a scenario with other GPUs, batch sizes and loads, each of them once, and counts the runs."""

    def __init__(self, scenario: Path, seed: int | None = None) -> None:
        self._scenario = scenario
        self._settings = {} if seed is None else {"seed": seed}

    def under(self, target: Target) -> Measure:
        """How configurations do under a target's rate; each is simulated once.

        Latency is the upper end of the 95 % interval over replications, so that what is found to keep its promise
        also does so on other seeds.
        """

        @cache
        def measure(gpus: int, batch_size: int) -> Outcome:
            settings = {
                "workload.arrivals.per_s": target.throughput_per_s,
                "cluster.gpus": gpus,
                "cluster.batcher.max_batch_size": batch_size,
            }
            result = run_study(load_study(self._scenario, {**settings, **self._settings}))
            latency, rate = result.interval(0, "e2e_mean_s"), result.interval(0, "throughput_per_s")
            busy = result.interval(0, "utilization_ratio")
            return Outcome(rate.mean or 0.0, latency.ci_high or latency.mean or 0.0, busy.mean or 1.0)

        return measure
