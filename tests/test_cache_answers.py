"""The page of answers holds the tables that its command gives; those that take replays are left to the command."""

import importlib.util

import pytest

from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("cache_answers", ROOT / "benchmarks" / "cache_answers.py")
assert SPEC is not None
assert SPEC.loader is not None
answers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(answers)
PAGE = answers.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [answers.break_even, answers.worth_loading, answers.other_models])
def test_the_page_has_the_tables(table):
    assert table() in PAGE


def test_the_page_has_the_sizes():
    for table in answers.sizes().values():
        assert table in PAGE


def test_the_page_says_what_is_said_beside_its_command():
    said = (ROOT / "benchmarks" / "cache_answers.md").read_text(encoding="utf-8")
    for paragraph in said.split("\n\n"):
        assert "{" in paragraph or paragraph.strip() in PAGE
