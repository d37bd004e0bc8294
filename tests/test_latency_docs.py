"""Every example of the calibration page is read and answers as it stands; every command there is one."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from pydantic import TypeAdapter

from infertuner import calibrate
from infertuner.latency.kinds import Latency
from infertuner.latency.models import MODELS
from infertuner.streams import Streams
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "calibration.md").read_text(encoding="utf-8")
MEASURING = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8")
LATENCY = TypeAdapter(Latency)
EXAMPLES = [yaml.safe_load(example)["latency"] for example in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]
FILES = re.findall(r"```csv (\S+)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """A scenario's folder with the files that the page speaks of."""
    (tmp_path / "calibration").symlink_to(ROOT / "calibration")
    for name, content in FILES:
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize("written", EXAMPLES, ids=lambda written: written["kind"])
def test_examples_answer(written, folder):
    model = LATENCY.validate_python(written, context={"folder": folder}).model(Streams(0))
    prefill_s = model.prefill_s(batch_size=1, new_tokens=100, cached_tokens=0)
    assert prefill_s > 0
    assert model.decode_s(batch_size=1, context_tokens=101, steps=10) >= 0


def test_the_page_shows_every_kind_and_names_every_key():
    for part in LATENCY.json_schema()["$defs"].values():
        assert f"kind: {part['properties']['kind']['const']}\n" in PAGE
        for key, schema in part["properties"].items():
            assert re.search(rf"\b{key}\b", PAGE), f"{key} is not on the page"
            assert key == "kind" or schema.get("description"), f"{key} has no docstring"


def test_the_measuring_page_names_every_option_and_model():
    options = re.findall(r"(?m)^\s+(--[a-z-]+)", calibrate._parser().format_help())
    for name in [*options, *MODELS]:
        assert f"`{name}`" in MEASURING, f"{name} is not on the page"


def test_commands_parse():
    pages = PAGE + MEASURING + calibrate.EXAMPLE
    commands = re.findall(r"^ +python -m infertuner\.calibrate (.*)$", pages, flags=re.MULTILINE)
    assert len(commands) >= 6
    for line in commands:
        assert calibrate._parser().parse_args(shlex.split(line)).model in {None, *MODELS}
