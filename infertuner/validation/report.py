"""What is kept and shown of a validation: the run folder, summary.json, the figure and the table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from infertuner import provenance
from infertuner.outcomes import validation_figures
from infertuner.outcomes.console import format_cell, print_table
from infertuner.outcomes.folder import RunFolder, flatten
from infertuner.outcomes.statistics import Interval
from infertuner.sources.requests import Floats
from infertuner.validation.compare import NAMES, Error, compare
from infertuner.validation.runs import LATENCIES, Cell, Run
from infertuner.validation.verdicts import Verdict, judge

Row = dict[str, Any]
NOT_KNOWN = Error(float("nan"), float("nan"), Interval(None, None, None, 0))
INSTANTS = ("arrived_at_s", "first_token_at_s", "finished_at_s")
FEW_ARMS = 24
"""Arms up to which the terminal shows each."""


@dataclass
class Validation:
    """Everything one validation found."""

    title: str
    mode: str
    cells: Sequence[Cell]
    bounds: Mapping[str, float]
    about: Mapping[str, Any]
    """What was run on what: goes into summary.json as it is."""
    notes: Sequence[str] = ()
    """What a reader must know before using the numbers."""
    other: str = "simulated"
    """What to call that which is held against the measurement."""
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Further tables of this kind of validation, by file name without suffix."""

    @cached_property
    def errors(self) -> dict[str, Error]:
        """Simulation against measurement, over all cells."""
        return compare([(cell.measured, cell.simulated) for cell in self.cells])

    @cached_property
    def corrected(self) -> dict[str, Error]:
        """The drift-corrected simulation against the measurement, where there is one."""
        return compare([(cell.measured, cell.corrected) for cell in self.cells if cell.corrected is not None])

    @cached_property
    def floor(self) -> dict[str, Error]:
        """The measurement repeated against the measurement, where it was repeated."""
        return compare([(cell.measured, cell.again) for cell in self.cells if cell.again is not None])

    @cached_property
    def verdicts(self) -> Sequence[Verdict]:
        """What became of the bounds."""
        return judge(self.bounds, self.errors, self.corrected)

    @property
    def held(self) -> bool:
        """Whether every bound held."""
        return all(verdict.held for verdict in self.verdicts)

    def table(self) -> list[Row]:
        """One row a statistic; both values are seconds, or requests per second of throughput."""
        return [self._row(name) for name in NAMES if name in self.errors]

    def _row(self, name: str) -> Row:
        error = self.errors[name]
        row: Row = {
            "metric": name,
            "n": error.ratio.n,
            "measured": error.measured,
            self.other: error.other,
            "error_ratio": error.ratio,
        }
        if self.corrected:
            corrected = self.corrected.get(name, NOT_KNOWN)
            row |= {"drift_corrected": corrected.other, "drift_corrected_error_ratio": corrected.ratio}
        if self.floor:
            row["noise_floor_ratio"] = self.floor.get(name, NOT_KNOWN).ratio
        return row

    @cached_property
    def arm_table(self) -> list[Row]:
        """One row an arm: the speed the machine had, and the errors of its means."""
        arms = list(dict.fromkeys(cell.arm for cell in self.cells))
        return [self._arm_row(arm, [cell for cell in self.cells if cell.arm == arm]) for arm in arms]

    def _arm_row(self, arm: str, cells: Sequence[Cell]) -> Row:
        errors = compare([(cell.measured, cell.simulated) for cell in cells])
        corrected = compare([(cell.measured, cell.corrected) for cell in cells if cell.corrected is not None])
        row: Row = {"arm": arm, "requests": sum(cell.measured.finished for cell in cells)}
        row |= {name: mean(cell.drift[name] for cell in cells) for name in cells[0].drift}
        for name in ("ttft_mean", "e2e_mean", "throughput"):
            row[f"{name}_error_ratio"] = errors.get(name, NOT_KNOWN).ratio
        if self.corrected:
            row["e2e_mean_drift_corrected_error_ratio"] = corrected.get("e2e_mean", NOT_KNOWN).ratio
        return row

    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "mode": self.mode,
            "title": self.title,
            "held": self.held,
            "bounds": [{**vars(verdict), "held": verdict.held} for verdict in self.verdicts],
            "metrics": [flatten(row) for row in _without_nan(self.table())],
            "arms": [flatten(row) for row in _without_nan(self.arm_table)],
            "about": dict(self.about),
            "notes": list(self.notes),
        }


