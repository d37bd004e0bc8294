"""The run folder: written beside its final place and moved there when whole, so that nobody finds half a result."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from infertuner.errors import ResultsError
from infertuner.outcomes.statistics import Interval

ANSWERS = ("summary.json", "answer.json")
MARK = "provenance.json"
"""Beside one of the answers, what only a run folder has; nothing else is ever replaced."""


class RunFolder:
    """A folder under construction; leaving the `with` block normally puts it in place, an exception leaves no trace."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link, which is refused
        self._shown = path
        self._overwrite = overwrite
        self._building = (
            self.path.with_name(f".{self.path.name}.{os.getpid()}.partial") if self.path.name else self.path
        )
        self._made: list[Path] = []
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> RunFolder:
        self._check_free()
        try:
            self._made = [parent for parent in self._building.parents if not parent.exists()]
            self._building.mkdir(parents=True)
        except OSError as error:
            self._clean_up()
            raise ResultsError(f"{self._shown}: cannot be written ({error.strerror}); choose another --out") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()
        try:
            if error is None:
                self._check_free()
                self._move_into_place()
        finally:
            self._clean_up()

    def _check_free(self) -> None:
        """Refuse a place that holds something that is not ours to replace."""
        try:
            if not os.path.lexists(self.path):
                return
            ours = self.path.is_dir() and not self.path.is_symlink() and self._is_replaceable()
        except OSError as error:
            raise ResultsError(f"{self._shown}: cannot be written ({error.strerror}); choose another --out") from None
        if not ours:
            raise ResultsError(f"{self._shown}: exists and is no folder of results; choose another --out")
        if not self._overwrite:
            raise ResultsError(f"{self._shown}: exists already; choose another --out, or add --overwrite to replace it")

    def _is_replaceable(self) -> bool:
        if not any(self.path.iterdir()):
            return True
        return (self.path / MARK).is_file() and any((self.path / answer).is_file() for answer in ANSWERS)

    def _clean_up(self) -> None:
        """Leave nothing behind but what was put in place."""
        shutil.rmtree(self._building, ignore_errors=True)
        for parent in self._made:
            with suppress(OSError):
                parent.rmdir()

    def file(self, name: str) -> Path:
        """Where to write a file of this folder now."""
        path = self._building / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def append(self, name: str, frame: pd.DataFrame) -> None:
        """Add rows to a Parquet table; frames of one table have the same columns."""
        table = pa.Table.from_pandas(frame, preserve_index=False)
        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(self.file(name), table.schema, compression="zstd")
        try:
            self._writers[name].write_table(table.cast(self._writers[name].schema))
        except pa.ArrowException:
            raise ResultsError(
                f"{name}: this arm's columns are of other types than the first arm's; "
                "run workloads with named and with numbered sessions as two scenarios"
            ) from None

    def write_text(self, name: str, text: str) -> None:
        """Write a text file."""
        self.file(name).write_text(text, encoding="utf-8")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file; a number that is missing is null."""
        self.write_text(name, to_json(value))

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as CSV, each interval as its mean in place and its ends in columns at the end."""
        pd.DataFrame([flatten(row) for row in rows]).to_csv(self.file(name), index=False, lineterminator="\n")

    def _move_into_place(self) -> None:
        """Replace in two renames, so that the old folder is gone only when the new one is there."""
        aside = self._building.with_suffix(".old")
        try:
            if self.path.exists():
                self.path.rename(aside)
            self._building.rename(self.path)
        except OSError as error:
            if aside.exists():
                aside.rename(self.path)
            raise ResultsError(f"{self._shown}: cannot be written ({error.strerror}); choose another --out") from None
        shutil.rmtree(aside, ignore_errors=True)


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """A table row in plain columns: means where intervals stood, then `<column>_ci_low` and `<column>_ci_high`."""
    means = {name: value.mean if isinstance(value, Interval) else value for name, value in row.items()}
    ends = {
        f"{name}_{end}": getattr(value, end)
        for name, value in row.items()
        if isinstance(value, Interval)
        for end in ("ci_low", "ci_high")
    }
    return {**means, **ends}


def to_json(value: Any) -> str:
    """JSON text as it stands in every file and on stdout; intervals become mappings."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=vars) + "\n"
