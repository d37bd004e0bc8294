"""What a study says, in sentences made from its numbers: which arm is best at what, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from infertuner.experiments import slo
from infertuner.experiments.gpu_scaling import table as scaling_table
from infertuner.experiments.result import StudyResult
from infertuner.outcomes.console import format_cell
from infertuner.outcomes.ranking import compare_with_best
from infertuner.outcomes.statistics import Values, interval
from infertuner.scenario.model import Scenario

MOST_NAMED = 4
"""Arms named in a sentence; of more, their number."""


class Goal(NamedTuple):
    """What makes an arm good."""

    metric: str
    maximise: bool
    words: str
    """What the best arm has, as in `shortest mean wait`."""


SHORTEST_TTFT = Goal("ttft_mean_s", maximise=False, words="shortest mean time to first token")
SHORTEST_E2E = Goal("e2e_mean_s", maximise=False, words="shortest mean end-to-end latency")
MOST_ANSWERED = Goal("throughput_per_s", maximise=True, words="highest throughput in requests/s")
GOALS = {
    None: (SHORTEST_TTFT, Goal("tpot_mean_s", maximise=False, words="shortest mean time per output token")),
    "gpu_scaling": (Goal("wait_mean_s", maximise=False, words="shortest mean wait"),),
    "batching": (MOST_ANSWERED, SHORTEST_E2E),
    "cache": (Goal("hit_ratio", maximise=True, words="highest hit ratio"), SHORTEST_E2E),
    "cache_tiers": (
        Goal("hit_ratio", maximise=True, words="highest hit ratio"),
        Goal("unqueued_ttft_mean_s", maximise=False, words="shortest mean time to first token without queues"),
        Goal("cost", maximise=False, words="lowest cost of its tiers"),
    ),
}


def answers(result: StudyResult) -> list[str]:
    """One to five sentences, the most important first."""
    scenario = result.study.scenario
    told = [objectives_met(result)]
    if len(result.arms) == 1:
        told += [_one_arm(result)]
    else:
        if scenario.experiment == "gpu_scaling":
            told.append(_scaling(result))
        told += [best_arm(result, goal, result.values) for goal in goals_of(scenario)]
    told.append(_ceiling(result))
    return [sentence for sentence in told if sentence] or ["Nothing was answered, so there is nothing to compare."]


def goals_of(scenario: Scenario) -> Sequence[Goal]:
    """What the arms of a scenario are compared by."""
    return GOALS[scenario.experiment]


def best_arm(result: StudyResult, goal: Goal, values_of: Callable[[int, str], Values]) -> str:
    """Which arm is best by a metric and which cannot be told apart from it; empty where nothing is known.

    Latencies of saturated arms depend on when the run stopped and take no part.
    """
    is_latency = goal.metric.endswith("_s") and not goal.metric.endswith("per_s")
    run = [index for index, runs in enumerate(result.metrics) if runs]
    arms = [index for index in run if not (is_latency and result.saturation(index) == "saturated")]
    values = [values_of(index, goal.metric) for index in arms]
    means = [interval(known).mean for known in values]
    known = [(mean, place) for place, mean in enumerate(means) if mean is not None]
    if len(known) < 2:
        return ""
    best = (max if goal.maximise else min)(known, key=lambda one: one[0])[1]
    shown = format_cell(goal.metric, interval(values[best]))
    if math.isclose(min(known)[0], max(known)[0], rel_tol=1e-9, abs_tol=1e-12):
        return f"{goal.words.split(' ', 1)[1].capitalize()}: {shown} with every arm."
    standings = compare_with_best(values, maximise=goal.maximise)
    near = [
        arms[place]
        for place, standing in enumerate(standings)
        if place != best and standing is not None and standing.verdict != "worse"
    ]
    lead = f"{goal.words.capitalize()}: {shown} with {name_of(result, arms[best])}"
    if all(standing is None or not math.isfinite(standing.behind) for standing in standings):
        return f"{lead}; of one replication, so the difference may be chance."
    left_out = "" if len(arms) == len(run) else " Saturated arms are left out."
    if not near:
        return f"{lead}, best with 95 % confidence.{left_out}"
    if len(near) == len(known) - 1:
        return f"{lead}, but no other arm can be told apart from it.{left_out}"
    return f"{lead}, not told apart from {_named(result, near)}.{left_out}"


def name_of(result: StudyResult, index: int) -> str:
    """An arm in words: how it differs from the others."""
    words = label_of(result, index)
    return f"{words} (arm {index})" if words else f"arm {index}" if len(result.arms) > 1 else "the arm"


def label_of(result: StudyResult, index: int) -> str:
    """How an arm differs from the others, without its number; a tier's capacity goes by the tier's name."""
    labels = result.labels(index)
    words = ", ".join(f"{name} {format_cell(name, value)}" for name, value in labels.items())
    return words.replace(".capacity_bytes", "").replace(".capacity_entries", "")


def _named(result: StudyResult, indices: Sequence[int]) -> str:
    if len(indices) > MOST_NAMED:
        return f"{len(indices)} others"
    if any(len(result.labels(index)) > 1 for index in indices):
        numbers = list(map(str, indices))
        return f"arm {numbers[0]}" if len(numbers) == 1 else f"arms {', '.join(numbers[:-1])} and {numbers[-1]}"
    names = [name_of(result, index) for index in indices]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _one_arm(result: StudyResult) -> str:
    """What the only arm does, without a comparison."""
    told = [
        (word, format_cell(name, result.interval(0, name)))
        for name, word in (
            ("throughput_per_s", "requests/s answered"),
            ("ttft_mean_s", "mean time to first token"),
            ("ttft_p99_s", "99th percentile of it"),
            ("tpot_mean_s", "mean time per output token"),
            ("e2e_p95_s", "95th percentile of the end-to-end latency"),
            ("utilization_ratio", "of the time its GPUs are busy"),
        )
        if result.interval(0, name).mean is not None
    ]
    return "; ".join(f"{value} {word}" for word, value in told) + "." if told else ""


def objectives_met(result: StudyResult) -> str:
    """Which arms meet the objectives of the scenario."""
    by_verdict: dict[str, list[int]] = {}
    for index in range(len(result.arms)):
        found = slo.judgement(result, index)
        if found is not None:
            by_verdict.setdefault(found.verdict, []).append(index)
    if not by_verdict:
        return ""
    if len(result.arms) == 1:
        found = slo.judgement(result, 0)
        assert found is not None
        said = {"meets": "are met", "fails": "are not met", "undecided": "may be met: replications do not tell"}
        why = "" if found.verdict == "meets" else f" ({found.reason()})"
        return f"The objectives {said[found.verdict]}{why}; all held in {found.runs_met} of {found.runs} runs."
    if "meets" not in by_verdict:
        more = f", and {len(by_verdict['undecided'])} may" if "undecided" in by_verdict else ""
        return f"No arm meets the objectives with 95 % confidence{more}."
    meets = by_verdict["meets"]
    verb = "meets" if len(meets) == 1 else "meet"
    does_not = "does not" if len(by_verdict.get("fails", ())) == 1 else "do not"
    rest = [
        f"{len(arms)} {does_not if verdict == 'fails' else 'may'}"
        for verdict, arms in by_verdict.items()
        if verdict != "meets"
    ]
    named = _named(result, meets).replace("others", "arms")
    return f"{named[0].upper()}{named[1:]} {verb} the objectives" + (f"; {', '.join(rest)}." if rest else ".")


def _scaling(result: StudyResult) -> str:
    """How far the largest cluster gets, under the conditions where it gets furthest."""
    rows = scaling_table(result)
    most = max(row["parallelism"] for row in rows)
    known = [(row["scale_factor"].mean, arm) for arm, row in enumerate(rows)
             if row["parallelism"] == most and row["scale_factor"].mean is not None]  # fmt: skip
    if not known or len({row["parallelism"] for row in rows}) < 2:
        return ""
    row = rows[max(known)[1]]
    condition = result.condition(max(known)[1], "cluster.gpus")
    words = ", ".join(f"{name} {value}" for name, value in condition.items())
    return (
        f"{most:,} GPUs answer {format_cell('scale_factor', row['scale_factor'])} times as much as the smallest cluster"
        f"{f' at {words}' if words else ''}: {format_cell('efficiency_ratio', row['efficiency_ratio'])} of linear."
    )


def _ceiling(result: StudyResult) -> str:
    """How near the best cache comes to what any could have found."""
    found = [(result.interval(index, "attained_ratio"), index) for index in range(len(result.arms))]
    known = [(one.mean, one, index) for one, index in found if one.mean is not None]
    if not known:
        return ""
    _, attained, index = max(known, key=lambda one: one[0])
    ratio, ceiling = (result.interval(index, name) for name in ("found_ratio", "ceiling_ratio"))
    if ratio.mean is None or ceiling.mean is None:
        return ""
    who = "the cache" if len(result.arms) == 1 else name_of(result, index)
    return (
        f"Nearest to the ceiling: {who} finds {format_cell('_ratio', ratio)} of what is asked, "
        f"{format_cell('_ratio', attained)} of the {format_cell('_ratio', ceiling)} that any cache could find."
    )
