"""Every example of the workload page is read and sampled as it stands."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from infertuner.sources.kinds import WorkloadKind
from infertuner.streams import Streams

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "workload.md").read_text(encoding="utf-8")
WORKLOAD = TypeAdapter(WorkloadKind)
EXAMPLES = [yaml.safe_load(example)["workload"] for example in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]


@pytest.fixture
def folder(tmp_path):
    """A scenario's folder with the files that the page speaks of."""
    (tmp_path / "requests.csv").write_text(re.search(r"```csv\n(.*?)```", PAGE, flags=re.DOTALL)[1])
    row = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
    (tmp_path / "mooncake_conversation_trace.jsonl").write_text(json.dumps(row))
    return tmp_path


@pytest.mark.parametrize("written", EXAMPLES, ids=lambda written: written["kind"])
def test_examples_run(written, folder):
    workload = WORKLOAD.validate_python(written, context={"folder": folder})
    requests = workload.sample(Streams(0))
    assert len(requests) == getattr(workload, "requests", 0) or written["kind"] == "trace"
    assert len(requests) > 0


def test_the_page_shows_every_kind_and_names_every_key():
    shown = set(re.findall(r"kind: (\w+)", PAGE)) | set(re.findall(r"^\| `(\w+)`", PAGE, flags=re.MULTILINE))
    for part in WORKLOAD.json_schema()["$defs"].values():
        for key, schema in part["properties"].items():
            assert schema.get("const", "none") in shown, f"no example of kind {schema.get('const')}"
            assert re.search(rf"\b{key}\b", PAGE), f"{key} is not on the page"
            assert key == "kind" or schema.get("description"), f"{key} has no docstring"
