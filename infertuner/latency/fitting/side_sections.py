"""The sections of a profile that are no law of a step: ceilings, copies, the host's gap, generate() from end to end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import cast, get_args

from infertuner.latency.fitting.copies import LEAST_SIZES, copy_law
from infertuner.latency.machine import Ceilings, CopyLaw, Direction, EndToEnd, HostGap
from infertuner.latency.measuring.extras import Extra
from infertuner.latency.measuring.samples import ExtraVisit, Visit
from infertuner.latency.model import LatencyModel


def ceilings(visits: Sequence[ExtraVisit]) -> Ceilings | None:
    """The best rate of any single call of the short bench; None where it did not run."""
    reads = [_size(one) / min(one.timing.seconds) for one in visits if one.extra.kind == "read"]
    for one in visits:
        if one.extra.kind == "device_to_device":  # a copy reads, and writes as much again
            reads.append(2 * _size(one) / min(one.timing.seconds))
    products = [2 * _size(one) ** 3 / min(one.timing.seconds) for one in visits if one.extra.kind == "matmul"]
    return Ceilings(read_bytes_per_s=max(reads), flops_per_s=max(products)) if reads and products else None


def copies(visits: Sequence[ExtraVisit]) -> dict[Direction, CopyLaw]:
    """A law for every direction of which enough sizes were measured."""
    by_direction: dict[Direction, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in visits:
        if one.extra.kind in get_args(Direction):
            by_direction[cast(Direction, one.extra.kind)][_size(one)].append(one.timing.median_s)
    return {
        direction: copy_law({size: median(seconds) for size, seconds in sizes.items()})
        for direction, sizes in by_direction.items()
        if len(sizes) >= 2 * LEAST_SIZES
    }


def host_gap(device: str, visits: Sequence[Visit], extras: Sequence[ExtraVisit]) -> HostGap:
    """What the host adds to a decode step: wall minus device seconds of replayed graphs, and the eager excess."""
    if device == "cpu":
        return HostGap(
            per_iteration_s=0.0,
            per_sequence_s=0.0,
            how="0 by construction: a CPU's step includes the host's time; an engine adds scheduling of its own",
        )
    decodes = [visit for visit in visits if visit.point.kind == "decode"]
    replayed = [median(visit.timing.wall_s) - visit.timing.median_s for visit in decodes]
    graph_s: dict[tuple[int | None, int | None], list[float]] = defaultdict(list)
    for visit in decodes:
        graph_s[visit.point.batch_size, visit.point.cached_tokens].append(visit.timing.median_s)
    eager = [
        median(one.timing.wall_s) - median(graph_s[shape])
        for one in extras
        if one.extra.kind == "decode_eager" and (shape := (one.extra.batch_size, one.extra.cached_tokens)) in graph_s
    ]
    return HostGap(
        per_iteration_s=max(0.0, median(replayed)),
        per_sequence_s=0.0,
        eager_per_iteration_s=max(0.0, median(eager)) if eager else None,
        how="wall minus device seconds of replayed decode graphs; no engine, so no scheduling and nothing per sequence",
    )


def end_to_end(visits: Sequence[ExtraVisit], model: LatencyModel, gap: HostGap) -> list[EndToEnd]:
    """Every call of generate() against the law; each is judged with a host term learnt from the others only.

    Sampling one token follows prefill, so o output tokens are one prefill and o - 1 decode steps.
    """
    by_call: dict[Extra, list[float]] = defaultdict(list)
    for one in visits:
        if one.extra.kind == "generate":
            by_call[one.extra].append(one.timing.median_s)
    measured_s = {call: median(seconds) for call, seconds in by_call.items()}
    predicted_s = {call: _predicted_s(call, model, gap) for call in by_call}
    lacking_s = {call: (measured_s[call] - predicted_s[call]) / cast(int, call.output_tokens) for call in by_call}
    checks = []
    for call in by_call:
        others_s = [lacking for other, lacking in lacking_s.items() if other != call]
        steps = cast(int, call.output_tokens)
        corrected_s = predicted_s[call] + steps * median(others_s) if len(others_s) > 1 else None
        checks.append(
            EndToEnd(
                batch_size=cast(int, call.batch_size),
                prompt_tokens=cast(int, call.new_tokens),
                output_tokens=steps,
                measured_s=measured_s[call],
                predicted_s=predicted_s[call],
                error_ratio=predicted_s[call] / measured_s[call] - 1,
                with_host_term_ratio=None if corrected_s is None else corrected_s / measured_s[call] - 1,
            )
        )
    return checks


def _predicted_s(call: Extra, model: LatencyModel, gap: HostGap) -> float:
    batch_size, prompt, output = (cast(int, n) for n in (call.batch_size, call.new_tokens, call.output_tokens))
    step_s = gap.per_iteration_s if gap.eager_per_iteration_s is None else gap.eager_per_iteration_s
    prefill_s = model.prefill_s(batch_size=batch_size, new_tokens=prompt, cached_tokens=0)
    decode_s = model.decode_s(batch_size=batch_size, context_tokens=prompt + 1, steps=output - 1)
    return prefill_s + decode_s + output * (step_s + batch_size * gap.per_sequence_s)


def _size(one: ExtraVisit) -> int:
    return cast(int, one.extra.size)
