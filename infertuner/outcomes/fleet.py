"""Which GPUs were there when, and paid for."""

from __future__ import annotations

import numpy as np

from infertuner.outcomes.window import Window, view
from infertuner.records import GpuState, Records
from infertuner.sources.requests import Floats


def present_s(records: Records, window: Window) -> Floats:
    """Seconds of the window during which each GPU was there, starting and draining included, shape (num_gpus,)."""
    fleet = records.fleet
    if not len(fleet.gpu_id):
        return np.full(records.num_gpus, max(0.0, window.until_s - window.since_s))
    gpu_id, at_s, state = view(fleet.gpu_id), view(fleet.at_s), view(fleet.state)
    order = np.argsort(gpu_id, kind="stable")
    gpu_id, at_s, state = gpu_id[order], at_s[order], state[order]
    until_s = np.append(at_s, window.until_s)[1:]
    until_s[:-1][gpu_id[1:] != gpu_id[:-1]] = window.until_s
    held_s = window.overlap_s(at_s, until_s) * (state != GpuState.DOWN)
    return np.bincount(gpu_id, weights=held_s, minlength=records.num_gpus).astype(np.float64)
