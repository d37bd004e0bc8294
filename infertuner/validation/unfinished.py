"""What an interrupted validation has measured so far: one JSON line a run, on disk as soon as it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infertuner.errors import ValidationError
from infertuner.latency.measuring.journal import Journal
from infertuner.validation.runs import Run

Line = dict[str, Any]
INSTANTS = ("arrived_at_s", "first_token_at_s", "finished_at_s")
SIZES = ("prompt_tokens", "output_tokens")


class UnfinishedFile:
    """The growing file beside the run folder to be; its first line says what is being measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = Journal(path, ValidationError)

    def begin(self, header: Line, *, resume: bool) -> list[Line]:
        """Start the file, or take up what an interrupted validation of the same thing left; returns its runs."""
        lines = self._journal.read()
        if len(lines) < 2:
            self._journal.rewrite([header])
            return []
        if not resume:
            raise ValidationError(
                f"{self.path}: holds an unfinished validation; add --resume to go on with it, or delete it"
            )
        for key, value in header.items():
            if lines[0].get(key) != value:
                raise ValidationError(f"{self.path}: was measured with another {key}; delete it to start over")
        self._journal.rewrite(lines)
        return lines[1:]

    def append(self, line: Line) -> None:
        """Add one run."""
        self._journal.append(line)

    def remove(self) -> None:
        """Nothing is unfinished any more."""
        self.path.unlink(missing_ok=True)


def run_to_line(run: Run) -> Line:
    """A run as plain data."""
    plain = {name: getattr(run, name).tolist() for name in (*INSTANTS, *SIZES)}
    return {**plain, "gaps_s": [gaps.tolist() for gaps in run.gaps_s]}


def run_from_line(line: Line) -> Run:
    """The run that `run_to_line` wrote."""
    columns: Line = {name: np.array(line[name], dtype=np.float64) for name in INSTANTS}
    columns |= {name: np.array(line[name], dtype=np.int64) for name in SIZES}
    return Run(**columns, gaps_s=[np.array(gaps, dtype=np.float64) for gaps in line["gaps_s"]])
