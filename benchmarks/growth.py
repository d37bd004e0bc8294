"""How InferTuner's time and memory grow with requests, tokens a request and GPUs: a table and a figure in docs/.

    python benchmarks/growth.py

Offered tokens per second and GPU stay the same throughout (arrivals at 3/s for 211 output tokens and five times as many
prompt tokens), so only one thing grows at a time.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from peers import HEADER, PROJECT, run

DOCS = PROJECT / "docs"
OUTPUT_TOKENS = 211
"""Mean output of the Azure conversation trace of 2023."""
CURVES = {
    "requests": [(n, OUTPUT_TOKENS, 1) for n in (1_000, 10_000, 100_000, 1_000_000)],
    "output_tokens": [(20_000, tokens, 1) for tokens in (16, 64, 256, 1024, 4096)],
    "gpus": [(50_000, OUTPUT_TOKENS, gpus) for gpus in (1, 2, 4, 8, 16, 32, 64)],
}
"""What grows, and its points: requests, mean output tokens of a request, GPUs."""
COLUMNS = ("grows", "requests", "output_tokens", "gpus", "simulated_s", "whole_s", "peak_bytes", "events", "iterations")


def workload(path: Path, n: int, output_tokens: int, gpus: int) -> Path:
    """A request file: Poisson arrivals, lognormal prompts five times as long as the geometric outputs."""
    chance = np.random.default_rng(0)
    rate_per_s = 3.0 * gpus * OUTPUT_TOKENS / output_tokens
    at_s = chance.exponential(1 / rate_per_s, n).cumsum()
    prompt = (5 * output_tokens * chance.lognormal(-0.32, 0.8, n)).clip(1, 20 * output_tokens).astype(int)
    output = chance.geometric(1 / output_tokens, n).clip(1, 4 * output_tokens)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        rows.writerows(zip(range(n), at_s.tolist(), prompt.tolist(), output.tolist(), strict=True))
    return path


def measure(grows: str, point: tuple[int, int, int], repeats: int, folder: Path) -> dict[str, Any]:
    """One row of the table: medians of the repeats."""
    n, output_tokens, gpus = point
    path = workload(folder / "asked.csv", n, output_tokens, gpus)
    runs = [run("infertuner", PROJECT, path, gpus) for _ in range(repeats)]
    row = (
        grows,
        *point,
        median(one.said["simulated_s"] for one in runs),
        median(one.whole_s for one in runs),
        max(one.peak_bytes for one in runs),
        runs[0].said["events"],
        runs[0].said["iterations"],
    )
    print(f"{grows} {point}: {n / row[4]:,.0f} requests/s, {row[6] / 1e6:,.0f} MB", file=sys.stderr)
    return dict(zip(COLUMNS, row, strict=True))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time, events and memory over what grows."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, len(CURVES), figsize=(10, 7), sharex="col", sharey="row", layout="constrained")
    for (times, counts, memory), (grows, points) in zip(axes.T, CURVES.items(), strict=True):
        curve = [row for row in rows if row["grows"] == grows]
        x = [row[grows] for row in curve]
        times.loglog(x, [1e6 * row["simulated_s"] / row["requests"] for row in curve], "o-", label="simulation alone")
        times.loglog(x, [1e6 * row["whole_s"] / row["requests"] for row in curve], "s--", label="whole process")
        counts.loglog(x, [row["events"] / row["requests"] for row in curve], "o-", label="events")
        counts.loglog(x, [row["iterations"] / row["requests"] for row in curve], "s--", label="iterations")
        memory.semilogx(x, [row["peak_bytes"] / 1e6 for row in curve], "o-")
        memory.set_ylim(bottom=0)
        memory.set_xlabel(grows.replace("_", " ").replace("gpus", "GPUs"))
        memory.set_xticks(x, [f"{value / 1e6:g} M" if value >= 1e6 else f"{value:,}" for value in x])
        memory.minorticks_off()
        times.set_title("one GPU" if grows == "requests" else f"{points[0][0]:,} requests", fontsize="medium")
        for axis in (times, counts, memory):
            axis.grid(alpha=0.3)
    for axis, name in zip(axes[:, 0], ("µs a request", "a request", "peak memory, MB"), strict=True):
        axis.set_ylabel(name)
    for axis in axes[:2, -1]:
        axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=DOCS, metavar="FOLDER", help="default: docs/")
    asked = parser.parse_args()
    with TemporaryDirectory() as name:
        rows = [
            measure(grows, point, asked.repeats, Path(name)) for grows, points in CURVES.items() for point in points
        ]
    with (asked.out / "speed-growth.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    draw(rows, asked.out / "speed-growth.png")


if __name__ == "__main__":
    main()
