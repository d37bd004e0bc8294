"""Raw measurements on disk: one JSON line a visit while measuring, one compressed CSV when done.

Every line is flushed, so a killed calibration loses at most the visit it was in; a torn last line is dropped. The
first line says what is being measured and where, and only a calibration of the very same thing may go on with it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infertuner.errors import CalibrationError
from infertuner.latency.points import Point
from infertuner.latency.profile import write_atomically


@dataclass(frozen=True)
class Timing:
    """The timed calls of one visit: one entry a call in each list."""

    seconds: list[float]
    """Seconds on the device."""
    wall_s: list[float]
    """Seconds until the host knew; the same as `seconds` on a CPU."""
    preempted: list[bool]
    """Whether the operating system took the core away during the call (an involuntary context switch)."""


@dataclass(frozen=True)
class Visit:
    """One visit to a point: set up, a few untimed calls, then the timed ones. The unit of independent measurement."""

    point: Point
    round: int
    at_s: float
    """When it ended, seconds since 1970."""
    timing: Timing

    @property
    def median_s(self) -> float:
        """Median of the calls that were not preempted, or of all where that leaves less than half of them."""
        calls = self.timing
        clean = [s for s, preempted in zip(calls.seconds, calls.preempted, strict=True) if not preempted]
        return statistics.median(clean if 2 * len(clean) >= len(calls.seconds) else calls.seconds)


class SampleFile:
    """The growing file of an unfinished calibration."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, header: dict[str, Any], *, resume: bool) -> list[Visit]:
        """Start the file, or take up what an interrupted calibration of the same thing left; returns its visits."""
        lines = self._read() if self.path.exists() else []
        if len(lines) < 2:  # nothing was measured yet
            self._rewrite([header])
            return []
        if not resume:
            raise CalibrationError(
                f"{self.path} holds an unfinished calibration; add --resume to go on with it, or delete it"
            )
        for key, value in header.items():
            if lines[0].get(key) != value:
                raise CalibrationError(
                    f"{self.path}: was measured with another {key}, so it cannot be resumed; "
                    f"delete it to start over ({_brief(lines[0].get(key))} there, {_brief(value)} now)"
                )
        self._rewrite(lines)
        return [_visit(line) for line in lines[1:]]

    def append(self, visit: Visit) -> None:
        """Add one visit and flush it."""
        line = {**asdict(visit.point), "round": visit.round, "at_s": visit.at_s, **asdict(visit.timing)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _read(self) -> list[dict[str, Any]]:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        complete = []
        for number, line in enumerate(lines, start=1):
            try:
                complete.append(json.loads(line))
            except ValueError:
                if number < len(lines):
                    raise CalibrationError(
                        f"{self.path}, line {number}: not JSON; delete the file to start over"
                    ) from None
        return complete

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def samples_csv(visits: list[Visit]) -> bytes:
    """Every timed call of every visit as gzipped CSV; equal visits give equal bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    shape = ["kind", "batch_size", "new_tokens", "cached_tokens", "role"]
    writer.writerow([*shape, "round", "at_s", "seconds", "wall_s", "preempted"])
    for visit in visits:
        point = asdict(visit.point)
        calls = zip(visit.timing.seconds, visit.timing.wall_s, visit.timing.preempted, strict=True)
        for seconds, wall_s, preempted in calls:
            writer.writerow([*(point[key] for key in shape), visit.round, visit.at_s, seconds, wall_s, int(preempted)])
    return gzip.compress(text.getvalue().encode(), mtime=0)


def _visit(line: dict[str, Any]) -> Visit:
    point = {key: line[key] for key in ("kind", "batch_size", "new_tokens", "cached_tokens", "role")}
    timing = {key: line[key] for key in ("seconds", "wall_s", "preempted")}
    return Visit(Point(**point), line["round"], line["at_s"], Timing(**timing))


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
