"""From YAML to arms: overrides, domains, and the line a person reads when something is wrong."""

from __future__ import annotations

import copy

import jsonschema
import pytest

from infertuner.errors import ProfileError, ScenarioError
from infertuner.scenario import yaml12
from infertuner.scenario.overrides import parse_setting, with_overrides
from infertuner.scenario.study import json_schema, load_study, study_from
from tests.conftest import ROOT


def changed(tiny, key, value):
    return with_overrides(tiny, {key: value})


def complaint(raw) -> str:
    with pytest.raises(ScenarioError) as caught:
        study_from(raw)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_complete_scenario_is_typed(tiny):
    scenario = study_from(changed(tiny, "cluster.startup_s", "50ms")).scenario
    assert scenario.cluster.startup_s == pytest.approx(0.05)
    assert scenario.workload.requests == 20
    assert scenario.latency.base_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("workload.request", 5, ["workload.request: unknown key for kind 'synthetic'", "did you mean 'requests'?"]),
        ("cluster.gpu", 5, ["cluster.gpu: unknown key", "'gpus'"]),
        ("cluster.gpus", 0, ["cluster.gpus: must be at least 1", "got 0"]),
        ("cluster.gpus", "many", ["cluster.gpus: must be a whole number", "got 'many'"]),
        ("cluster.gpus", True, ["cluster.gpus", "got True"]),
        ("cluster.gpus", 1.5, ["cluster.gpus", "whole number", "got 1.5"]),
        ("cluster.startup_s", "5 parsecs", ["cluster.startup_s: must be a duration", "ms", "got '5 parsecs'"]),
        ("cluster.router", {"kind": "round_robbin"}, ["cluster.router.kind: 'round_robbin'", "'round_robin'?"]),
        ("cluster.router", {}, ["cluster.router: must have the key 'kind'"]),
        ("cluster.router", "round_robin", ["cluster.router", "got 'round_robin'"]),
        ("cluster.batcher", {"kind": "fixed"}, ["cluster.batcher.max_batch_size: missing for kind 'fixed'"]),
        ("experiment", "cash", ["experiment: must be", "'cache'", "got 'cash'"]),
        ("seed", -1, ["seed: must be at least 0", "got -1"]),
        ("seed", "1e-3", ["seed", "whole number"]),
        ("latency", {"kind": "profile", "path": "nowhere.json"}, ["latency.path", "there is no file", "nowhere.json"]),
        ("workload.output_tokens.max_tokens", 0, ["workload.output_tokens", "max_tokens is 0", "at least min_tokens"]),
        ("sweep", {"cluster.gpus": []}, ["sweep.cluster.gpus", "at least one value"]),
        ("sweep", {"cluster.gpus": {"range": {"min": 4, "max": 1, "step": 1}}}, ["sweep.cluster.gpus.range", "max"]),
        ("sweep", {"cluster.gpus": {"chioces": [1]}}, ["sweep.cluster.gpus.chioces: unknown key", "'choices'"]),
        ("sweep", {"cluster.gpus.more": [1]}, ["cluster.gpus.more", "no keys of its own"]),
        ("arms", {"cluster.gpus": 1}, ["arms: must be a list"]),
        ("name", "No Spaces", ["name", "'No Spaces'"]),
    ],
)
def test_complaints_name_key_value_and_next_step(tiny, key, value, words):
    message = complaint(changed(tiny, key, value))
    for word in words:
        assert word in message, message


def test_every_required_key_is_named_when_missing(tiny):
    for key in ("name", "workload", "cluster", "latency"):
        raw = copy.deepcopy(tiny)
        del raw[key]
        assert f"{key}: missing" in complaint(raw)


