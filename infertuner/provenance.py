"""Where a result comes from: code, machine and command, so that a number can be made again.

It names kinds (a CPU model, a version), never this machine: no host or user name, no absolute path.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from infertuner.version import __version__

PACKAGES = ("numpy", "simpy", "scipy", "pandas", "pydantic")
IF_LOADED = ("torch", "transformers")
GIT_TIMEOUT_S = 2.0

_CHECKOUT = Path(__file__).resolve().parents[1]
_ABSOLUTE_PATH = re.compile(r"(?<![\w.~:/])/[^,;'\"}\]]+")


def collect(argv: Sequence[str]) -> dict[str, Any]:
    """The provenance of a result made by the command line `argv`, ready for JSON; unknown is None."""
    loaded = [name for name in IF_LOADED if name in sys.modules]
    return {
        "infertuner_version": __version__,
        **git_state(_CHECKOUT),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(_ABSOLUTE_PATH.sub(_portable, argument) for argument in argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in (*PACKAGES, *loaded)},
    }


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_state(checkout: Path) -> dict[str, Any]:
    """Commit of the checkout and whether tracked files differ from it; None outside a checkout or without git."""
    unknown = {"git_commit": None, "git_dirty": None}
    if not (checkout / ".git").exists():
        return unknown
    command = ["git", "--no-optional-locks", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        answer = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return unknown
    return {"git_commit": answer.removesuffix("-dirty"), "git_dirty": answer.endswith("-dirty")}


def _portable(match: re.Match[str]) -> str:
    """An absolute path as seen from the working directory, or its last name when it lies outside."""
    path = Path(match[0])
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name


def _cpu_model() -> str | None:
    """The CPU's model name; Linux alone keeps it where Python does not look."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None
