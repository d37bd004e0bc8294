"""How far a validation is, without a thread that would take the core away from what is being timed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from infertuner.units import format_seconds

Tell = Callable[[str, float, float], None]
"""Told what is being done, the share that is done, and about how many seconds are left."""
EVERY_S, EVERY_RATIO = 0.5, 0.1
"""How often a terminal, and how often a log, hears of it."""


@contextmanager
def progress() -> Iterator[Tell]:
    """A bar on stderr where that is a terminal, a line every tenth of the work elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=1.0, left="")
        shown_at_s = 0.0

        def tell(what: str, share: float, left_s: float) -> None:
            nonlocal shown_at_s
            if time.monotonic() - shown_at_s >= EVERY_S:
                bar.update(task, completed=share, description=what, left=_left(left_s), refresh=True)
                shown_at_s = time.monotonic()

        yield tell


def _lines() -> Tell:
    told = 0.0

    def tell(what: str, share: float, left_s: float) -> None:
        nonlocal told
        if share - told >= EVERY_RATIO:
            sys.stderr.write(f"{what}: {share:.0%} done, {_left(left_s)}\n")
            told = share

    return tell


def _left(seconds: float) -> str:
    return f"about {format_seconds(seconds, 2)} left"
