"""Raw measurements as one table, a row a timed call: gzipped CSV beside the profile, and read back from there."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import asdict, fields

from infertuner.latency.measuring.extras import Extra
from infertuner.latency.measuring.samples import ExtraVisit, Measurements, Visit, from_row
from infertuner.latency.points import Point

SHAPE = tuple(dict.fromkeys([one.name for one in (*fields(Point), *fields(Extra))]))
"""Columns of the sample table that say what was run: every field of a point or an extra."""


def samples_csv(measured: Measurements) -> bytes:
    """Every timed call of every visit as gzipped CSV; equal visits give equal bytes. What does not apply is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*SHAPE, "round", "at_s", "seconds", "wall_s", "preempted"])
    visits: list[Visit | ExtraVisit] = [*measured.visits, *measured.extras]
    for visit in visits:
        shape = asdict(visit.point if isinstance(visit, Visit) else visit.extra)
        calls = zip(visit.timing.seconds, visit.timing.wall_s, visit.timing.preempted, strict=True)
        for seconds, wall_s, preempted in calls:
            row = [shape.get(key) for key in SHAPE]
            writer.writerow([*row, visit.round, visit.at_s, seconds, wall_s, int(preempted)])
    return gzip.compress(text.getvalue().encode(), mtime=0)


def read_samples_csv(packed: bytes) -> Measurements:
    """What `samples_csv` wrote, or a version of it with fewer columns; raises ValueError for anything else."""
    try:
        rows = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))
        measured = Measurements()
        if not rows:
            raise ValueError("no samples in it")
        for begin, end in _runs(rows):
            first = rows[begin]
            shape = {key: _number(first[key]) for key in SHAPE if first.get(key)}
            calls = rows[begin:end]
            timing = {key: [float(call[key]) for call in calls] for key in ("seconds", "wall_s")}
            preempted = [call["preempted"] == "1" for call in calls]
            measured.add(
                from_row(
                    {
                        **shape,
                        **timing,
                        "preempted": preempted,
                        "round": int(first["round"]),
                        "at_s": float(first["at_s"]),
                    }
                )
            )
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, KeyError, TypeError) as error:
        raise ValueError(repr(error)) from None
    return measured


def _runs(rows: list[dict[str, str]]) -> Iterator[tuple[int, int]]:
    """Beginning and end of the rows of each visit: neighbours of one shape, round and instant."""
    keys = [tuple(row.get(key) for key in (*SHAPE, "round", "at_s")) for row in rows]
    begin = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or keys[i] != keys[begin]:
            yield begin, i
            begin = i


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
