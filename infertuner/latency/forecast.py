"""What a calibration would do and cost, without doing it: points counted, seconds and bytes from a rough roofline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from infertuner.latency.hardware.timing import WARM_S
from infertuner.latency.machine import Ceilings, Hardware
from infertuner.latency.measuring.extras import EXTRA_VISITS, LARGEST_COPY_BYTES, Extra
from infertuner.latency.measuring.plan import Plan
from infertuner.latency.measuring.polish import MIN_VISITS
from infertuner.latency.measuring.protocol import VISIT_S
from infertuner.latency.models import DTYPE_BYTES
from infertuner.latency.physics import least_s
from infertuner.latency.points import Point

CPU_PER_THREAD = Ceilings(read_bytes_per_s=12e9, flops_per_s=80e9)
GPU = Ceilings(read_bytes_per_s=2e12, flops_per_s=400e12)
"""What is assumed before anything is measured: a slow data-centre GPU of today, a fast core of a server."""
COPY_BYTES_PER_S = 8e9
CAPTURE_S = 0.4
"""Seconds to capture a CUDA graph."""
WARM_UP_S = 0.04
"""Seconds of untimed calls before cheap ones."""
START_S = 15.0
"""Seconds beside measuring: to load libraries, build the model and fit."""


@dataclass(frozen=True)
class Forecast:
    """A plan with rough costs."""

    points: dict[str, tuple[int, int, float]]
    """For each kind: points to fit, points held out, and seconds until each has its least visits."""
    expected_s: float
    """Until every point has its least visits; the budget may end it sooner or intervals keep it going."""
    weights_bytes: int
    kv_bytes: int
    scratch_bytes: int
    """Activations of the largest step, and the memory copies are made in."""
    assumptions: str


def forecast(plan: Plan) -> Forecast:
    """Count the plan's points and guess what they cost."""
    rates = assumed(plan.hardware)
    counted = {}
    for kind in ("prefill", "decode", "mixed"):
        points = [point for point in plan.points if point.kind == kind]
        seconds = sum(_visits_s(plan, rates, point) for point in points)
        held_out = sum(point.role == "holdout" for point in points)
        counted[kind] = (len(points) - held_out, held_out, seconds)
    for kind, beside in _extras_by_kind(plan):
        counted[kind] = (
            0,
            len(beside),
            sum(EXTRA_VISITS * (VISIT_S + 2 * _extra_s(plan, rates, one)) for one in beside),
        )
    config, item = plan.model.config, DTYPE_BYTES[plan.model.dtype]
    largest = max(point.batch_tokens for point in plan.points)
    return Forecast(
        points=counted,
        expected_s=sum(seconds for _, _, seconds in counted.values()),
        weights_bytes=plan.model.params * item,
        kv_bytes=plan.kv_tokens * plan.model.kv_bytes_per_token,
        scratch_bytes=largest * (3 * config.intermediate_size + 6 * config.hidden_size) * item + 2 * LARGEST_COPY_BYTES,
        assumptions=(
            f"a step takes its bytes at {rates.read_bytes_per_s / 1e9:,.0f} GB/s and its operations at "
            f"{rates.flops_per_s / 1e12:,.2f} TFLOP/s, a copy {COPY_BYTES_PER_S / 1e9:.0f} GB/s, "
            f"{MIN_VISITS} visits a point"
            + (f", {CAPTURE_S:g} s to capture a CUDA graph" if plan.hardware.device == "cuda" else "")
        ),
    )


def assumed(hardware: Hardware) -> Ceilings:
    """Rates to guess with: a CPU's grow with its threads, up to what memory gives."""
    if hardware.device == "cuda":
        return GPU
    one, threads = CPU_PER_THREAD, hardware.threads
    return Ceilings(read_bytes_per_s=one.read_bytes_per_s * min(threads, 8), flops_per_s=one.flops_per_s * threads)


def _visits_s(plan: Plan, rates: Ceilings, point: Point) -> float:
    """All visits of a point, with a warm-up each."""
    once_s = least_s(point, plan.model.config, plan.model.dtype, rates)
    if plan.hardware.device == "cuda":
        return CAPTURE_S + MIN_VISITS * (max(VISIT_S, once_s) + 2 * once_s)
    return MIN_VISITS * (once_s if once_s > WARM_S else max(VISIT_S, once_s) + max(once_s, WARM_UP_S))


def _extras_by_kind(plan: Plan) -> Iterator[tuple[str, list[Extra]]]:
    groups = {"copies": [], "ceilings": [], "generate()": [], "eager decode": []}  # type: dict[str, list[Extra]]
    names = {"read": "ceilings", "matmul": "ceilings", "generate": "generate()", "decode_eager": "eager decode"}
    for extra in plan.extras:
        groups[names.get(extra.kind, "copies")].append(extra)
    return ((kind, beside) for kind, beside in groups.items() if beside)


def _extra_s(plan: Plan, rates: Ceilings, extra: Extra) -> float:
    config, dtype = plan.model.config, plan.model.dtype
    if extra.kind in ("generate", "decode_eager"):
        batch_size, new = cast(int, extra.batch_size), cast(int, extra.new_tokens)
        step_s = least_s(Point("decode", batch_size, 1, extra.cached_tokens or new, "fit"), config, dtype, rates)
        return (extra.output_tokens or 1) * step_s + batch_size * new * config.num_params * 2 / rates.flops_per_s
    size = cast(int, extra.size)
    return 2 * size**3 / rates.flops_per_s if extra.kind == "matmul" else size / COPY_BYTES_PER_S
