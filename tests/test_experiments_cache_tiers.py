"""Caches of many tiers as an experiment: what it says must agree with the oracles and with itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from infertuner.errors import ScenarioError
from infertuner.experiments.oracles import oracles_of
from infertuner.experiments.report import figure, figure_over_time, print_result, table
from infertuner.experiments.runs import run_arm, run_study
from infertuner.outcomes.figures import save
from infertuner.scenario import yaml12
from infertuner.scenario.study import load_study, study_from
from infertuner.simulate import main
from infertuner.streams import Streams
from tests.conftest import ROOT

PER_TOKEN_S = 0.001
TIERS = {
    "gpu": {"capacity_bytes": 20_000},
    "dram": {"capacity_bytes": 100_000, "read_bytes_per_s": 1e6, "latency_s": 0.002, "price_per_gb_hour": 3.0},
}


def scenario(**changes: Any) -> dict[str, Any]:
    """600 requests of 80 users in conversations, ten bytes a token, a millisecond of prefill a token."""
    return {
        "name": "tiers",
        "experiment": "cache_tiers",
        "driver": "replay",
        "replications": 3,
        "workload": {
            "kind": "synthetic",
            "requests": 600,
            "arrivals": {"kind": "diurnal", "per_s": 2, "amplitude_ratio": 0.7, "period_s": 200},
            "prompt_tokens": {"kind": "uniform", "min_tokens": 20, "max_tokens": 90},
            "output_tokens": {"kind": "uniform", "min_tokens": 5, "max_tokens": 50},
            "sessions": {"kind": "zipf", "users": 80, "exponent": 0.8},
            "conversations": {"mean_turns": 6, "max_context_tokens": 1500},
        },
        "cluster": {"gpus": 1, "router": {"kind": "round_robin"}, "batcher": {"kind": "none"}},
        "latency": {"kind": "per_token", "per_prompt_token_s": PER_TOKEN_S, "per_output_token_s": 0.01},
        "cache": {"kind": "tiered", "kv_bytes_per_token": 10, "tiers": TIERS, "load": "always"},
    } | changes


def metrics_of(**changes: Any) -> list[dict[str, Any]]:
    return [each[0] for each in run_study(study_from(scenario(replications=1, **changes))).metrics]


@pytest.fixture(scope="module")
def policies():
    sweep = {
        "cache.tiers.dram.eviction": ["lru", "fifo", "lfu", "sieve", "s3fifo", "arc", "wtinylfu"],
        "cache.tiers.dram.capacity_bytes": [60_000, 200_000, 10**9],
    }
    return run_study(study_from(scenario(sweep=sweep)))


def test_one_lru_tier_hits_exactly_what_stack_distances_say():
    for capacity in (15_000, 40_000, 200_000):  # none smaller than the largest entry
        (found,) = metrics_of(
            cache={"kind": "tiered", "kv_bytes_per_token": 10, "tiers": {"dram": {"capacity_bytes": capacity}}}
        )
        assert found["hit_ratio"] == found["lru_hit_ratio"] > 0


def test_no_policy_exceeds_the_ceiling_and_room_for_everything_attains_it(policies):
    found = table(policies)
    assert (found.hit_ratio <= found.ceiling_hit_ratio).all()
    assert (found.belady_hit_ratio <= found.ceiling_hit_ratio + 1e-12).all()
    largest = found[found.dram_capacity_mean == 10**9]
    assert len(largest) == 7
    assert largest.attained_ratio.tolist() == pytest.approx([1.0] * 7)
    assert largest.token_hit_ratio.tolist() == pytest.approx(largest.ceiling_token_hit_ratio.tolist())
    assert (largest.verdict == "the same as LRU of this size").all()


def test_arms_of_a_replication_see_the_same_requests(policies):
    for replication in range(3):
        assert len({each[replication]["ceiling_hit_ratio"] for each in policies.metrics}) == 1
        assert len({each[replication]["cold_misses"] for each in policies.metrics}) == 1


def test_misses_are_cold_or_for_want_of_room_and_tiers_add_up(policies):
    for metrics in (each[0] for each in policies.metrics):
        assert metrics["cold_misses"] + metrics["capacity_misses"] == pytest.approx(600 * (1 - metrics["hit_ratio"]))
        assert metrics["gpu_hit_ratio"] + metrics["dram_hit_ratio"] == pytest.approx(metrics["hit_ratio"])
        assert metrics["found_ratio"] == metrics["hit_ratio"]


def test_fixed_arms_are_told_apart_from_lru_or_not(policies):
    found = table(policies).set_index(["eviction", "capacity_bytes"])
    assert found.verdict[("lru", 200_000)] == "the same as LRU of this size"
    for _, row in found.iterrows():
        if row.verdict == "fewer than LRU of this size":
            assert row.gain_over_lru_ratio_ci_high < 0
        if row.verdict == "more than LRU of this size":
            assert row.gain_over_lru_ratio_ci_low > 0


def test_time_saved_is_the_law_of_the_tokens_given():
    study = study_from(scenario())
    records = run_arm(study.arms[0])
    given = np.asarray(records.requests.cached_tokens)
    (metrics,) = metrics_of()
    assert metrics["saved_gpu_hours"] * 3600 == pytest.approx(given.sum() * PER_TOKEN_S)
    total_s = records.asked.prompt_tokens.sum() * PER_TOKEN_S
    assert (metrics["prefill_gpu_hours"] + metrics["saved_gpu_hours"]) * 3600 == pytest.approx(total_s)
    tier = np.asarray(records.requests.cache_tier)
    fetch_s = np.where(tier == 1, 0.002 + given * 10 / 1e6, 0.0)
    rest_s = (records.asked.prompt_tokens - given) * PER_TOKEN_S
    assert metrics["unqueued_ttft_mean_s"] == pytest.approx((fetch_s + rest_s).mean())


def test_a_link_slower_than_the_prefill_is_not_used_unless_told_to():
    slow = {"kind": "tiered", "kv_bytes_per_token": 10, "tiers": {"dram": {"capacity_bytes": 10**9}}}
    slow["tiers"]["dram"] |= {"read_bytes_per_s": 5_000}  # 2 ms a token, twice the prefill
    wise, foolish = (metrics_of(cache=slow | {"load": load})[0] for load in ("faster", "always"))
    assert wise["token_hit_ratio"] == wise["saved_gpu_hours"] == 0
    assert wise["recomputed_token_ratio"] == 1
    assert wise["hit_ratio"] == foolish["hit_ratio"] > 0
    assert foolish["unqueued_ttft_mean_s"] > wise["unqueued_ttft_mean_s"]


def test_memory_is_paid_for_while_it_is_there():
    (metrics,) = metrics_of()
    ended_at_s = run_arm(study_from(scenario()).arms[0]).ended_at_s
    hours = 100_000 / 1e9 * ended_at_s / 3600
    assert metrics["dram_capacity_gb_hours"] == pytest.approx(hours)
    assert metrics["cost"] == pytest.approx(3.0 * hours)
    assert metrics["cost_per_saved_gpu_hour"] == pytest.approx(metrics["cost"] / metrics["saved_gpu_hours"])
    assert metrics["capacity_gb_hours"] == pytest.approx(1.2 * hours)


def test_controllers_move_the_tier_and_are_judged_at_their_own_mean_size():
    cache = {"kind": "tiered", "kv_bytes_per_token": 10, "tiers": {"dram": {"capacity_entries": 10}}}
    controller = {"kind": "miss_ratio_curve", "target_hit_ratio": 0.5, "window_requests": 500}
    arms = [{}, {"cache.tiers.dram.sizing": {"every_s": 10, "controller": controller}}]
    result = run_study(study_from(scenario(cache=cache, arms=arms)))
    static, elastic = (each[0] for each in result.metrics)
    assert static["capacity_mean"] == 10
    assert static["belady_hit_ratio"] >= static["hit_ratio"]
    assert elastic["resizes"] > 0
    assert elastic["belady_hit_ratio"] is None, "the best cache of a fixed size bounds none that grows"
    assert elastic["infeasible_ratio"] is not None
    assert figure_over_time(result) is not None


def test_one_elastic_arm_has_a_figure_without_a_legend(tmp_path):
    sizing = {"every_s": 10, "controller": {"kind": "target_hit", "target_hit_ratio": 0.5}}
    cache = {"kind": "tiered", "kv_bytes_per_token": 10, "tiers": {"dram": {"capacity_entries": 10, "sizing": sizing}}}
    save(figure_over_time(run_study(study_from(scenario(cache=cache, replications=1)))), tmp_path / "over_time.png")


def test_nothing_finds_more_blocks_than_the_best_of_all_policies(tmp_path):
    """Not even where a request has more blocks than there is room for, of which only the first can be found again."""
    raw = yaml12.read((ROOT / "scenarios" / "cache_block_trace.yaml").read_text(encoding="utf-8"), "trace")
    names = ["lru", "fifo", "lfu", "sieve", "s3fifo", "arc", "wtinylfu", "belady"]
    raw["sweep"] = {"cache.tiers.dram.eviction": names, "cache.tiers.dram.capacity_entries": [1, 2, 5, 20, 50]}
    for (found,) in run_study(study_from(raw, ROOT / "scenarios")).metrics:
        assert 0 < found["hit_ratio"] <= found["belady_hit_ratio"] <= found["ceiling_hit_ratio"]


@pytest.mark.parametrize(
    ("write", "eviction", "entries"),
    [("through", "lru", 30), ("through", "lfu", 40), ("selective", "lru", 40), ("back", "lru", 40)],
)
def test_tiers_that_need_not_hold_the_same_are_judged_by_all_they_may_hold(write, eviction, entries):
    dram = {"capacity_entries": 30, "eviction": eviction, "read_bytes_per_s": "1GB/s"}
    tiers = {"gpu": {"capacity_entries": 10}, "dram": dram}
    (found,) = metrics_of(cache={"kind": "tiered", "kv_bytes_per_token": 10, "tiers": tiers, "write": write})
    assert found["capacity_mean"] == pytest.approx(entries)
    assert found["hit_ratio"] <= found["belady_hit_ratio"]


def test_the_experiment_of_two_levels_counts_no_replay():
    with pytest.raises(ScenarioError, match="experiment: cache counts what serving GPUs find; use cache_tiers"):
        run_study(study_from(scenario(experiment="cache")))


def test_an_aim_that_no_cache_reaches_is_called_infeasible():
    cache = {"kind": "tiered", "kv_bytes_per_token": 10, "tiers": {"dram": {"capacity_entries": 10}}}
    cache["tiers"]["dram"]["sizing"] = {
        "every_s": 10,
        "controller": {"kind": "miss_ratio_curve", "target_hit_ratio": 0.99, "window_requests": 100},
    }
    (metrics,) = metrics_of(cache=cache)
    assert metrics["infeasible_ratio"] > 0.5


@pytest.mark.parametrize("router", ["round_robin", "session_affinity"])
def test_routers_that_look_at_requests_spread_them(router):
    cluster = {"gpus": 3, "router": {"kind": router}, "batcher": {"kind": "none"}}
    shared = {"kind": "tiered", "kv_bytes_per_token": 10, "load": "always", "tiers": TIERS | {
        "dram": TIERS["dram"] | {"shared": True}
    }}  # fmt: skip
    (own,), (common,) = metrics_of(cluster=cluster), metrics_of(cluster=cluster, cache=shared)
    assert own["lru_hit_ratio"] is None, "three caches have no common size"
    assert common["lru_hit_ratio"] is not None
    assert own["gpu_capacity_mean"] == 60_000
    if router == "session_affinity":
        assert own["hit_ratio"] > common["hit_ratio"] > 0


def test_blocks_are_found_by_their_prefix(tmp_path):
    """A second prompt shares two blocks of three; the third repeats the first and its last token is computed."""
    rows = [
        '{"timestamp": 0, "input_length": 1536, "output_length": 1, "hash_ids": [1, 2, 3]}',
        '{"timestamp": 1000, "input_length": 1536, "output_length": 1, "hash_ids": [1, 2, 4]}',
        '{"timestamp": 2000, "input_length": 1536, "output_length": 1, "hash_ids": [1, 2, 3]}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    workload = {"kind": "trace", "path": str(tmp_path / "t.jsonl"), "format": "mooncake"}
    cache = {"kind": "tiered", "kv_bytes_per_token": 10, "keys": "block", "tiers": {"dram": {"capacity_entries": 9}}}
    (metrics,) = metrics_of(workload=workload, cache=cache)
    assert metrics["hit_ratio"] == metrics["ceiling_hit_ratio"] == metrics["lru_hit_ratio"] == 5 / 9
    assert metrics["token_hit_ratio"] == pytest.approx((2 * 512 + 3 * 512 - 1) / (3 * 1536))
    assert metrics["ceiling_token_hit_ratio"] == metrics["token_hit_ratio"]


def test_a_tier_of_blocks_hits_exactly_what_stack_distances_say():
    for entries in (20, 50, 100):
        study = load_study(ROOT / "scenarios" / "cache_block_trace.yaml", {"sweep": {}})
        arm = study_from(study.raw | {"cache": study.raw["cache"] | {"tiers": {"dram": {"capacity_entries": entries}}}},
                         ROOT / "scenarios").arms[0]  # fmt: skip
        records = run_arm(arm)
        oracles = oracles_of(records.asked, arm.scenario.cache)
        assert sum(use.hits for use in records.tiers) == oracles.lru_hits(entries)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cache": {"kind": "two_level", "sizing": {"kind": "static"}, "remote_latency_s": 0}}, "kind: tiered"),
        ({"cache": None}, "kind: tiered"),
        ({"cluster": {"gpus": 2, "router": {"kind": "least_outstanding"}, "batcher": {"kind": "none"}}}, "how busy"),
        ({"cache": {"kind": "tiered", "tiers": TIERS}}, "kv_bytes_per_token"),
        ({"horizon_s": 5}, "horizon_s"),
    ],
)
def test_what_a_replay_cannot_do_is_refused(changes, complaint):
    with pytest.raises(ScenarioError, match=complaint):
        run_arm(study_from(scenario(**changes)).arms[0])


def test_users_who_wait_for_answers_are_refused():
    waiting = scenario()["workload"] | {"arrivals": {"kind": "closed_loop", "users": 2, "think_s": 1}}
    with pytest.raises(ScenarioError, match="driver: serving"):
        run_arm(study_from(scenario(workload=waiting)).arms[0])


def test_requests_and_oracles_are_made_once_for_all_arms(monkeypatch):
    study = study_from(scenario(sweep={"cache.tiers.dram.capacity_bytes": [60_000, 90_000]}))
    first, second = (run_arm(arm) for arm in study.arms)
    assert first.asked is second.asked
    assert oracles_of(first.asked, study.arms[0].scenario.cache) is oracles_of(
        second.asked, study.arms[1].scenario.cache
    )
    other = run_arm(study.arms[0], replication=1)
    assert other.asked is not first.asked
    assert other.asked.prompt_tokens.tolist() == study.scenario.workload.sample(Streams(0, 1)).prompt_tokens.tolist()


def test_the_ceiling_and_the_distance_to_it_are_printed(policies, capsys):
    print_result(policies, Console())
    shown = capsys.readouterr().out
    assert "the most that any cache could have found" in shown
    assert "attained_ratio" in shown


def test_two_level_scenarios_print_their_ceiling_too(capsys):
    result = run_study(load_study(ROOT / "scenarios" / "cache.yaml", {"replications": 2}))
    for metrics in (each[0] for each in result.metrics):
        assert metrics["found_ratio"] == pytest.approx((metrics["local_hits"] + metrics["remote_hits"]) / 80)
        assert metrics["found_ratio"] <= metrics["ceiling_ratio"] < 1
    print_result(result, Console())
    assert "the most that any cache could have found" in capsys.readouterr().out


def test_figures_are_drawn_and_repeat(policies, tmp_path):
    one_size = run_study(study_from(scenario(sweep={"cache.tiers.dram.eviction": ["lru", "fifo"]})))
    for result in (policies, one_size):
        for file in ("a.png", "b.png"):
            save(figure(result), tmp_path / file)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert figure_over_time(policies) is None, "no tier changes its size by itself"


@pytest.mark.parametrize("name", ["cache_at_scale", "cache_controllers"])
def test_shipped_scenarios_run_when_small(name):
    few = {"workload.requests": 1500, "replications": 2}
    result = run_study(load_study(ROOT / "scenarios" / f"{name}.yaml", few))
    found = table(result)
    assert len(found) >= 10
    assert (found.hit_ratio <= found.ceiling_hit_ratio).all()
    assert (found.saved_gpu_hours > 0).all()


def test_tiers_below_serving_gpus():
    """Host memory spares prefill; a slow network is left alone where loading is chosen, and costs time where not."""
    few = {"workload.requests": 700, "workload.arrivals.per_s": 5, "replications": 1}
    result = run_study(load_study(ROOT / "scenarios" / "cache_serving.yaml", few))
    none, small, host, nvme, network, forced = (each[0] for each in result.metrics)
    assert none["hit_ratio"] == 0
    assert none["lru_hit_ratio"] is None, "tiers below a GPU's own memory see only what it misses"
    assert 0 < none["attained_ratio"] < host["attained_ratio"] <= 1
    assert host["saved_gpu_hours"] > small["saved_gpu_hours"] >= 0
    assert host["ttft_mean_s"] < none["ttft_mean_s"]
    assert nvme["nvme_link_busy_ratio"] > 0
    assert network["ttft_mean_s"] <= none["ttft_mean_s"] * 1.01
    assert forced["ttft_mean_s"] > none["ttft_mean_s"]
    assert forced["remote_read_bytes"] > network["remote_read_bytes"]
    assert figure(result) is not None


def test_a_replay_is_kept_as_tiers_and_not_as_requests(tmp_path):
    folder = tmp_path / "out"
    scenario_file = tmp_path / "tiers.yaml"
    arms = [{}, {"cache.tiers.dram.sizing": {"every_s": 20, "controller": {"kind": "target_hit", "min_requests": 10}}}]
    scenario_file.write_text(yaml12.write(scenario(arms=arms)))
    assert main([str(scenario_file), "--out", str(folder)]) == 0
    tiers, capacities = (pd.read_parquet(folder / f"{name}.parquet") for name in ("tiers", "capacities"))
    assert tiers.groupby("arm").name.apply(list).tolist() == [["gpu", "dram"]] * 2
    assert (tiers.hits > 0).all()
    assert capacities[capacities.arm == 0].capacity.tolist() == [20_000, 100_000]
    assert len(capacities[capacities.arm == 1]) > 3
    assert not (folder / "requests.parquet").exists()
    assert {path.name for path in (folder / "figures").iterdir()} == {"tiers.png", "over_time.png"}


@pytest.mark.parametrize("entries", [10, 20, 50])
def test_belady_on_blocks_lets_tails_go_first_and_comes_near_its_bound(entries):
    study = load_study(
        ROOT / "scenarios/cache_block_trace.yaml",
        {"sweep": {"cache.tiers.dram.eviction": ["belady", "lru"], "cache.tiers.dram.capacity_entries": [entries]}},
    )
    belady, lru = (metrics[0] for metrics in run_study(study).metrics)
    assert lru["hit_ratio"] < 0.95 * belady["belady_hit_ratio"] <= belady["hit_ratio"] <= belady["belady_hit_ratio"]
