"""DS2: from the rate of one busy instance to the number of instances, in a few steps.

Kalavri et al., Three steps is all you need, OSDI 2018: an instance's true rate is what it processes over the time in
which it works, and the number of instances is the wanted rate over the true rate, rounded up; measure again at the new
number until it stands still. DS2 knows nothing of latency and does not choose a batch size.
"""

from __future__ import annotations

import math

from infertuner.tuning.comparison.targets import MOST_GPUS, Choice, Measure, Outcome, Target, keeps

MOST_STEPS = 5
"""The paper finds that three are enough."""


def true_rate_per_s(outcome: Outcome, gpus: int) -> float:
    """Requests per second of one GPU's working time."""
    return outcome.throughput_per_s / (gpus * outcome.utilization_ratio)


def wanted_gpus(target: Target, outcome: Outcome, gpus: int) -> int:
    """The number of GPUs DS2 asks for after measuring `gpus` of them."""
    return min(math.ceil(target.throughput_per_s / true_rate_per_s(outcome, gpus)), MOST_GPUS)


def ds2(target: Target, measure: Measure, batch_size: int = 1, first_gpus: int = 1) -> Choice | None:
    """DS2's number of GPUs, then one more at a time until the latency holds too; None if even the most do not.

    The second half is not DS2's: without it most of its answers, which leave no room for queueing, break the promise
    that the others must keep.
    """
    gpus = first_gpus
    for _ in range(MOST_STEPS):
        wanted = wanted_gpus(target, measure(gpus, batch_size), gpus)
        if wanted == gpus:
            break
        gpus = wanted
    while not keeps(target, measure(gpus, batch_size)):
        if gpus == MOST_GPUS:
            return None
        gpus += 1
    return Choice(gpus, batch_size)
