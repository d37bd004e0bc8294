"""Is the tuner's answer the exhaustive one, at what share of its cells, and does it keep its promise?

python benchmarks/tuning_oracle.py [PROBLEMS] [JOBS]

Every problem is a random service: traffic, lengths, two kinds of GPU with prices, objectives, up to 16 GPUs and three
batch limits. The oracle runs every configuration in all replications, judges each by the same rule, and takes the
cheapest that meets it, of equal ones that with more headroom, and which holds on fresh replications as well. Cells are
replications of configurations. Counted for the tuner: the search, its confirmation and the next-best; for the oracle:
every configuration times every replication, its confirmation left out. The promise, "at least so many of such runs keep
all objectives, with 95 % confidence", is checked on runs that neither has seen.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from infertuner.outcomes.objectives import judge, keeps, run_headroom
from infertuner.outcomes.statistics import least_share
from infertuner.scenario.study import study_from
from infertuner.sweeping.engines import Engine, engine
from infertuner.sweeping.store import Store
from infertuner.tuning.evaluator import Evaluator
from infertuner.tuning.race import Race
from infertuner.tuning.run import tune
from infertuner.tuning.space import Point, Space

REPLICATIONS = 16
GPUS_MOST = 16
CHECKED = range(10_000, 10_100)
"""Replications of the promise's check."""


def problem(seed: int) -> dict[str, Any]:
    """A random scenario; its objectives lie a little above what some middling configuration does."""
    rng = np.random.default_rng(seed)
    outputs, per_s = int(rng.integers(40, 200)), float(rng.uniform(4, 16))
    step_s = float(rng.uniform(0.01, 0.03))
    latency = {"kind": "per_token", "base_s": 0.01, "per_prompt_token_s": 1e-4}
    kinds = []
    for factor, price in (
        (1.0, float(rng.uniform(0.8, 1.5))),
        (float(rng.uniform(0.3, 0.7)), float(rng.uniform(1.5, 4))),
    ):
        step = {
            "per_output_token_s": step_s * factor,
            "per_sequence_s": step_s * factor * float(rng.uniform(0.02, 0.1)),
        }
        kinds.append({"latency": latency | step, "cluster.price_per_gpu_hour": round(price, 2)})
    return {
        "name": f"problem-{seed}",
        "seed": seed,
        "replications": REPLICATIONS,
        "warmup_s": 5,
        "workload": {
            "kind": "synthetic",
            "requests": 700,
            "arrivals": {"kind": "gamma", "per_s": per_s, "burstiness": float(rng.uniform(0.3, 1.5))},
            "prompt_tokens": {
                "kind": "lognormal",
                "mean_tokens": int(rng.integers(100, 800)),
                "cv": 1,
                "max_tokens": 4000,
            },
            "output_tokens": {"kind": "lognormal", "mean_tokens": outputs, "cv": 0.7, "max_tokens": 1000},
        },
        "cluster": {
            "gpus": 1,
            "router": {"kind": str(rng.choice(["round_robin", "least_outstanding"]))},
            "batcher": {
                "kind": "continuous",
                "num_gpu_blocks": 4000,
                "max_num_seqs": 16,
                "max_num_batched_tokens": 2048,
            },
        },
        "latency": kinds[0]["latency"],
        "slo": {
            "ttft_p95_s": round(float(rng.uniform(0.1, 0.6)), 3),
            "tpot_p95_s": round(step_s * float(rng.uniform(0.6, 2.0)), 4),
        },
        "arms": kinds,
        "sweep": {
            "cluster.gpus": {"range": {"min": 1, "max": GPUS_MOST, "step": 1}},
            "cluster.batcher.max_num_seqs": [4, 12, 48],
        },
    }


def oracle(raw: dict[str, Any], computing: Engine, store: Store) -> tuple[Point | None, int]:
    """The exhaustive answer and what it cost in cells."""
    study = study_from(raw)
    space = Space(study)
    evaluator = Evaluator(space, computing, store)
    slo = study.scenario.slo
    assert slo is not None
    race = Race(evaluator, slo, REPLICATIONS)
    meeting = []
    points = [point for setting in space.settings() for point in space.line(setting)]
    for point in points:
        runs = evaluator.runs(point.arm, range(REPLICATIONS))
        if judge(runs, slo, race.confidence).verdict == "meets":
            meeting.append((point.cost_per_hour, -float(np.mean([run_headroom(run, slo) for run in runs])), point))
    for _, _, point in sorted(meeting, key=lambda entry: entry[:2]):
        fresh = race.confirm(point)
        if fresh is not None and fresh.verdict == "meets":
            return point, len(points) * REPLICATIONS
    return None, len(points) * REPLICATIONS


def main() -> None:
    """Measure and print a table."""
    problems = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else None
    same, equal_cost, shares, kept_promises, answered = 0, 0, [], 0, 0
    print("| problem | tuner | oracle | cells | of the oracle's | fresh runs kept | promised at least |")
    print("|---|---|---|---|---|---|---|")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, engine(jobs, None) as computing:
        store = Store(Path(folder))
        for seed in range(problems):
            raw = problem(seed)
            report = tune(study_from(raw), computing, store, sensitivity=False)
            best, cells = oracle(raw, computing, store)
            answer = report.outcome.answer
            found = None if answer is None else answer.point
            same += found == best
            equal_cost += (found and found.cost_per_hour) == (best and best.cost_per_hour)
            shares.append(report.evaluator.cells / cells)
            row = [str(seed), _said(found), _said(best), f"{report.evaluator.cells}", f"{shares[-1]:.1%}"]
            if found is not None and report.outcome.fresh is not None:
                answered += 1
                fresh, slo = report.outcome.fresh, report.slo
                promised = least_share(fresh.runs_met, fresh.runs)
                runs = Evaluator(report.space, computing, store).runs(found.arm, CHECKED)
                kept = float(np.mean([keeps(run, slo) for run in runs]))
                kept_promises += kept >= promised
                row += [f"{kept:.0%}", f"{promised:.1%}"]
            print("| " + " | ".join(row) + " |", flush=True)
    print(
        f"same configuration {same} of {problems}, same cost {equal_cost}; cells: mean {np.mean(shares):.1%}, ", end=""
    )
    print(f"most {max(shares):.1%} of the oracle's; promises kept {kept_promises} of {answered}; ", end="")
    print(f"{time.perf_counter() - started:.0f} s")


def _said(point: Point | None) -> str:
    if point is None:
        return "nothing"
    gpus, limit = (point.parameters[key] for key in ("cluster.gpus", "cluster.batcher.max_num_seqs"))
    return f"{gpus} x kind {point.line // 3}, {limit} seqs, {point.cost_per_hour:.2f}"


if __name__ == "__main__":
    main()
