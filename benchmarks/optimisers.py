"""DS2, ContTune and joint search on ten loads, as first published and at steady state.

Writes results/optimisers/comparison-reference/.

python benchmarks/optimisers.py [MEASUREMENTS.csv] [--seeds N]

MEASUREMENTS.csv is the first publication's table of runs (data/submit_job_Falcon3-7B-Instruct_1000ms of
github.com/JiGuoDing/Infertuner at f6398b1); without it only the steady state is run, about a minute a seed.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from infertuner.outcomes.statistics import interval
from infertuner.tuning.comparison import conttune, ds2, joint, published
from infertuner.tuning.comparison.steady import SteadyState
from infertuner.tuning.comparison.targets import TARGETS, Choice, Target

HERE = Path(__file__).parent.parent
OUT = HERE / "results/optimisers/comparison-reference"
METHODS = {
    "DS2, batch 1": ds2.ds2,
    "ContTune, batch 1": conttune.conttune,
    "DS2, batch 8": partial(ds2.ds2, batch_size=8),
    "ContTune, batch 8": partial(conttune.conttune, batch_size=8),
    "joint": joint.joint,
}


def spelled(choice: Choice | None) -> str:
    """A choice in a table."""
    return "none" if choice is None else f"{choice.gpus} x b{choice.batch_size}"


def published_rows(path: Path) -> list[dict[str, object]]:
    """What each optimiser picked under its own rules, and whether the measurements agree with the joint pick."""
    table = published.PublishedTable(path)
    rows = []
    for target in TARGETS:
        picks = {
            "DS2": published.ds2(table, target),
            "ContTune": published.conttune(table, target),
            "joint": published.joint(table, target),
        }
        measured = table.measured(picks["joint"]) if picks["joint"] else None
        rows.append(
            {
                "target": target.name,
                "throughput_per_s": target.throughput_per_s,
                "latency_s": target.latency_s,
                **{name: spelled(pick) for name, pick in picks.items()},
                "joint_measured_throughput_per_s": measured and measured.throughput_per_s,
                "joint_measured_latency_s": measured and measured.latency_s,
            }
        )
    return rows


def steady_rows(seed: int, oracle: bool) -> list[dict[str, object]]:
    """What each optimiser picks when all must keep the same promise, and how many configurations it ran to know."""
    service = SteadyState(HERE / "scenarios/optimisers.yaml", seed)
    rows = []
    for target in TARGETS:
        for name, choose in METHODS.items():
            measure = service.under(target)
            choice = choose(target, measure)
            rows.append(row(seed, target, name, choice, measure.cache_info().misses))
        if oracle:
            measure = service.under(target)
            rows.append(row(seed, target, "exhaustive", joint.exhaustive(target, measure), measure.cache_info().misses))
        print(f"seed {seed}: {target.name}", flush=True)
    return rows


def row(seed: int, target: Target, name: str, choice: Choice | None, runs: int) -> dict[str, object]:
    """One line of steady.csv."""
    gpus, batch_size = choice or (None, None)
    return {"seed": seed, "target": target.name, "method": name, "gpus": gpus, "batch_size": batch_size, "runs": runs}


def savings(steady: pd.DataFrame) -> pd.DataFrame:
    """GPUs over all ten loads and what joint search saves, with intervals over seeds."""
    total = steady[steady.method != "exhaustive"].pivot_table(
        index="seed", columns="method", values="gpus", aggfunc="sum"
    )
    runs = steady.groupby("method").runs.mean()
    unsolved = steady[steady.gpus.isna()].groupby("method").size()
    rows = []
    for name in METHODS:
        said = interval((total[name] - total["joint"]).tolist())
        rows.append(
            {
                "method": name,
                "gpus_of_ten_loads": interval(total[name].tolist()).mean,
                "saved_by_joint": said.mean,
                "saved_ci_low": said.ci_low,
                "saved_ci_high": said.ci_high,
                "configurations_run": runs[name],
                "unsolved": int(unsolved.get(name, 0)),
            }
        )
    return pd.DataFrame(rows)


def draw(steady: pd.DataFrame) -> None:
    """GPUs of every method over the loads."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for place, name in enumerate(METHODS):
        gpus = [steady[(steady.method == name) & (steady.target == target.name)].gpus.mean() for target in TARGETS]
        places = [index + (place - 2) * 0.16 for index in range(len(TARGETS))]
        axes.bar(places, gpus, 0.16, label=name, color=plt.get_cmap("cividis")(place / 4.5))
    axes.set_xticks(range(len(TARGETS)), [f"{t.throughput_per_s:g}/s\n{t.latency_s:g} s" for t in TARGETS])
    axes.set_xlabel("load and mean latency allowed")
    axes.set_ylabel("GPUs chosen")
    axes.set_title("The same promise for all, at steady state", loc="left")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(OUT / "steady.png", dpi=150)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurements", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if arguments.measurements is not None:
        table = pd.DataFrame(published_rows(arguments.measurements))
        table.to_csv(OUT / "published.csv", index=False)
        print(table.to_string(index=False))
    steady = pd.DataFrame([row for seed in range(1, arguments.seeds + 1) for row in steady_rows(seed, seed == 1)])
    steady.to_csv(OUT / "steady.csv", index=False)
    print(savings(steady).to_string(index=False))
    savings(steady).to_csv(OUT / "savings.csv", index=False)
    draw(steady)


if __name__ == "__main__":
    main()
