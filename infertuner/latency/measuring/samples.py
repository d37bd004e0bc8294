"""Raw measurements, and the file they grow in: one JSON line a visit. `sample_table` is the form they are kept in.

Every line is flushed, so a killed calibration loses at most the visit it was in; a torn last line is dropped. The
first line says what is being measured and where, and only a calibration of the very same thing may go on with it.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from infertuner.errors import CalibrationError
from infertuner.latency.measuring.extras import Extra
from infertuner.latency.measuring.journal import Journal
from infertuner.latency.points import Kind, Point

Work = Point | Extra
SCHEMA = "infertuner.samples/1"


@dataclass(frozen=True)
class Timing:
    """The timed calls of one visit: one entry a call in each list."""

    seconds: list[float]
    """Seconds on the device."""
    wall_s: list[float]
    """Seconds until the host knew; the same as `seconds` on a CPU."""
    preempted: list[bool]
    """Whether the operating system took the core away during the call (an involuntary context switch)."""

    @property
    def median_s(self) -> float:
        """Median of the calls that were not preempted, or of all where that leaves less than half of them."""
        clean = [s for s, preempted in zip(self.seconds, self.preempted, strict=True) if not preempted]
        return statistics.median(clean if 2 * len(clean) >= len(self.seconds) else self.seconds)


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
        """See `Timing.median_s`."""
        return self.timing.median_s


@dataclass(frozen=True)
class ExtraVisit:
    """One visit to something measured beside the points."""

    extra: Extra
    round: int
    at_s: float
    """When it ended, seconds since 1970."""
    timing: Timing


@dataclass(frozen=True)
class Skipped:
    """Something that could not be measured, and is not tried again."""

    work: Work
    reason: str


@dataclass
class Measurements:
    """Everything measured so far, in the order in which it was."""

    visits: list[Visit] = field(default_factory=list)
    extras: list[ExtraVisit] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, one: Visit | ExtraVisit | Skipped) -> None:
        """Put it where it belongs."""
        if isinstance(one, Visit):
            self.visits.append(one)
        elif isinstance(one, ExtraVisit):
            self.extras.append(one)
        else:
            self.skipped.append(one)

    def done(self) -> set[tuple[Work, int]]:
        """Each thing with each round in which it was visited."""
        return {(visit.point, visit.round) for visit in self.visits} | {(one.extra, one.round) for one in self.extras}


class SampleFile:
    """The growing file of an unfinished calibration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = Journal(path, CalibrationError)

    def begin(self, header: dict[str, Any], *, resume: bool) -> Measurements:
        """Start the file, or take up what an interrupted calibration of the same thing left; returns what it held."""
        lines = self._journal.read()
        if len(lines) < 2:  # nothing was measured yet
            self._journal.rewrite([header])
            return Measurements()
        if not resume:
            raise CalibrationError(
                f"{self.path} holds an unfinished calibration; add --resume to go on with it, or delete it"
            )
        found = lines[0] if isinstance(lines[0], dict) else {}
        if found.get("schema") != SCHEMA:
            raise CalibrationError(
                f"{self.path}: schema is {_brief(found.get('schema'))} and this version reads {SCHEMA!r}; "
                "it is no unfinished calibration of this version: move it away, or choose another --out"
            )
        for key, value in header.items():
            if found.get(key) != value:
                raise CalibrationError(
                    f"{self.path}: was measured with another {key}, so it cannot be resumed; "
                    f"delete it to start over ({_differing(found.get(key), value)})"
                )
        measured = Measurements()
        for number, line in enumerate(lines[1:], start=2):
            try:
                measured.add(from_row(line))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise CalibrationError(
                    f"{self.path}, line {number}: not a visit of this version ({error!r}); "
                    "delete that line to go on with the others"
                ) from None
        self._journal.rewrite(lines)
        return measured

    def append(self, one: Visit | ExtraVisit | Skipped) -> None:
        """Add one line and flush it."""
        self._journal.append(to_row(one))


def to_row(one: Visit | ExtraVisit | Skipped) -> dict[str, Any]:
    """As plain data: what was run, when, and its calls."""
    if isinstance(one, Skipped):
        return {**asdict(one.work), "skipped": one.reason}
    work = one.point if isinstance(one, Visit) else one.extra
    return {**asdict(work), "round": one.round, "at_s": one.at_s, **asdict(one.timing)}


def from_row(row: dict[str, Any]) -> Visit | ExtraVisit | Skipped:
    """What `to_row` made plain; raises KeyError, TypeError or ValueError for anything else."""
    kind = Point if row["kind"] in get_args(Kind) else Extra
    work = kind(**{one.name: row[one.name] for one in fields(kind) if one.name in row})
    if "skipped" in row:
        return Skipped(work, row["skipped"])
    timing = Timing(row["seconds"], row["wall_s"], row["preempted"])
    if not timing.seconds or not len(timing.seconds) == len(timing.wall_s) == len(timing.preempted):
        raise ValueError("seconds, wall_s and preempted must be equally long and not empty")
    if isinstance(work, Point):
        return Visit(work, row["round"], row["at_s"], timing)
    return ExtraVisit(work, row["round"], row["at_s"], timing)


def _differing(there: object, now: object) -> str:
    """The first thing in which two header entries differ."""
    if isinstance(there, dict) and isinstance(now, dict):
        key = next(key for key in [*now, *there] if there.get(key) != now.get(key))
        return f"{key}: {_brief(there.get(key))} there, {_brief(now.get(key))} now"
    return f"{_brief(there)} there, {_brief(now)} now"


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
