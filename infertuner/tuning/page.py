"""The page of a tuning: report.html beside answer.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infertuner.experiments.result import Row
from infertuner.outcomes.html import charts
from infertuner.outcomes.html.axes import seconds
from infertuner.outcomes.html.page import Page, paragraphs, render
from infertuner.outcomes.html.tables import table
from infertuner.outcomes.html.words import headed, in_words
from infertuner.outcomes.statistics import Interval
from infertuner.tuning.space import label
from infertuner.tuning.words import EFFECTS_SHOWN, cost_in_words, objectives, refused, sureness

COLOURS = ("--c2", "--c1", "--c6")
"""Of what meets the objectives, of what does not, and of what is saturated."""


def tuning_page(
    told: Mapping[str, Any], rows: Sequence[Row], latency: str, *, provenance: Mapping[str, Any], scenario_yaml: str
) -> str:
    """The page of a tuning.

    told: the content of answer.json. rows: every configuration that was judged, as in evaluated.csv.
    latency: the metric that the front is drawn by.
    """
    search, answer = told["search"], told["answer"]
    space = "" if search["configurations"] is None else f" of {search['configurations']:,} configurations"
    searched = (
        f"{search['judged']:,}{space} judged in {search['cells']:,} cells, {search['from_store']:,} of them read from "
        f"earlier work, up to {search['replications']} replications, seed {search['seed']}, {search['wall_s']:.1f} s"
    )
    evaluated = [_shown(row) for row in rows]
    chosen = [place for place, row in enumerate(rows) if row["answer"]]
    return render(
        Page(
            kind="Tuning",
            name=told["scenario"]["name"],
            title=told["scenario"]["description"] or told["scenario"]["name"],
            answer=_answer(told) if told["feasible"] else [f"{line[:1].upper()}{line[1:]}." for line in refused(told)],
            warnings=told["warnings"],
            sections=[
                ("Objectives of the answer", _objectives(answer)),
                ("Cost against latency", _figure(told, rows, latency)),
                ("What moves it most", _effects(told)),
                ("Configurations that were judged", table("Configurations", evaluated, chosen)),
            ],
            provenance=provenance,
            scenario_yaml=scenario_yaml,
            facts=[*(("Seconds", source) for source in told["latency"]), ("Search", searched)],
        )
    )


def _answer(told: Mapping[str, Any]) -> list[str]:
    """The configuration, its cost and how sure it is; what keeps it from being cheaper; what else would do."""
    answer, unit = told["answer"], told["cost_unit"]
    lines = [f"The cheapest that meets the objectives: {_configuration(answer)}, at {cost_in_words(answer, unit)}."]
    lines += [f"{line[:1].upper()}{line[1:]}." for line in sureness(answer)]
    if told["one_step_cheaper"] is not None:
        cheaper = told["one_step_cheaper"]
        lines.append(f"One step cheaper does not do: {_configuration(cheaper)}, {cheaper['reason']}.")
    if told["next_best"] is not None:
        following = told["next_best"]
        lines.append(f"Next best: {_configuration(following)}, {cost_in_words(following, unit)}.")
    return lines


def _configuration(described: Mapping[str, Any]) -> str:
    return label(described["parameters"])


def _objectives(answer: Row | None) -> str:
    if answer is None:
        return ""
    by = "that had no say in the choice" if answer["confirmed"] else "by which the answer was chosen"
    said = [f"Each objective, in the replications {by}."]
    if answer["binding"]:
        words = in_words(answer["binding"])
        one_less = f"What keeps it from being one step cheaper: {words}."
        smallest = f"It is the smallest of its kind; the least headroom has the {words}."
        said.append(one_less if answer["has_cheaper_neighbour"] else smallest)
    return "\n".join([*paragraphs([" ".join(said)]), table("Objectives", objectives(answer))])


def _effects(told: Mapping[str, Any]) -> str:
    if not told["sensitivity"]:
        return ""
    metric = told["answer"]["binding"]
    rows = [
        {
            "what": effect["name"],
            "change": effect["change"],
            f"difference_of_{metric}": effect["difference"],
            "of_its_limit_ratio": effect["relative_ratio"],
            "cost_difference_per_hour": effect["cost_difference_per_hour"],
            "then": effect["fails"],
        }
        for effect in told["sensitivity"][:EFFECTS_SHOWN]
    ]
    said = f"One thing changed at a time, knobs and assumptions alike: what that does to the {in_words(metric)}."
    return "\n".join([*paragraphs([said]), table("What moves the binding objective", rows)])


def _figure(told: Mapping[str, Any], rows: Sequence[Row], latency: str) -> str:
    """Every configuration by cost and latency, with the objective and the front of those that nothing beats."""
    known = [row for row in rows if row[latency].mean is not None]
    if not known:
        return ""
    factor, unit = seconds([row[latency] for row in known])
    steady = [row for row in known if row["saturation"] != "saturated"]
    groups = {
        "meets the objectives": [row for row in steady if row["verdict"] == "meets"],
        "does not, or not surely": [row for row in steady if row["verdict"] != "meets"],
        "saturated": [row for row in known if row["saturation"] == "saturated"],
    }
    ring = next(
        (("the answer", row["cost_per_hour"], row[latency].mean * factor) for row in known if row["answer"]), None
    )
    drawn = {
        name: (
            [row["cost_per_hour"] for row in group],
            [row[latency].mean * factor for row in group],
            [label(_parameters(row)) for row in group],
        )
        for name, group in groups.items()
        if group
    }
    limit = next((bound["limit"] for bound in told["slo"] if bound["metric"] == latency), None)
    chart = charts.scatter(
        drawn,
        "GPUs" if told["cost_unit"] == "GPUs" else "cost an hour, in the currency of the prices",
        f"{in_words(latency)}, {unit}",
        colours=[colour for group, colour in zip(groups.values(), COLOURS, strict=True) if group],
        ring=ring,
        limit=None if limit is None else ("objective", limit * factor),
        front=_front([(row["cost_per_hour"], row[latency].mean * factor) for row in steady]),
        log_y=True,
    )
    caption = "A point a configuration, its mean. Further left is cheaper and further down is faster."
    return charts.figure(headed(latency), chart, caption)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points than which no other is both cheaper and faster, by rising cost."""
    front: list[tuple[float, float]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _parameters(row: Row) -> Row:
    """The columns of a row before its cost."""
    names = list(row)
    return {name: row[name] for name in names[: names.index("cost_per_hour")]}


def _shown(row: Row) -> Row:
    """A row of the evaluated table, what it is first in few words, then how it does."""
    measured = {name: value for name, value in row.items() if isinstance(value, Interval)}
    said = {name: row[name] for name in ("cost_per_hour", "verdict", "reason", "replications", "saturation")}
    return {"configuration": label(_parameters(row)), **said, **measured}
