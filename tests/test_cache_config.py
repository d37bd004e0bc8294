"""The `cache` section of a scenario: what it accepts, what it refuses and what a lookup costs."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from infertuner.cache.config import Cache, TwoLevel
from infertuner.cache.sizing.frequency import Frequency
from infertuner.cache.sizing.static import Static
from infertuner.records import CacheLevel

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cache.md"
CACHE = TypeAdapter(TwoLevel)
PUBLISHED = {
    "kind": "two_level",
    "sizing": {"kind": "static"},
    "remote_latency_s": "50ms",
    "miss_penalty_s": "1s",
    "saves_prefill": False,
    "fetch_occupies_gpu": True,
}
LINK = {"remote_bandwidth_bytes_per_s": "25GB/s", "kv_bytes_per_token": "128KiB"}


def test_what_is_written_becomes_parts_in_seconds_and_bytes():
    config = CACHE.validate_python(
        {**PUBLISHED, **LINK, "sizing": {"kind": "frequency", "target_hit_ratio": 0.9}, "remote_entries": "10k"}
    )
    assert isinstance(config.sizing, Frequency)
    assert config.sizing.target_hit_ratio == 0.9
    assert config.remote_latency_s == 0.05
    assert config.remote_entries == 10_000
    assert config.remote_bandwidth_bytes_per_s == 25e9
    assert config.kv_bytes_per_token == 128 * 1024


def test_the_published_costs():
    config = CACHE.validate_python(PUBLISHED)
    assert config.fetch_s(CacheLevel.LOCAL, 1000) == 0
    assert config.fetch_s(CacheLevel.REMOTE, 1000) == pytest.approx(0.05)
    assert config.fetch_s(CacheLevel.MISS, 0) == pytest.approx(1.05)
    assert config.fetch_s(CacheLevel.NONE, 0) == 0


def test_a_remote_hit_takes_the_latency_and_the_bytes_over_the_bandwidth():
    config = TwoLevel(
        kind="two_level", sizing=Static(kind="static"), remote_latency_s=0.001,
        remote_bandwidth_bytes_per_s=1e9, kv_bytes_per_token=1e5,
    )  # fmt: skip
    assert config.fetch_s(CacheLevel.REMOTE, 2000) == pytest.approx(0.201)
    assert config.fetch_s(CacheLevel.MISS, 0) == pytest.approx(0.001)


@pytest.mark.parametrize("given", LINK)
def test_bandwidth_and_bytes_per_token_come_together(given):
    with pytest.raises(ValidationError, match="must be given together"):
        CACHE.validate_python({**PUBLISHED, given: LINK[given]})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"sizing": {"kind": "static", "entries": 0}}, "entries"),
        ({"sizing": {"kind": "lavish"}}, "sizing"),
        ({"remote_entries": -1}, "remote_entries"),
        ({"remote_latency_s": -1}, "remote_latency_s"),
        ({"remote_entires": 5}, "remote_entires"),
    ],
)
def test_bad_values_and_unknown_keys_are_refused(change, key):
    with pytest.raises(ValidationError, match=key):
        CACHE.validate_python({**PUBLISHED, **change})


def test_every_key_is_documented_in_the_schema():
    schema = CACHE.json_schema()
    sections = [schema, *schema["$defs"].values()]
    undocumented = [key for s in sections for key, field in s["properties"].items() if not field.get("description")]
    assert undocumented == []


def test_the_examples_of_the_page_work():
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert examples
    for example in examples:
        TypeAdapter(Cache).validate_python(yaml.safe_load(example)["cache"])
    results = doctest.testfile(str(PAGE), module_relative=False)
    assert (results.failed, results.attempted > 0) == (0, True)