def write_validation(folder: RunFolder, validation: Validation, argv: Sequence[str]) -> None:
    """Write the tables, the figure, the requests of both sides and where it all comes from."""
    folder.write_json("summary.json", validation.summary())
    folder.write_csv("validation.csv", validation.table())
    folder.write_csv("arms.csv", validation.arm_table)
    for name, rows in validation.tables.items():
        folder.write_csv(f"{name}.csv", rows)
    for cell in validation.cells:
        folder.append("requests.parquet", requests_frame(cell, validation.other))
    drawn = validation_figures.draw_validation(validation.title, distributions(validation.cells, validation.other))
    validation_figures.save(drawn, folder.file("figures/validation.png"))
    folder.write_json("provenance.json", provenance.collect(argv))


def requests_frame(cell: Cell, other: str = "simulated") -> pd.DataFrame:
    """One row a request: what was measured and what was simulated, columns prefixed by whose they are.

    Where the two hold unlike requests, a row is the i-th request of either, and its lengths are those measured.
    """
    measured = cell.measured
    columns: dict[str, Any] = {
        "arm": cell.arm,
        "replication": cell.replication,
        "request_id": np.arange(len(measured.arrived_at_s)),
        "prompt_tokens": measured.prompt_tokens,
        "output_tokens": measured.output_tokens,
    }
    frames = [pd.DataFrame(columns)]
    for side, run in _sides(cell, other):
        instants = {f"{side}_{name}": getattr(run, name) for name in INSTANTS}
        frames.append(pd.DataFrame(instants | {f"{side}_{metric}_s": run.latencies_s(metric) for metric in LATENCIES}))
    return pd.concat(frames, axis=1)


def distributions(cells: Sequence[Cell], other: str = "simulated") -> dict[str, dict[str, Floats]]:
    """Values to draw: metric, then side, then every known value of all cells."""
    found: dict[str, dict[str, Floats]] = {}
    for metric in LATENCIES:
        for cell in cells:
            for side, run in _sides(cell, other):
                values = run.latencies_s(metric)
                before = found.setdefault(metric, {}).get(side, np.empty(0))
                found[metric][side] = np.concatenate((before, values[~np.isnan(values)]))
    return found


def print_validation(validation: Validation, console: Console) -> None:
    """The table of errors, one row an arm where there are several, the verdicts, and what to be careful about."""
    print_table(validation.title, [_shown(row) for row in validation.table()], console)
    arms = validation.arm_table
    if 1 < len(arms) <= FEW_ARMS:
        print_table("by arm", arms, console)
    lines = [f"note: {note}" for note in validation.notes]
    for verdict in validation.verdicts:
        error = "too few requests to judge" if verdict.error_ratio is None else f"error {verdict.error_ratio:+.1%}"
        held = "held" if verdict.held else "MISSED"
        lines.append(f"bound {verdict.bound} within {verdict.limit_ratio:.1%}: {held} ({error})")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _shown(row: Row) -> Row:
    """A row with its two values in the unit its metric has; a ratio with its sign is left to the errors."""
    unit = "throughput_per_s" if row["metric"] == "throughput" else "seconds_s"
    values = ("measured", "simulated", "compared", "drift_corrected")
    return {name: format_cell(unit, value) if name in values else value for name, value in row.items()}


def _sides(cell: Cell, other: str) -> list[tuple[str, Run]]:
    sides = (("measured", cell.measured), (other, cell.simulated), ("drift_corrected", cell.corrected))
    return [(side, run) for side, run in sides if run is not None]


def _without_nan(rows: Sequence[Row]) -> list[Row]:
    """JSON has no NaN; a number that is missing is null."""
    return [{name: None if _is_nan(value) else value for name, value in row.items()} for row in rows]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
