"""What each experiment compares, as interactive figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infertuner.experiments import batching, gpu_scaling
from infertuner.experiments.analyses import analysis_of
from infertuner.experiments.answers import name_of
from infertuner.experiments.charts import MOST_LINES, arm_labels, metric_figure, numeric_axis, shown, words_of
from infertuner.experiments.result import Row, StudyResult
from infertuner.outcomes.cache_figures import TierCourse
from infertuner.outcomes.html import charts
from infertuner.outcomes.html.axes import seconds


def experiment_figures(result: StudyResult) -> list[str]:
    """What this kind of study compares."""
    specific: dict[str | None, Callable[[StudyResult], list[str]]] = {
        "gpu_scaling": _scaling,
        "batching": _batching,
        "cache": _cache,
        "cache_tiers": _tiers,
    }
    scenario = result.study.scenario
    return specific.get(scenario.experiment, _plain)(result) + _courses(result)


def _plain(result: StudyResult) -> list[str]:
    drawn = [metric_figure(result, "throughput_per_s")]
    axis = numeric_axis(result)
    if axis is not None:
        drawn.append(metric_figure(result, "ttft_mean_s"))
    return [figure for figure in drawn if figure and len(result.arms) > 1]


def _scaling(result: StudyResult) -> list[str]:
    rows = gpu_scaling.table(result)
    lines = _lines(result, rows, gpu_scaling.AXIS, "parallelism")
    throughput, wait, ideal = {}, {}, {}
    for label, line in lines.items():
        gpus = [float(row["parallelism"]) for row in line]
        throughput[label] = (gpus, [row["total_throughput"] for row in line])
        wait[label] = (gpus, [row["wait_mean_s"] for row in line])
        first = line[0]["total_throughput"].mean
        if first is not None:
            ideal[f"linear {label}".strip()] = (gpus, [first * count / gpus[0] for count in gpus])
    log_x = max(row["parallelism"] for row in rows) > charts.WIDE
    factor, unit = seconds([row["wait_mean_s"] for row in rows])
    scaled = {label: (gpus, [value.scaled(factor) for value in values]) for label, (gpus, values) in wait.items()}
    return [
        charts.figure(
            "Throughput",
            charts.curves(throughput, "GPUs", "requests / s", references=ideal, log_x=log_x),
            "Thin lines: as many times as there are GPUs, from the smallest cluster on.",
        ),
        charts.figure(
            "Waiting time",
            charts.curves(scaled, "GPUs", f"mean, {unit}", log_x=log_x),
            "From arrival to the start of service.",
        ),
    ]


def _batching(result: StudyResult) -> list[str]:
    rows = batching.table(result)
    lines = _lines(result, rows, batching.AXIS, "batch_size")
    if len(lines) > MOST_LINES // 2:
        groups = {
            f"batch limit {size}": (
                [row["real_throughput_per_s"].mean for row in rows if row["batch_size"] == size],
                [row["e2e_p95_s"].mean for row in rows if row["batch_size"] == size],
                [name_of(result, arm) for arm, row in enumerate(rows) if row["batch_size"] == size],
            )
            for size in sorted({row["batch_size"] for row in rows})
        }
        chart = charts.scatter(groups, "throughput, requests / s", "end-to-end latency, 95th percentile, s", log_y=True)
        return [charts.figure("Latency against throughput", chart, "One point an arm: a load and a batch limit.")]
    latency, throughput = {}, {}
    factor, unit = seconds([row["e2e_mean_s"] for row in rows])
    for label, line in lines.items():
        sizes = [float(row["batch_size"]) for row in line]
        for metric, word in (("e2e_mean_s", "end to end"), ("wait_mean_s", "waiting")):
            latency[f"{label}: {word}".removeprefix(": ")] = (sizes, [row[metric].scaled(factor) for row in line])
        throughput[label or "completed"] = (sizes, [row["real_throughput_per_s"] for row in line])
    return [
        charts.figure("Latency", charts.curves(latency, "batch limit", f"mean, {unit}"), "Mean over requests."),
        charts.figure(
            "Throughput", charts.curves(throughput, "batch limit", "requests / s"), "Completions over time measured."
        ),
    ]


def _cache(result: StudyResult) -> list[str]:
    arms = shown(result)
    asked = [sum(result.interval(arm, name).mean or 0.0 for name in TIERS) or 1.0 for arm in arms]

    def shares(name: str) -> list[float | None]:
        means = [result.interval(arm, name).mean for arm in arms]
        return [None if mean is None else mean / total for mean, total in zip(means, asked, strict=True)]

    parts = {word: shares(name) for name, word in TIERS.items()}
    marks = {
        "static LRU, same memory": shares("static_local_hits"),
        "ceiling": [result.interval(arm, "ceiling_ratio").mean for arm in arms],
    }
    chart = charts.stack(arm_labels(result, arms), parts, "share of lookups", marks)
    caption = "Strokes: what a static LRU of the same memory finds in its local tier, and what any cache could find."
    return [
        charts.figure("Where prefixes were found", chart, caption),
        metric_figure(result, "e2e_mean_s"),
    ]


TIERS = {"local_hits": "local hit", "remote_hits": "remote hit", "misses": "miss"}
ORACLES = {
    "lru_hit_ratio": "LRU, exact",
    "belady_hit_ratio": "Belady",
    "ceiling_hit_ratio": "ceiling: all but first uses",
}


def _tiers(result: StudyResult) -> list[str]:
    rows = analysis_of(result.study.scenario).table(result)
    lines: dict[str, list[Row]] = {}
    for arm, row in enumerate(rows):
        if row["capacity_mean"].mean and row["hit_ratio"].mean is not None:
            rest = {key: value for key, value in result.labels(arm).items() if "capacity" not in key}
            lines.setdefault(words_of(rest), []).append(row)
    sized = {label: sorted(line, key=lambda row: row["capacity_mean"].mean) for label, line in lines.items()}
    if any(len(line) > 1 for line in sized.values()) and len(sized) <= MOST_LINES:
        return _sizes(sized)
    arms = shown(result)
    names = [name.removesuffix("_written_bytes") for name in rows[0] if name.endswith("_written_bytes")]
    parts = {name: [rows[arm][f"{name}_token_hit_ratio"].mean for arm in arms] for name in names}
    own = [
        max(0.0, (rows[arm]["token_hit_ratio"].mean or 0.0) - sum(parts[name][place] or 0.0 for name in names))
        for place, arm in enumerate(arms)
    ]
    if any(share > 1e-9 for share in own):
        parts = {"the GPU itself": own, **parts}
    marks = {"ceiling": [rows[arm]["ceiling_token_hit_ratio"].mean for arm in arms]}
    chart = charts.stack(arm_labels(result, arms), parts, "share of prompt tokens", marks)
    metric = next(
        name for name in ("ttft_mean_s", "unqueued_ttft_mean_s", "hit_ratio") if name == "hit_ratio" or
        any(result.interval(arm, name).mean is not None for arm in arms)
    )  # fmt: skip
    return [
        charts.figure("Where prompt tokens were found", chart, "Stroke: what a cache without limits would have found."),
        metric_figure(result, metric, axis=""),
    ]


def _sizes(lines: dict[str, list[Row]]) -> list[str]:
    """Hits over capacity against the oracles."""
    by_size = {row["capacity_mean"].mean: row for line in lines.values() for row in line}
    sizes = sorted(by_size)
    references = {
        word: (sizes, [by_size[size][name].mean for size in sizes])
        for name, word in ORACLES.items()
        if all(by_size[size][name].mean is not None for size in sizes)
    }
    drawn = {
        label or "hit ratio": ([row["capacity_mean"].mean for row in line], [row["hit_ratio"] for row in line])
        for label, line in lines.items()
    }
    chart = charts.curves(
        drawn, "mean capacity, bytes or entries", "share of lookups", references=references, log_x=True, ticks=False
    )
    return [charts.figure("Hits by size", chart, "Thin lines: what the oracles find of the same lookups.")]


def _courses(result: StudyResult) -> list[str]:
    """What elastic tiers did over time, where any moved."""
    moving = {
        name_of(result, arm): course for arm, course in enumerate(result.courses) if isinstance(course, TierCourse)
    }
    if not moving:
        return []
    sizes = {
        label: ([*(course.changed_at_s / 3600), course.at_s[-1] / 3600], [*course.capacity, course.capacity[-1]])
        for label, course in moving.items()
    }
    hits = {label: (course.at_s / 3600, course.hit_ratio) for label, course in moving.items()}
    return [
        charts.figure(
            "Capacity over time",
            charts.tracks(sizes, "simulated time, h", "bytes or entries", step=True),
            "First runs.",
        ),
        charts.figure(
            "Hits over time",
            charts.tracks(hits, "simulated time, h", "share of requests given something"),
            "First runs.",
        ),
    ]


def _lines(result: StudyResult, rows: Sequence[Row], axis: str, x: str) -> dict[str, list[Row]]:
    """Rows of equal conditions by rising `x`, under what they were run with."""
    lines: dict[str, list[Row]] = {}
    for arm, row in enumerate(rows):
        lines.setdefault(words_of(result.condition(arm, axis)), []).append(row)
    return {label: sorted(line, key=lambda row: float(row[x])) for label, line in lines.items()}
