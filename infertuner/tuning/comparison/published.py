"""The three optimisers as the first publication ran them on its own table of measurements, defects included.

- One table of runs with one batch a GPU: throughput is that of a start, not of a steady state.
- A gradient-boosted model predicts throughput and latency; its learning rate is so small that it leans to the mean.
- DS2 and the joint search accept 95 % of the rate, ContTune wants all of it.
- ContTune's measurements at "batch size 1" are means over all batch sizes, and its Gaussian process is fitted on scaled
  parallelism and asked for unscaled.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from infertuner.sources.requests import Floats
from infertuner.tuning.comparison.targets import MOST_GPUS, TOLERANCE, Choice, Outcome, Target

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

GROWTH = 1.25
SMALL_STEPS = 3
UCB_WIDTH = 1.96
FEATURES = ["parallelism", "batch_size", "target_rate"]


class PublishedTable:
    """The measurements the first publication chose from: a CSV with one row a run."""

    def __init__(self, path: Path) -> None:
        runs = pd.read_csv(path)
        sound = (runs.throughput_rps > 0) & (runs.avg_latency_ms > 0) & (runs.success_rate_pct > 90)
        self.runs = runs[sound]
        self._throughput = _boosted(self.runs, "throughput_rps")
        self._latency = _boosted(self.runs, "avg_latency_ms")

    def predicted(self, target: Target, choice: Choice) -> Outcome:
        """What its model says of a configuration."""
        point = np.array([[choice.gpus, choice.batch_size, target.throughput_per_s]])
        return Outcome(float(self._throughput.predict(point)[0]), float(self._latency.predict(point)[0]) / 1e3)

    def measured(self, choice: Choice) -> Outcome | None:
        """The mean of the runs of exactly this configuration; None where nobody ran it."""
        runs = self.runs[(self.runs.parallelism == choice.gpus) & (self.runs.batch_size == choice.batch_size)]
        if runs.empty:
            return None
        return Outcome(float(runs.throughput_rps.mean()), float(runs.avg_latency_ms.mean()) / 1e3)

    def over_all_batch_sizes(self) -> dict[int, Outcome]:
        """What ContTune took for measurements: the mean of all runs of each number of GPUs."""
        means = self.runs.groupby("parallelism")[["throughput_rps", "avg_latency_ms"]].mean()
        rows = zip(means.index.tolist(), means.to_numpy(float).tolist(), strict=True)
        return {gpus: Outcome(throughput_per_s, latency_ms / 1e3) for gpus, (throughput_per_s, latency_ms) in rows}


def ds2(table: PublishedTable, target: Target) -> Choice | None:
    """The fewest GPUs whose own measured rate at batch size 1 is enough and whose predicted latency is short enough."""
    alone = table.runs[table.runs.batch_size == 1].groupby("parallelism").throughput_rps.mean()
    per_gpu = {gpus: rate / gpus for gpus, rate in zip(alone.index.tolist(), alone.tolist(), strict=True)}
    for gpus in range(1, max(per_gpu) + 1):
        nearest = min(per_gpu, key=lambda known: abs(known - gpus))
        enough = per_gpu[nearest] * gpus >= (1 - TOLERANCE) * target.throughput_per_s
        if enough and table.predicted(target, Choice(gpus, 1)).latency_s <= target.latency_s:
            return Choice(gpus, 1)
    return None


def joint(table: PublishedTable, target: Target) -> Choice | None:
    """The fewest GPUs over all measured sizes whose prediction is good enough; then the smallest batch size."""
    for gpus in sorted(table.runs.parallelism.unique()):
        for batch_size in sorted(table.runs.batch_size.unique()):
            choice = Choice(int(gpus), int(batch_size))
            said = table.predicted(target, choice)
            enough = said.throughput_per_s >= (1 - TOLERANCE) * target.throughput_per_s
            if enough and said.latency_s <= target.latency_s:
                return choice
    return None


def conttune(table: PublishedTable, target: Target) -> Choice:
    """Grow by a quarter until the target holds, then try what the process likes best as long as it is smaller."""
    seen = table.over_all_batch_sizes()

    def holds(gpus: int) -> bool:
        return seen[gpus].throughput_per_s >= target.throughput_per_s and seen[gpus].latency_s <= target.latency_s

    gpus, tried = 1, [1]
    while not holds(gpus) and gpus < MOST_GPUS:
        gpus = min(max(math.ceil(gpus * GROWTH), gpus + 1), MOST_GPUS)
        tried.append(gpus)
    if not holds(gpus):
        return Choice(gpus, 1)
    alone = table.runs[table.runs.batch_size == 1]
    known = alone[["parallelism", "throughput_rps", "avg_latency_ms"]].to_numpy(float).tolist()
    for _ in range(SMALL_STEPS):
        liked = _most_liked(np.array(known))
        if liked >= gpus or liked in tried:
            break
        tried.append(liked)
        known.append([float(liked), seen[liked].throughput_per_s, seen[liked].latency_s * 1e3])
        if not holds(liked):
            break
        gpus = liked
    return Choice(min(filter(holds, tried)), 1)


def _boosted(runs: pd.DataFrame, column: str) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor  # noqa: PLC0415

    model = GradientBoostingRegressor(n_estimators=200, learning_rate=0.01, max_depth=6, random_state=42)
    return model.fit(runs[FEATURES].to_numpy(float), runs[column].to_numpy(float))


def _most_liked(known: Floats) -> int:
    """The number of GPUs with the highest sum of both upper confidence bounds, each in units of its spread."""
    places = np.arange(1, MOST_GPUS + 1, dtype=np.float64)[:, None]
    scaled = (known[:, :1] - known[:, :1].mean()) / known[:, :1].std()
    score = np.zeros(MOST_GPUS)
    for column, sign in ((1, 1.0), (2, -1.0)):
        mean, deviation = _process().fit(scaled, known[:, column]).predict(places, return_std=True)
        score += sign * (mean - mean.mean()) / mean.std() + UCB_WIDTH * deviation / mean.std()
    return int(places[np.argmax(score), 0])


def _process() -> GaussianProcessRegressor:
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel  # noqa: PLC0415

    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(1.0, (1e-4, 1e4))
    return GaussianProcessRegressor(kernel, n_restarts_optimizer=25, alpha=1e-2, normalize_y=True, random_state=0)
