"""The YAML reader: the core schema's types, and none of YAML 1.1's surprises."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infertuner.errors import ScenarioError
from infertuner.scenario import yaml12


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e6", 1e6),
        ("1e3", 1e3),
        ("1.5e-3", 1.5e-3),
        (".5", 0.5),
        ("010", 10),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("12:30", "12:30"),
        ("2026-11-22", "2026-11-22"),
        ("1_000", "1_000"),
        ("0x1F", 31),
        ("0o17", 15),
        ("-.Inf", float("-inf")),
        ("null", None),
        ("~", None),
        ("", None),
        ("-.inf", float("-inf")),
    ],
)
def test_scalars(text, value):
    found = yaml12.read(text, "here")
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merges_work():
    assert yaml12.read("a: &x {b: 1}\nc: {<<: *x, d: 2}", "here") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


def test_a_repeated_key_is_refused_with_its_line():
    with pytest.raises(ScenarioError, match=r"^here:3: not valid YAML: the key 'a' is given twice"):
        yaml12.read("a: 1\nb: 2\na: 3\n", "here")


@pytest.mark.parametrize(
    "text",
    ["a: [1", "a: b: c", "!!python/object:os.system {}", "\x00", "a: *nowhere", "!!int x", "? [a]\n: 1", "[" * 3000],
)
def test_broken_documents_are_one_line(text):
    with pytest.raises(ScenarioError) as caught:
        yaml12.read(text, "here")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("here")


words = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(values)
@example({"0E0": ["1e6", "on", "null", "~", "010", "<<"]})
def test_what_is_written_is_read_again(value):
    assert yaml12.read(yaml12.write(value), "here") == value


def test_lines_are_found():
    text = "a: 1\nb:\n  c: 2\n  d:\n    - x\n    - y\n"
    assert yaml12.line_of(text, ["b", "c"]) == 3
    assert yaml12.line_of(text, ["b", "d", 1]) == 6
    assert yaml12.line_of(text, ["b", "nowhere"]) == 2
    assert yaml12.line_of(text, ["nowhere"]) is None
