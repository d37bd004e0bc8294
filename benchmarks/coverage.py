"""How often 95 % intervals hold the truth: repeated studies of queues with known answers, for docs/statistics.md.

python benchmarks/coverage.py [STUDIES]

Every study is a whole scenario with a seed of its own, run in 10 replications. Of 200 studies at exactly 95 %, the
number that cover has itself a deviation of 3.1, so 93 to 97 % is what two of three rounds of 200 give.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from infertuner.experiments.runs import measure, run_arm
from infertuner.outcomes.statistics import interval
from infertuner.outcomes.stopping import Precision
from infertuner.scenario.study import study_from

REPLICATIONS = 10
WARMUP_S = 100.0
REQUESTS = 1100
"""At a service of 1 s and a load of 0.5: 100 s of warm-up and 1,000 requests that count, give or take."""
LOADS = (0.3, 0.5, 0.7)
STOP = Precision("wait_mean_s", 0.05)
MOST = 100


def queue(load: float, seed: int, warmup_s: float = WARMUP_S) -> dict[str, Any]:
    """M/D/1 as a scenario: Poisson arrivals, one GPU, one request at a time, a service of 1 s."""
    return {
        "name": "queue",
        "seed": seed,
        "replications": REPLICATIONS,
        "warmup_s": warmup_s,
        "workload": {
            "kind": "synthetic",
            "requests": round(REQUESTS * load / 0.5),
            "arrivals": {"kind": "poisson", "per_s": load},
            "prompt_tokens": {"kind": "constant", "tokens": 1},
            "output_tokens": {"kind": "constant", "tokens": 10},
        },
        "cluster": {"gpus": 1, "router": {"kind": "round_robin"}, "batcher": {"kind": "none"}},
        "latency": {"kind": "per_token", "base_s": "100ms", "per_output_token_s": "100ms"},
    }


def mean_wait_s(load: float) -> float:
    """What is known: the mean wait of M/D/1 with a service of 1 s (Pollaczek and Khinchine)."""
    return load / (2 * (1 - load))


def waits_s(load: float, seed: int, warmup_s: float = WARMUP_S, first: int = 0, last: int = REPLICATIONS) -> list[Any]:
    """The mean wait of each of these replications of one study."""
    (arm,) = study_from(queue(load, seed, warmup_s)).arms
    return [measure(arm, run_arm(arm, number))["wait_mean_s"] for number in range(first, last)]


def covers(values: list[Any], truth: float) -> bool:
    """Whether the interval of one study holds the truth."""
    found = interval(values)
    return found.ci_low is not None and found.ci_high is not None and found.ci_low <= truth <= found.ci_high


def sequential(load: float, seed: int) -> list[Any]:
    """A study that goes on until its mean is known to 5 %."""
    values = waits_s(load, seed)
    while STOP.reached_at(values, REPLICATIONS) is None and len(values) < MOST:
        values += waits_s(load, seed, first=len(values), last=len(values) + 1)
    return values


def main() -> None:
    """Measure and print a table."""
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    noise = 100 * math.sqrt(0.95 * 0.05 / studies)
    print(f"{studies} studies of {REPLICATIONS} replications; one deviation of the coverage is {noise:.1f} %")
    print("| load | with warm-up | without | until known to 5 % | replications that took |")
    print("|---|---|---|---|---|")
    for load in LOADS:
        truth = mean_wait_s(load)
        warm = sum(covers(waits_s(load, seed), truth) for seed in range(studies))
        cold = sum(covers(waits_s(load, seed, warmup_s=0.0), truth) for seed in range(studies))
        runs = [sequential(load, seed) for seed in range(studies)]
        stopped = sum(covers(values, truth) for values in runs)
        took = sum(map(len, runs)) / studies
        shares = " | ".join(f"{100 * count / studies:.1f} %" for count in (warm, cold, stopped))
        print(f"| {load} | {shares} | {took:.1f} |", flush=True)


if __name__ == "__main__":
    main()
