"""Provenance: complete, private, and never in the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from infertuner import __version__
from infertuner.provenance import PACKAGES, collect, git_state, sha256_of

ROOT = Path(__file__).resolve().parents[1]
UNKNOWN = {"git_commit": None, "git_dirty": None}
KEYS = {
    "infertuner_version", "git_commit", "git_dirty", "created_at", "command",
    "python", "platform", "cpu", "cores", "packages",
}  # fmt: skip


def test_says_what_made_the_result():
    found = collect(["infertuner.simulate", "scenarios/cache.yaml", "--set", "a.b=c d"])
    assert set(found) == KEYS
    assert found["infertuner_version"] == __version__
    assert found["command"] == "infertuner.simulate scenarios/cache.yaml --set 'a.b=c d'"
    assert set(PACKAGES) <= set(found["packages"])
    assert datetime.fromisoformat(found["created_at"]).utcoffset() == timedelta(0)
    assert json.loads(json.dumps(found)) == found


def test_dictionary_lists_every_key():
    section = (ROOT / "results" / "README.md").read_text(encoding="utf-8").split("## provenance.json")[1]
    assert all(f"| `{key}` |" in section for key in KEYS)


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("/home/someone/scenarios/cache.yaml", "cache.yaml"),
        ("--out=/home/someone/my results", "--out='my results'"),
        (
            "sources={kind: trace, path: /home/someone/a.csv, speed: 2}",
            "'sources={kind: trace, path: a.csv, speed: 2}'",
        ),
        ("arrivals_per_s=90/min", "arrivals_per_s=90/min"),
        ("../shared/trace.csv", "../shared/trace.csv"),
        ("https://example.org/a/b.json", "https://example.org/a/b.json"),
    ],
)
def test_absolute_paths_stay_home(argument, shown):
    command = collect([argument])["command"]
    assert command.replace("'", "") == shown.replace("'", "")


def test_paths_within_the_working_directory_become_relative(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert collect([str(here / "scenarios" / "cache.yaml")])["command"] == "scenarios/cache.yaml"
    assert str(here) not in json.dumps(collect([f"--out={here}/x"]))


def test_torch_counts_only_when_it_was_used(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert "torch" not in collect([])["packages"]
    assert "torch" not in sys.modules


def test_no_checkout_no_commit(tmp_path):
    assert git_state(tmp_path) == UNKNOWN


def test_no_git_no_failure(monkeypatch, tmp_path):
    (tmp_path / ".git").mkdir()
    assert git_state(tmp_path) == UNKNOWN
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) == UNKNOWN


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_and_dirty_flag(tmp_path):
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    tracked = tmp_path / "tracked"
    tracked.write_text("one")
    git("init", "--quiet")
    git("add", "tracked")
    git("commit", "--quiet", "-m", "first")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    assert git_state(tmp_path) == {"git_commit": commit, "git_dirty": False}
    (tmp_path / "untracked").write_text("two")
    assert git_state(tmp_path) == {"git_commit": commit, "git_dirty": False}
    tracked.write_text("three")
    assert git_state(tmp_path) == {"git_commit": commit, "git_dirty": True}


def test_sha256(tmp_path):
    """The test vector of FIPS 180-2, appendix B.1."""
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
