"""`python -m infertuner`: which commands there are."""

from __future__ import annotations

import sys

COMMANDS = {
    "simulate": "run a scenario's arms: tables, figures, a page",
    "sweep": "many variants on all cores or a cluster",
    "tune": "the cheapest configuration that meets the objectives",
    "calibrate": "measure this machine, or import public measurements",
    "validate": "hold a simulation against hardware, an engine or files",
    "scenario": "keys and schema of scenario files, and their requests as a trace",
}


def main() -> int:
    """Print them; the exit code is 2, since nothing was asked."""
    lines = [f"  python -m infertuner.{name:<10} {what}" for name, what in COMMANDS.items()]
    sys.stderr.write("\n".join(["name a command, and --help to learn more:", *lines, ""]))
    return 2


if __name__ == "__main__":
    sys.exit(main())
