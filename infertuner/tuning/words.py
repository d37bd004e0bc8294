"""The answer on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from infertuner.experiments.result import Row
from infertuner.outcomes.console import format_cell, print_table
from infertuner.tuning.answer import Report
from infertuner.tuning.space import label

EFFECTS_SHOWN = 8
"""Changes worth a terminal's height; answer.json has all."""


def print_answer(told: dict[str, Any], report: Report, console: Console) -> None:
    """What to buy and how sure that is; or why nothing will do."""
    title = told["scenario"]["description"] or told["scenario"]["name"]
    lines = _answered(told, report) if told["feasible"] else refused(told)
    _say(console, [title, *lines])
    if told["feasible"]:
        print_table("objectives, in replications that had no say in the choice", objectives(told["answer"]), console)
        _say(console, sureness(told["answer"]))
        if told["sensitivity"]:
            print_table(f"what moves {told['answer']['binding']} most", _effects(told), console)
    search = told["search"]
    space = "" if search["configurations"] is None else f" of {search['configurations']:,} configurations"
    notes = [f"latency: {source}" for source in told["latency"]]
    notes += [f"warning: {warning}" for warning in told["warnings"]]
    notes.append(
        f"{search['judged']:,}{space} judged in {search['cells']:,} cells ({search['from_store']:,} from the store), "
        f"{search['wall_s']:.1f} s"
    )
    _say(console, notes)


def _answered(told: dict[str, Any], report: Report) -> list[str]:
    answer, unit = report.outcome.answer, told["cost_unit"]
    assert answer is not None
    lines = [f"answer: {label(answer.point.parameters)}: {cost_in_words(told['answer'], unit)}"]
    if told["one_step_cheaper"] is not None:
        cheaper = told["one_step_cheaper"]
        lines.append(f"one step cheaper: {cost_in_words(cheaper, unit)}: {cheaper['reason']}")
    if report.outcome.next_best is not None:
        lines.append(
            f"next best: {label(report.outcome.next_best.point.parameters)}: {cost_in_words(told['next_best'], unit)}"
        )
    return lines


def refused(told: Mapping[str, Any]) -> list[str]:
    """Why there is no answer, and what comes nearest."""
    if told["why_not"] is None:
        return ["nothing was judged before the budget was spent; raise --budget-s"]
    whole = told["complete"]
    lines = ["no configuration meets the objectives" if whole else "none was found before the budget was spent"]
    for which in ("dearest", "closest"):
        found = told["why_not"][which]
        if which == "dearest" or found != told["why_not"]["dearest"]:
            lines.append(f"{which}: {label(found['parameters'])}: {found['reason']}")
    return lines


def cost_in_words(described: Row, unit: str) -> str:
    """What a configuration costs."""
    cost = described["cost_per_hour"]
    if unit == "GPUs":
        return f"{cost:g} GPU{'s' if cost != 1 else ''} (no prices given)"
    per_million = described["cost_per_million_output_tokens"]
    return f"{cost:,.2f} an hour" + ("" if per_million is None else f", {per_million:,.2f} per million output tokens")


def objectives(answer: Row) -> list[Row]:
    """Where each objective of the answer lies."""
    return [
        {
            "metric": margin["metric"],
            "objective": f"{'<=' if margin['at_most'] else '>='} {format_cell(margin['metric'], margin['limit'])}",
            "mean": format_cell(margin["metric"], margin["value"]),
            "headroom_ratio": margin["headroom_ratio"],
            "confidence": "-" if margin["confidence"] is None else f"{100 * _below_one(margin['confidence']):.4g} %",
            "binding": _binding(answer) if margin["metric"] == answer["binding"] else "",
        }
        for margin in answer["objectives"]
    ]


def _binding(answer: Row) -> str:
    """What the binding objective does: keep the answer from being cheaper, or, of the smallest of a kind, nothing."""
    return "binding" if answer["has_cheaper_neighbour"] else "least headroom"


def _below_one(confidence: float) -> float:
    """Nothing that was estimated is certain."""
    return min(confidence, 0.9999)


def sureness(answer: Row) -> list[str]:
    """How often the objectives held."""
    met, runs = answer["runs_met"], answer["runs"]
    return [
        f"all objectives held in {met} of {runs} {'fresh ' if answer['confirmed'] else ''}runs: with 95 % confidence "
        f"they hold in at least {100 * answer['runs_met_at_least_ratio']:.0f} % of such runs"
    ]


def _effects(told: Mapping[str, Any]) -> list[Row]:
    metric = told["answer"]["binding"]
    return [
        {
            "what": effect["name"],
            "change": effect["change"],
            f"difference of {metric}": format_cell(metric, effect["difference"]),
            "of_its_limit_ratio": effect["relative_ratio"],
            "cost difference": f"{effect['cost_difference_per_hour']:+.2f}",
            "then": effect["fails"],
        }
        for effect in told["sensitivity"][:EFFECTS_SHOWN]
    ]


def _say(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