def test_a_file_complaint_has_the_line(tiny, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(yaml12.write(changed(tiny, "cluster.startup_s", "never")))
    with pytest.raises(ScenarioError) as caught:
        load_study(path)
    line = path.read_text().splitlines().index("  startup_s: never") + 1
    assert str(caught.value).startswith(f"{path}:{line}: cluster.startup_s: must be a duration")


@pytest.mark.parametrize("content", [None, "", "- a list", "just text", b"\xff\xfe"])
def test_files_that_are_no_scenario(tmp_path, content):
    path = tmp_path / "scenario.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ScenarioError) as caught:
        load_study(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sweeps_are_grids_of_every_variant(tiny):
    tiny["arms"] = [{"cluster.gpus": 1}, {"cluster.gpus": 3}]
    tiny["sweep"] = {
        "workload.requests": {"range": {"min": 5, "max": 15, "step": 5}},
        "latency.base_s": {"log_range": {"min": 0.01, "max": 1, "count": 3}},
        "cluster.batcher": [{"kind": "none"}, {"kind": "fixed", "max_batch_size": 2}],
    }
    arms = study_from(tiny).arms
    assert len(arms) == 2 * 3 * 3 * 2
    assert [arm.parameters["workload.requests"] for arm in arms[::6]] == [5, 10, 15, 5, 10, 15]
    assert [arm.scenario.latency.base_s for arm in arms[:6:2]] == pytest.approx([0.01, 0.1, 1])
    assert arms[-1].scenario.cluster.batcher.max_batch_size == 2
    assert arms[-1].scenario.cluster.gpus == 3


def test_settings_are_yaml():
    assert parse_setting("a.b=1e3") == ("a.b", 1000.0)
    assert parse_setting("cluster.router={kind: round_robin}") == ("cluster.router", {"kind": "round_robin"})
    with pytest.raises(ScenarioError, match="KEY=VALUE"):
        parse_setting("nonsense")


def test_a_setting_ends_the_variation_of_its_key(tiny, tmp_path):
    tiny["sweep"] = {"cluster.gpus": [1, 2], "workload.requests": [5, 6]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    arms = load_study(path, {"cluster.gpus": 7}).arms
    assert [(arm.scenario.cluster.gpus, arm.scenario.workload.requests) for arm in arms] == [(7, 5), (7, 6)]
    arms = load_study(path, {"sweep": {"cluster.gpus": [3]}}).arms
    assert [arm.scenario.cluster.gpus for arm in arms] == [3]


def test_a_setting_that_would_be_lost_is_refused(tiny, tmp_path):
    tiny["sweep"] = {"cluster.router": [{"kind": "round_robin"}]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    with pytest.raises(
        ScenarioError, match=r"cluster\.router\.kind: has no effect.*replaces cluster\.router as a whole"
    ):
        load_study(path, {"cluster.router.kind": "session_affinity"})


def test_overrides_leave_the_original_alone(tiny):
    before = copy.deepcopy(tiny)
    assert with_overrides(tiny, {"cluster.gpus": 7})["cluster"]["gpus"] == 7
    assert tiny == before


def test_the_schema_knows_every_key_and_documents_it():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, part in {"Scenario": schema, **schema["$defs"]}.items():
        for key, described in part.get("properties", {}).items():
            assert key == "kind" or "description" in described or "$ref" in described, (
                f"{name}.{key} has no description"
            )


def test_the_shipped_schema_is_current(repository):
    shipped = yaml12.read((repository / "scenarios" / "scenario.schema.json").read_text(), "schema")
    assert shipped == json_schema(), "run `make schema`"


def scenario_files():
    return sorted((ROOT / "scenarios").rglob("*.yaml"))


@pytest.mark.parametrize("path", scenario_files(), ids=lambda path: path.stem)
def test_shipped_scenarios_are_valid_and_carry_the_modeline(path):
    study = load_study(path)
    text = path.read_text()
    depth = len(path.relative_to(path.parents[1] if path.parent.name == "scenarios" else path.parents[2]).parts) - 2
    assert text.startswith(f"# yaml-language-server: $schema={'../' * depth or './'}scenario.schema.json\n")
    jsonschema.validate(study.raw, json_schema())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sweep", {"replications": [1, 5]}, ["sweep.replications: belongs to all arms"]),
        ("arms", [{"face": "published"}], ["arms.face: belongs to all arms"]),
        ("sweep", False, ["sweep"]),
        ("arms", 0, ["arms: must be a list"]),
        ("arms", [], ["arms: must be a list"]),
        ("workload.requests", 10**15, ["workload.requests: must be at most 1e+09"]),
        ("seed", 10**400, ["seed", "finite"]),
        ("cluster.batcher", {"kind": [1]}, ["cluster.batcher"]),
        ("cluster.startup_s", "x" * 10_000, ["cluster.startup_s", "..."]),
    ],
)
def test_what_cannot_vary_or_be_is_refused(tiny, key, value, words):
    message = complaint(changed(tiny, key, value))
    assert len(message) < 400
    for word in words:
        assert word in message, message


def test_a_setting_is_blamed_for_what_it_says(tiny, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    with pytest.raises(ScenarioError, match=r"^--set cluster\.gpus: cluster\.gpus: must be at least 1, got -3"):
        load_study(path, {"cluster.gpus": -3})


def test_setting_a_whole_part_ends_the_variation_inside_it(tiny, tmp_path):
    tiny["sweep"] = {"cluster.gpus": [1, 2]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    arms = load_study(path, {"cluster": tiny["cluster"] | {"gpus": 8}}).arms
    assert [arm.scenario.cluster.gpus for arm in arms] == [8]


def test_ranges_are_numbers_as_people_write_them(tiny):
    tiny["sweep"] = {"workload.arrivals.per_s": {"range": {"min": 0.1, "max": 0.5, "step": 0.1}}}
    arms = study_from(tiny).arms
    assert [arm.parameters["workload.arrivals.per_s"] for arm in arms] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_broken_profile_is_found_by_the_check(tiny, tmp_path):
    (tmp_path / "broken.json").write_text('{"schema": ')
    tiny["latency"] = {"kind": "profile", "path": "broken.json"}
    with pytest.raises(ProfileError, match=r"broken\.json"):
        study_from(tiny, tmp_path)


@pytest.mark.parametrize(
    ("arms", "sweep"),
    [
        ([{"cluster.gpus": 1}], {"cluster.gpus": [5]}),
        (None, {"cluster.gpus": [1, 2], "cluster": [{"gpus": 1}]}),
        ([{"cluster.router": {"kind": "round_robin"}, "cluster.router.kind": "round_robin"}], None),
    ],
)
def test_a_key_is_varied_once(tiny, arms, sweep):
    assert "is varied twice" in complaint(tiny | {"arms": arms, "sweep": sweep})


def test_arms_that_a_setting_makes_equal_are_one(tiny, tmp_path):
    tiny["arms"] = [{"cluster.gpus": 1}, {"cluster.gpus": 2}]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    assert [arm.scenario.cluster.gpus for arm in load_study(path, {"cluster.gpus": 4}).arms] == [4]


def test_a_varied_value_is_not_blamed_on_the_line_of_the_base(tiny, tmp_path):
    tiny["sweep"] = {"cluster.gpus": [1, 0]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    with pytest.raises(ScenarioError, match=r"tiny\.yaml: in arms or sweep: cluster\.gpus: must be at least 1, got 0"):
        load_study(path)


def test_a_set_kind_is_blamed_for_the_keys_it_lacks(tiny, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml12.write(tiny))
    with pytest.raises(ScenarioError, match=r"^--set cluster\.batcher\.kind: cluster\.batcher\.\w+: missing"):
        load_study(path, {"cluster.batcher.kind": "timeout"})


@pytest.mark.parametrize(
    ("tiers", "name"),
    [
        ({"gpu": {"capacity_entries": 5}, "drma": {"capacity_entries": 5}}, "drma"),
        (
            {
                "a": {"capacity_entries": 1},
                "b": {"capacity_entries": 1, "read_bytes_per_s": "1GB/s"},
                "c": {"capacity_entries": 1},
            },
            "c",
        ),
    ],
)
def test_a_slower_tier_without_a_bandwidth_is_forgotten_or_mistyped(tiny, tiers, name):
    tiny["cache"] = {"kind": "tiered", "tiers": tiers}
    with pytest.raises(ScenarioError, match=rf"cache.tiers.{name}.read_bytes_per_s: is missing"):
        study_from(tiny)
