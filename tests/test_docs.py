"""What is written runs: every Python block, YAML block and command of the README and the docs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from infertuner.scenario import yaml12
from infertuner.scenario.study import load_study, study_from
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONG = ("gpu_scaling_1024", "cache_at_scale", "cache_two_level_at_scale", "cache_controllers", "batching_frontier")
"""Scenarios whose documented command runs for minutes; here they run with few requests, once."""


WITH_OWN_TESTS = ("workload", "cache", "calibration")
"""Pages whose blocks are tested beside the files it speaks of, in tests/test_<room>_docs.py or the room's tests."""


def blocks(language):
    found = [
        (page, number, text)
        for page in PAGES
        if page.stem not in WITH_OWN_TESTS
        for number, (kind, text) in enumerate(BLOCK.findall(page.read_text()))
        if kind == language
    ]
    return pytest.mark.parametrize(
        ("page", "text"), [pytest.param(page, text, id=f"{page.stem}-{number}") for page, number, text in found]
    )


def commands():
    lines = [
        (page, line.split("#")[0].strip())
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text())
        if kind == "bash"
        for line in text.splitlines()
        if line.startswith("python -m infertuner.") and "calibrate" not in line  # tests/test_calibrate.py runs it
    ]
    first = {line: page for page, line in reversed(lines)}
    return [pytest.param(line, id=f"{page.stem}-{line[21:60]}") for line, page in first.items()]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout, in which commands may write."""
    for name in ("scenarios", "calibration", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem not in WITH_OWN_TESTS], ids=lambda page: page.stem
)
def test_python_examples(page, checkout):
    namespace: dict[str, object] = {"__name__": "__main__"}
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "python":
            exec(compile(text, str(page), "exec"), namespace)


@blocks("yaml")
def test_yaml_examples(page, text, tiny):
    """A block is a whole scenario, or keys that complete a small one."""
    given = yaml12.read(text, page.name)
    tiny["cluster"]["batcher"] = {"kind": "timeout", "max_batch_size": 4, "timeout_s": 0.1}
    study = study_from(given if "name" in given else tiny | given, ROOT / "scenarios")
    assert study.arms


@pytest.mark.parametrize("line", commands())
def test_commands(line, checkout):
    arguments = [sys.executable, *shlex.split(line)[1:]]
    if "infertuner.simulate" in line:
        arguments += ["--replications", "2"]
        if any(name in line for name in LONG):
            arguments += ["--set", "workload.requests=2000"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_scenario_is_mentioned(path):
    name = path.relative_to(ROOT).as_posix()
    assert any(name in page.read_text() for page in PAGES), f"no page mentions {name}"
    assert load_study(path).scenario.description


def test_the_chinese_readme_shows_the_same_commands():
    english, chinese = (BLOCK.findall((ROOT / name).read_text()) for name in ("README.md", "README.zh-CN.md"))
    assert chinese == english
