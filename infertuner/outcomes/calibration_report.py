"""What a calibration found, in words and tables: what was measured, how far the laws are off, what to beware of."""

from __future__ import annotations

from collections.abc import Iterator

from infertuner.latency.fitted import ProfileLatency
from infertuner.latency.forecast import START_S, Forecast
from infertuner.latency.machine import EndToEnd
from infertuner.latency.profile import Calibration
from infertuner.units import format_seconds

DISTURBED_ABOVE = 1.2
"""Common slow-down above which the machine had other things to do."""
PREEMPTED_ABOVE = 0.15
"""Share of calls that lost their core above which the same is true."""
THROTTLED_BELOW = 0.9
"""SM clock after the run, relative to before, below which the GPU was slowed down."""
GIB = 2**30


def law_rows(found: Calibration) -> Iterator[dict[str, str]]:
    """One row a fact, one column a kind of step."""
    laws = {kind: law for kind in ("prefill", "decode", "mixed") if (law := getattr(found, kind, None)) is not None}
    facts = {
        "form": [law.form for law in laws.values()],
        "held-out points": [f"{law.holdout.points}" for law in laws.values()],
        "held-out error, mean": [f"{law.holdout.mean_ratio:.1%}" for law in laws.values()],
        "held-out error, 95th percentile": [f"{law.holdout.p95_ratio:.1%}" for law in laws.values()],
        "held-out error, worst": [f"{law.holdout.worst_ratio:.1%}" for law in laws.values()],
    }
    for what, cells in facts.items():
        yield {"": what, **dict(zip(laws, cells, strict=True))}


def example_rows(found: Calibration) -> Iterator[dict[str, str]]:
    """What the laws say about a few steps inside the box: numbers a reader can compare with what they know."""
    law = ProfileLatency(found, name="this profile", refuse=False)
    (least, most), (_, longest) = found.decode.box.batch_size, found.decode.box.context_tokens
    for batch_size in dict.fromkeys((least, most)):
        for context in (longest // 16, longest):
            seconds = law.decode_s(batch_size=batch_size, context_tokens=context, steps=1)
            yield {"step": f"decode, batch {batch_size}, context {context}", "takes": format_seconds(seconds)}
    for tokens in (longest // 16, longest // 2):
        seconds = law.prefill_s(batch_size=1, new_tokens=tokens, cached_tokens=0)
        yield {"step": f"prefill of {tokens} tokens", "takes": format_seconds(seconds)}


def end_to_end_rows(checks: list[EndToEnd]) -> Iterator[dict[str, str]]:
    """Whole calls of generate(): measured, predicted, and how far off."""
    for check in checks:
        yield {
            "generate()": f"{check.batch_size} x ({check.prompt_tokens} + {check.output_tokens})",
            "measured": format_seconds(check.measured_s),
            "predicted": format_seconds(check.predicted_s),
            "error": f"{check.error_ratio:+.1%}",
            "with a host term": "" if check.with_host_term_ratio is None else f"{check.with_host_term_ratio:+.1%}",
        }


def notes(found: Calibration) -> Iterator[str]:
    """How it was measured, then the hardware's own limits and the host's."""
    protocol, ceilings, gap = found.run_here().protocol, found.hardware.ceilings, found.host_gap
    low, high = protocol.drift_ratio
    yield (
        f"{protocol.calls:,} calls in {protocol.visits} visits, stopped by {protocol.stopped}; "
        f"{protocol.preempted_ratio:.0%} of calls preempted; drift of {low - 1:+.0%} to {high - 1:+.0%} removed; "
        f"half of all points known to ± {protocol.median_interval_ratio:.1%}, the widest to "
        f"± {protocol.widest_interval_ratio:.1%}"
    )
    if ceilings is not None:
        yield (
            f"ceilings found: {ceilings.read_bytes_per_s / 1e9:,.1f} GB/s read, "
            f"{ceilings.flops_per_s / 1e12:,.3g} TFLOP/s; no step kept is faster than they allow"
        )
    for direction, law in found.copies.items():
        last = law.segments[-1]
        rate = f"{1 / last.beta_s_per_byte / 1e9:,.1f} GB/s" if last.beta_s_per_byte else "no rate found"
        yield (
            f"copies {direction.replace('_', ' ')}: {format_seconds(law.copy_s(law.segments[0].from_bytes))} for "
            f"{law.segments[0].from_bytes / 1024:,.0f} KiB, {rate} for the largest"
        )
    if gap is not None and found.hardware.device == "cuda":
        eager = gap.eager_per_iteration_s
        yield f"host gap: {format_seconds(gap.per_iteration_s)} an iteration" + (
            "" if eager is None else f", {format_seconds(eager)} where Python launches every kernel"
        )


def warnings(found: Calibration) -> Iterator[str]:
    """What makes these numbers less than they look."""
    protocol = found.run_here().protocol
    before, after = protocol.device_before, protocol.device_after
    if protocol.drift_ratio[1] > DISTURBED_ABOVE:
        yield f"everything took {protocol.drift_ratio[1]:.1f} times as long for a while; measure in a quiet moment"
    if protocol.preempted_ratio > PREEMPTED_ABOVE:
        yield f"{protocol.preempted_ratio:.0%} of calls lost their core: this machine was busy with something else"
    if before and after and after.sm_clock_mhz < THROTTLED_BELOW * before.sm_clock_mhz:
        yield f"SM clock fell from {before.sm_clock_mhz:.0f} to {after.sm_clock_mhz:.0f} MHz while measuring"
    yield from (f"skipped: {one}" for one in protocol.skipped)
    yield from (f"left out, faster than the hardware can be: {one}" for one in protocol.faster_than_peak)


def forecast_rows(plan: Forecast) -> Iterator[dict[str, str]]:
    """The points of a plan by kind."""
    for kind, (fit, held_out, seconds) in plan.points.items():
        yield {
            "": kind,
            "to fit": f"{fit or ''}",
            "held out or checked": f"{held_out}",
            "expected": f"{seconds:,.0f} s",
        }


def forecast_lines(plan: Forecast, budget_s: float) -> Iterator[str]:
    """What a plan would take."""
    total = plan.weights_bytes + plan.kv_bytes + plan.scratch_bytes
    yield (
        f"expected time: {plan.expected_s:,.0f} s for the least visits, {START_S:.0f} s to load, build and fit; "
        f"measuring stops at {budget_s:g} s"
    )
    if plan.expected_s > budget_s:
        yield f"warning: --budget-s {budget_s:g} may be too short; what is measured is kept, and --resume goes on"
    yield (
        f"expected memory: {total / GIB:.1f} GiB (weights {plan.weights_bytes / GIB:.1f}, "
        f"KV cache {plan.kv_bytes / GIB:.1f}, activations and copies {plan.scratch_bytes / GIB:.1f})"
    )
    yield f"assumed: {plan.assumptions}"
