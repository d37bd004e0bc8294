"""The interactive figures of any study: latencies, what a TTFT is made of, and single metrics."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from infertuner.experiments.answers import label_of, name_of
from infertuner.experiments.result import Row, StudyResult
from infertuner.experiments.tables import ttft_parts
from infertuner.outcomes.html import charts
from infertuner.outcomes.html.axes import seconds
from infertuner.outcomes.html.words import headed
from infertuner.outcomes.latencies import TTFT_PARTS
from infertuner.outcomes.statistics import Interval

MOST_ARMS = 40
"""Arms in a figure with a line an arm; more do not fit on a page."""
MOST_LINES = 8
"""Lines that can be told apart; of more conditions each arm is a point."""
ALIKE = 1.01
"""Ratio up to which latencies of all arms are the same, so that there is nothing to see."""
NOTHING = Interval(None, None, None, 0)
AXES = {
    "throughput_per_s": "requests / s",
    "output_tokens_per_s": "output tokens / s",
    "goodput_per_s": "requests / s that kept their objectives",
}


def latency_figures(result: StudyResult) -> list[str]:
    """How long requests took, in percentiles, a line an arm."""
    arms = shown(result)
    drawn = []
    for kind, heading in (
        ("ttft", "Time to first token"),
        ("tpot", "Time per output token"),
        ("e2e", "End-to-end latency"),
    ):
        groups = {
            name: [result.interval(arm, f"{kind}_{name}_s") for arm in arms] for name in ("p50", "mean", "p95", "p99")
        }
        known = {name: values for name, values in groups.items() if any(value.mean is not None for value in values)}
        means = [value.mean for values in known.values() for value in values if value.mean is not None]
        if means and (len(arms) == 1 or max(means) > ALIKE * min(means)):
            factor, unit = seconds([value for values in known.values() for value in values])
            scaled = {name: [value.scaled(factor) for value in values] for name, values in known.items()}
            caption = "Means over replications with 95 % intervals; percentiles the sample cannot carry are missing."
            drawn.append(
                charts.figure(
                    heading, charts.dots(arm_labels(result, arms), scaled, unit), caption + left_out(result, arms)
                )
            )
    return drawn


def breakdown_figures(result: StudyResult) -> list[str]:
    """What the mean time to the first token was spent on; nothing where no engine can tell."""
    arms = [arm for arm in shown(result) if ttft_parts(result, arm)]
    if not arms:
        return []
    means = {part: [result.interval(arm, f"ttft_{part}_mean_s") for arm in arms] for part in TTFT_PARTS}
    used = {part: values for part, values in means.items() if any(value.mean for value in values)}
    longest = [
        Interval(sum(value.mean or 0.0 for value in arm), None, None, 1) for arm in zip(*used.values(), strict=True)
    ]
    factor, unit = seconds(longest)
    parts = {
        part.replace("_", " "): [(value.mean or 0.0) * factor for value in values] for part, values in used.items()
    }
    caption = (
        "held: the router kept it; waiting: in its GPU's queue; fetching: its prefix was read; prefilling: its own "
        "tokens; others prefill and others decode: what shared its iterations."
    )
    chart = charts.stack(arm_labels(result, arms), parts, f"mean, {unit}")
    return [charts.figure("Mean time to first token by what it was spent on", chart, caption)]


def metric_figure(result: StudyResult, metric: str, axis: str | None = None) -> str:
    """A metric over the number in which arms differ most, or arm by arm where they differ in kinds.

    axis: the dotted key of that number where it is known; empty for arm by arm.
    """
    axis, heading = numeric_axis(result) if axis is None else axis, headed(metric)
    values = {arm: result.interval(arm, metric) for arm in range(len(result.arms)) if result.metrics[arm]}
    if all(value.mean is None for value in values.values()):
        return ""
    factor, unit = _unit(metric, list(values.values()))
    scaled = {arm: value.scaled(factor) for arm, value in values.items()}
    caption = "Means over replications with 95 % intervals."
    if axis:
        lines: dict[str, list[int]] = {}
        for arm in scaled:
            lines.setdefault(words_of(result.condition(arm, axis)), []).append(arm)
        named = axis.rsplit(".", 1)[-1].replace("_", " ")
        if len(lines) <= MOST_LINES and len(scaled) > len(lines):
            drawn = {}
            for label, arms in lines.items():
                arms.sort(key=lambda arm: _place(result, arm, axis))
                drawn[label] = ([_place(result, arm, axis) for arm in arms], [scaled[arm] for arm in arms])
            places = [place for places, _ in drawn.values() for place in places]
            log_x = min(places) > 0 and max(places) / min(places) > charts.WIDE
            return charts.figure(heading, charts.curves(drawn, named, unit, log_x=log_x), caption)
        points = (
            [_place(result, arm, axis) for arm in scaled],
            [value.mean for value in scaled.values()],
            [name_of(result, arm) for arm in scaled],
        )
        return charts.figure(heading, charts.scatter({"arms": points}, named, unit), "One point an arm, its mean.")
    arms = shown(result)
    chart = charts.dots(arm_labels(result, arms), {heading: [scaled.get(arm, NOTHING) for arm in arms]}, unit)
    return charts.figure(heading, chart, caption + left_out(result, arms))


def numeric_axis(result: StudyResult) -> str | None:
    """The dotted key with the most numbers among those in which arms differ; None where no key has three."""
    columns: dict[str, list[object]] = {}
    for arm in range(len(result.arms)):
        for key, value in result.parameters(arm).items():
            columns.setdefault(key, []).append(value)
    numbers = {
        key: len(set(values)) for key, values in columns.items() if all(type(value) in (int, float) for value in values)
    }
    most = max(numbers, key=lambda key: numbers[key], default=None)
    return most if most is not None and numbers[most] > 2 else None


def _place(result: StudyResult, arm: int, axis: str) -> float:
    return float(result.parameters(arm)[axis])


def words_of(condition: Row) -> str:
    """What a line of a figure was run with."""
    return ", ".join(f"{name} {value}" for name, value in condition.items())


def _unit(metric: str, values: Sequence[Interval]) -> tuple[float, str]:
    """Factor and words of a metric's axis."""
    if metric.endswith("_s") and not metric.endswith("per_s"):
        return seconds(values)
    return 1.0, AXES.get(metric, "share" if metric.endswith("_ratio") else metric.replace("_", " "))


def shown(result: StudyResult) -> list[int]:
    """The arms for which a figure of arms has room."""
    known = (arm for arm in range(len(result.arms)) if result.metrics[arm])
    return list(itertools.islice(known, MOST_ARMS))


def arm_labels(result: StudyResult, arms: Sequence[int]) -> list[str]:
    """The names of arms beside their lines."""
    words = [label_of(result, arm) for arm in arms]
    return [f"{arm}: {word}" if word else "" for arm, word in zip(arms, words, strict=True)]


def left_out(result: StudyResult, arms: Sequence[int]) -> str:
    """More of a caption where not all arms are shown."""
    missing = len(result.arms) - len(arms)
    return f" The first {len(arms)} arms; {missing} more are in the table." if missing else ""
