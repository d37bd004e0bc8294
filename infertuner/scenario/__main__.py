"""`python -m infertuner.scenario schema|check`: help for people who write scenarios."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from infertuner.commands import run_command
from infertuner.scenario.study import json_schema, load_study


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when done and 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m infertuner.scenario", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON Schema of the scenario language, for editors")
    check = commands.add_parser("check", help="say whether a scenario is well-formed and which arms it has")
    check.add_argument("scenario", type=Path, metavar="SCENARIO.yaml")
    arguments = parser.parse_args(argv)
    return run_command(_print_schema if arguments.command == "schema" else lambda: _check(arguments.scenario))


def _print_schema() -> int:
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return 0


def _check(path: Path) -> int:
    study = load_study(path)
    arms, replications = len(study.arms), study.scenario.replications
    sys.stdout.write(f"{path}: fine; {arms} arms x {replications} replications\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
