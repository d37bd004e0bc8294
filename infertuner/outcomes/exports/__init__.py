"""Results of a simulated run in the formats of tools that measure real ones; docs/formats.md has the definitions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from infertuner.outcomes.exports.aiperf import aiperf_records, aiperf_summary
from infertuner.outcomes.exports.client import About, Client
from infertuner.outcomes.exports.llmd import llmd_report
from infertuner.outcomes.exports.vllm import vllm_result
from infertuner.outcomes.folder import RunFolder

EXPORTS = ("vllm", "aiperf", "llmd")
"""The tools that can be asked for."""


def write_exports(folder: RunFolder, under: str, tools: Sequence[str], client: Client, about: About) -> None:
    """Write one run for each of `tools` into the subfolder `under`."""
    now = datetime.now(UTC)
    if "vllm" in tools:
        folder.write_text(f"{under}/vllm_bench_serve.json", _line(vllm_result(client, about, now)))
    if "aiperf" in tools:
        folder.write_json(f"{under}/aiperf/profile_export_aiperf.json", aiperf_summary(client, about))
        with folder.file(f"{under}/aiperf/profile_export.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(_lines(aiperf_records(client)))
    if "llmd" in tools:
        folder.write_json(f"{under}/llmd_benchmark_report.json", llmd_report(client, about, now))


def _lines(records: Iterator[dict[str, Any]]) -> Iterator[str]:
    return map(_line, records)


def _line(value: dict[str, Any]) -> str:
    """One line of JSON, as the tools write what is long."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
