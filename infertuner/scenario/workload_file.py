"""The workload of a scenario, written to a file that other tools replay."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from infertuner.errors import ScenarioError
from infertuner.scenario.study import Study
from infertuner.sources.trace_writer import block_tokens_of, mooncake_lines
from infertuner.streams import Streams


def write_workload(study: Study, path: Path, *, replication: int, block_tokens: int) -> tuple[int, int]:
    """Write one replication as Mooncake JSON lines; returns how many requests, and how many tokens a block has.

    The file appears whole or not at all. Raises ScenarioError where the arms of the scenario do not share their
    requests, for a number out of range, or where the file cannot be written.
    """
    for option, number, least in (("--replication", replication, 0), ("--block-tokens", block_tokens, 1)):
        if number < least:
            raise ScenarioError(f"{option}: is {number}, must be {least} or more")
    scenario = study.scenario
    if any((arm.scenario.workload, arm.scenario.seed) != (scenario.workload, scenario.seed) for arm in study.arms):
        raise ScenarioError(
            f"{scenario.name}: its arms have different workloads, and a file holds one; "
            "fix the varied keys with --set KEY=VALUE"
        )
    requests = scenario.workload.sample(Streams(scenario.seed, replication))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(mooncake_lines(requests, block_tokens))
        temporary.replace(path)
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    return len(requests), block_tokens_of(requests, block_tokens)
