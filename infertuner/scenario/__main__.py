"""`python -m infertuner.scenario schema|keys|check|trace`: help for people who write scenarios, or share workloads."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from infertuner.commands import run_command
from infertuner.scenario.overrides import parse_setting
from infertuner.scenario.study import json_schema, load_study
from infertuner.scenario.workload_file import write_workload


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when done and 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m infertuner.scenario", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON Schema of the scenario language, for editors")
    commands.add_parser("keys", help="list every key with its description")
    check = commands.add_parser("check", help="say whether a scenario is well-formed and which arms it has")
    check.add_argument("scenario", type=Path, metavar="SCENARIO.yaml")
    trace = commands.add_parser(
        "trace", help="write the workload as Mooncake JSON lines, which AIPerf and vllm bench serve replay"
    )
    trace.add_argument("scenario", type=Path, metavar="SCENARIO.yaml")
    trace.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key (repeatable)")
    trace.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .jsonl file to write")
    trace.add_argument("--replication", type=int, default=0, metavar="N", help="whose random numbers to use (0)")
    trace.add_argument(
        "--block-tokens",
        type=int,
        default=512,
        metavar="N",
        help="tokens a hash, where the workload has no blocks (512)",
    )
    arguments = parser.parse_args(argv)
    return run_command(lambda: _print(_lines(arguments)))


def _lines(arguments: argparse.Namespace) -> Iterable[str]:
    if arguments.command == "check":
        return [_check(arguments.scenario)]
    if arguments.command == "trace":
        return [_trace(arguments)]
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


def _trace(arguments: argparse.Namespace) -> str:
    study = load_study(arguments.scenario, dict(map(parse_setting, arguments.set)))
    requests, block_tokens = write_workload(
        study, arguments.out, replication=arguments.replication, block_tokens=arguments.block_tokens
    )
    return f"{arguments.out}: {requests:,} requests, {block_tokens} tokens a block, timestamps in ms"


if __name__ == "__main__":
    sys.exit(main())
