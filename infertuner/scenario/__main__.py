"""`python -m infertuner.scenario schema|keys|check`: help for people who write scenarios."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from infertuner.commands import run_command
from infertuner.scenario.study import json_schema, load_study


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when done and 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m infertuner.scenario", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON Schema of the scenario language, for editors")
    commands.add_parser("keys", help="list every key with its description")
    check = commands.add_parser("check", help="say whether a scenario is well-formed and which arms it has")
    check.add_argument("scenario", type=Path, metavar="SCENARIO.yaml")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _print(_lines(arguments)))


def _lines(arguments: argparse.Namespace) -> Iterable[str]:
    if arguments.command == "check":
        return [_check(arguments.scenario)]
    return _keys(json_schema()) if arguments.command == "keys" else [json.dumps(json_schema(), indent=2)]


def _print(lines: Iterable[str]) -> int:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _keys(schema: dict[str, Any]) -> Iterator[str]:
    """Every part with its keys: defaults where there are any, and the description."""
    for name, part in {"Scenario": schema, **schema["$defs"]}.items():
        kind = part["properties"].get("kind", {}).get("const")
        yield f"{name}, kind: {kind}" if kind else name
        for key, described in part["properties"].items():
            if key != "kind":
                default = f" (default {json.dumps(described['default'])})" if "default" in described else ""
                yield f"  {key}{default}: {described.get('description', '')}"


def _check(path: Path) -> str:
    study = load_study(path)
    return f"{path}: fine; {len(study.arms)} arms x {study.scenario.replications} replications"


if __name__ == "__main__":
    sys.exit(main())
