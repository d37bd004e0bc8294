"""Which format a trace file has, by its column or field names, where these say it beyond doubt."""

from __future__ import annotations

from pathlib import Path

from infertuner.errors import TraceError
from infertuner.sources.trace_columns import field_names

CSV_COLUMNS = {
    "csv": {"arrived_at_s", "prompt_tokens", "output_tokens"},
    "azure_2023": {"TIMESTAMP", "ContextTokens", "GeneratedTokens"},
    "burstgpt": {"Timestamp", "Request tokens", "Response tokens"},
}
LENGTHS = {"input_length", "output_length"}


def format_of(path: Path) -> str:
    """The `format` of a trace file. Raises TraceError where its fields fit none, or more than one."""
    names = field_names(path)
    for name, columns in CSV_COLUMNS.items():
        if columns <= names:
            return name
    if names >= LENGTHS:
        if "session_id" in names or "delay" in names:
            raise TraceError(
                f"{path}, line 1: session_id or delay: say how its prompts are meant with workload.format, aiperf "
                "(each turn adds to what was said before) or mooncake (each prompt is whole)"
            )
        if "timestamp" in names:
            return "mooncake"
    found = ", ".join(sorted(names)) or "nothing"
    raise TraceError(f"{path}, line 1: no known format has these columns ({found}); name one with workload.format")
