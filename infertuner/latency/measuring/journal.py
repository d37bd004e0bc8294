"""A growing file of JSON lines: whoever is killed while measuring loses at most the line being written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infertuner.errors import InferTunerError
from infertuner.latency.profile import write_atomically


class Journal:
    """Every line is flushed; a torn last one is dropped when the file is read again."""

    def __init__(self, path: Path, error: type[InferTunerError]) -> None:
        """Error is what is raised, in one line, where the file is not what it should be."""
        self.path, self._error = path, error

    def read(self) -> list[Any]:
        """Every whole line; none where there is no file."""
        try:
            texts = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(f"{self.path}: cannot be read ({error}); move it away to start over") from None
        lines = []
        for number, text in enumerate(texts, start=1):
            try:
                lines.append(json.loads(text))
            except ValueError:
                if number < len(texts):
                    raise self._error(
                        f"{self.path}, line {number}: not JSON; delete the line to go on with the others (--resume)"
                    ) from None
        return lines

    def append(self, line: object) -> None:
        """Add one line and flush it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewrite(self, lines: Sequence[object]) -> None:
        """Replace the file, at once or not at all."""
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in lines).encode())
