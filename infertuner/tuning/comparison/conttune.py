"""ContTune: be generous first, then come down by what a Gaussian process has learnt.

Lian et al., ContTune: Continuous tuning by conservative Bayesian optimization, PVLDB 16(13), 2023. The Big phase grows
the parallelism until the job keeps up. The Small phase fits a Gaussian process to (parallelism, processing ability) and
takes the smallest parallelism whose predicted ability suffices; where that lies further than `ALPHA` from everything
measured, it does not trust the process and takes DS2's answer instead.
"""

from __future__ import annotations

import numpy as np

from infertuner.sources.requests import Floats, Ints
from infertuner.tuning.comparison.ds2 import true_rate_per_s, wanted_gpus
from infertuner.tuning.comparison.targets import MOST_GPUS, Choice, Measure, Target, keeps

GROWTH = 2
"""The Big phase multiplies the parallelism by this."""
ALPHA = 1
"""Furthest from a measured parallelism at which the process is believed."""


def conttune(target: Target, measure: Measure, batch_size: int = 1) -> Choice | None:
    """The smallest measured number of GPUs that keeps the target; None if even the most do not."""
    big = _big_phase(target, measure, batch_size)
    if big is None:
        return None
    ability = {gpus: true_rate_per_s(measure(gpus, batch_size), gpus) * gpus for gpus in big}
    while True:
        gpus = _suggest(target, ability, measure, batch_size)
        if gpus in ability:
            break
        ability[gpus] = true_rate_per_s(measure(gpus, batch_size), gpus) * gpus
    kept = [gpus for gpus in ability if keeps(target, measure(gpus, batch_size))]
    return Choice(min(kept), batch_size)


def _big_phase(target: Target, measure: Measure, batch_size: int) -> list[int] | None:
    """The numbers of GPUs tried, the last of which keeps the target."""
    tried = [1]
    while not keeps(target, measure(tried[-1], batch_size)):
        if tried[-1] == MOST_GPUS:
            return None
        tried.append(min(GROWTH * tried[-1], MOST_GPUS))
    return tried


def _suggest(target: Target, ability: dict[int, float], measure: Measure, batch_size: int) -> int:
    """The smallest number of GPUs the process believes in that is not known to fail, or DS2's answer."""
    fails = max((gpus for gpus in ability if not keeps(target, measure(gpus, batch_size))), default=0)
    most = min(gpus for gpus in ability if gpus > fails)
    candidates = np.arange(fails + 1, most + 1)
    enough = candidates[_predicted(ability, candidates) >= target.throughput_per_s]
    gpus = int(enough[0]) if enough.size else most
    nearest = min(abs(gpus - known) for known in ability)
    if nearest <= ALPHA:
        return gpus
    conservative = wanted_gpus(target, measure(most, batch_size), most)
    return min(max(conservative, fails + 1), most)


def _predicted(ability: dict[int, float], gpus: Ints) -> Floats:
    """Mean processing ability by a Gaussian process through what was measured, smooth over the whole range."""
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415
    from sklearn.gaussian_process.kernels import RBF  # noqa: PLC0415

    known = np.array(list(ability), dtype=np.float64)[:, None]
    values = np.array(list(ability.values()))
    process = GaussianProcessRegressor(RBF(float(MOST_GPUS)), alpha=1e-6, normalize_y=len(values) > 1, optimizer=None)
    return np.asarray(process.fit(known, values).predict(gpus[:, None].astype(np.float64)))
