"""The run folder appears whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from infertuner.errors import ResultsError
from infertuner.outcomes.folder import RunFolder, flatten, to_json
from infertuner.outcomes.statistics import Interval


def everything_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_folder_is_moved_into_place(tmp_path):
    with RunFolder(tmp_path / "deep" / "run") as folder:
        folder.write_text("a.txt", "hello")
        folder.write_json("b.json", {"x": Interval(1.0, None, None, 1)})
        folder.append("c.parquet", pd.DataFrame({"x": [1, 2]}))
        folder.append("c.parquet", pd.DataFrame({"x": [3]}))
        assert not folder.path.exists()
    assert everything_in(tmp_path / "deep") == ["run"]
    assert everything_in(folder.path) == ["a.txt", "b.json", "c.parquet"]
    assert json.loads((folder.path / "b.json").read_text())["x"]["mean"] == 1.0
    assert pd.read_parquet(folder.path / "c.parquet").x.tolist() == [1, 2, 3]


def test_a_failure_leaves_no_trace(tmp_path):
    def fail():
        with RunFolder(tmp_path / "run") as folder:
            folder.write_text("a.txt", "hello")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert everything_in(tmp_path) == []


@pytest.fixture
def old_results(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.write_text("a.txt", "old")
        folder.write_json("summary.json", {})
        folder.write_json("provenance.json", {})


@pytest.mark.usefixtures("old_results")
def test_results_are_not_replaced_unasked(tmp_path):
    with pytest.raises(ResultsError, match=r"exists already.*--overwrite"), RunFolder(tmp_path / "run"):
        pass
    with RunFolder(tmp_path / "run", overwrite=True) as folder:
        folder.write_text("b.txt", "new")
    assert everything_in(tmp_path) == ["run"]
    assert everything_in(tmp_path / "run") == ["b.txt"]


@pytest.mark.usefixtures("old_results")
def test_a_failed_replacement_keeps_the_old_results(tmp_path):
    def fail():
        with RunFolder(tmp_path / "run", overwrite=True):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert (tmp_path / "run" / "a.txt").read_text() == "old"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match="cannot be written"), RunFolder(tmp_path / "file" / "run"):
        pass


@pytest.mark.usefixtures("old_results")
def test_when_the_new_folder_cannot_move_in_the_old_one_comes_back(tmp_path, monkeypatch):
    rename = Path.rename

    def full_disk(path, target):
        if path.name.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(ResultsError, match="No space left"), RunFolder(tmp_path / "run", overwrite=True) as folder:
        folder.write_text("b.txt", "new")
    assert everything_in(tmp_path) == ["run"]
    assert (tmp_path / "run" / "a.txt").read_text() == "old"


@pytest.mark.usefixtures("old_results")
def test_a_folder_may_be_named_by_a_detour(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "run")
    with RunFolder(Path("../run"), overwrite=True) as folder:
        folder.write_text("b.txt", "new")
    assert everything_in(tmp_path) == ["run"]
    assert everything_in(tmp_path / "run") == ["b.txt"]


@pytest.mark.parametrize("kind", ["thesis", "file", "link", "dangling"])
def test_only_results_are_ever_replaced(tmp_path, kind):
    target = tmp_path / "target"
    if kind == "thesis":
        target.mkdir()
        (target / "thesis.tex").write_text("years of work")
    elif kind == "file":
        target.write_text("a file")
    else:
        target.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")
    before = everything_in(tmp_path)
    with pytest.raises(ResultsError, match="no folder of results"), RunFolder(target, overwrite=True):
        pass
    assert everything_in(tmp_path) == before


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path):
    def run():
        with RunFolder(tmp_path / "run") as folder:
            folder.write_text("a.txt", "new")
            folder.path.mkdir()
            (folder.path / "precious.txt").write_text("somebody else's")

    with pytest.raises(ResultsError):
        run()
    assert everything_in(tmp_path / "run") == ["precious.txt"]
    assert everything_in(tmp_path) == ["run"]


def test_parents_made_for_a_failed_run_are_taken_away_again(tmp_path):
    def fail():
        with RunFolder(tmp_path / "new" / "deep" / "run"):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert everything_in(tmp_path) == []


def test_intervals_flatten_to_columns_at_the_end():
    row = {"a": Interval(1.0, 0.5, 1.5, 3), "b": "text", "c": 2}
    assert flatten(row) == {"a": 1.0, "b": "text", "c": 2, "a_ci_low": 0.5, "a_ci_high": 1.5}


def test_json_refuses_nan():
    with pytest.raises(ValueError, match="Out of range"):
        to_json({"x": float("nan")})
