"""Finished cells on disk, a file each, named by their content hash."""

from __future__ import annotations

import os
from pathlib import Path

from infertuner.errors import ResultsError
from infertuner.sweeping.cells import CellResult, read_cell


class Store:
    """A folder of cells. A file appears whole or not at all, so a process may be killed at any time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> CellResult | None:
        """The cell of this key; None where there is none, or one that a dying machine left broken."""
        try:
            return read_cell(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, text: str) -> None:
        """Keep a cell's JSON text."""
        path = self._path(key)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise ResultsError(f"{self.folder}: cannot be written ({error.strerror}); choose another --store") from None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
