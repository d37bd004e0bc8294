"""The numbers of docs/cache-answers.md: what operators ask about KV caches, answered for the shipped profiles.

    python benchmarks/cache_answers.py

It writes the page from cache_answers.md beside it; a test checks the tables without replays. Everything is small, so
that it takes a minute or two: the service of scenarios/cache_at_scale.yaml at a hundredth of its size, in requests,
users and bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infertuner.cache.tiers.config import Tiered
from infertuner.cache.transfer import Channel, break_even_bytes_per_s, smallest_prefix_worth_loading
from infertuner.experiments.oracles import Oracles
from infertuner.experiments.runs import run_study
from infertuner.latency.fitted import Profile
from infertuner.latency.models import MODELS
from infertuner.latency.physics import operations
from infertuner.latency.points import Point
from infertuner.latency.profile import load_calibration
from infertuner.scenario import yaml12
from infertuner.scenario.study import study_from
from infertuner.sources.requests import Floats, Ints
from infertuner.streams import Streams

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "cache-answers.md"
PROFILES = ("public-h200-llama-3.1-8b", "public-rtxpro6000-llama-3.1-8b", "public-rtx4090-llama-3.1-8b")
OTHER_MODELS = ("qwen1.5-1.8b", "qwen2.5-7b", "llama-3.1-8b", "falcon3-7b")
LINKS = {"DRAM, 50 GB/s": (50e9, 20e-6), "NVMe, 7 GB/s": (7e9, 80e-6), "network, 3 GB/s": (3e9, 500e-6)}
PREFIXES = (512, 2048, 8192)
NEW_TOKENS = 512
SHRINK = 100
GB = 1e9


def page() -> str:
    """The whole page."""
    head = (PROJECT / "benchmarks" / "cache_answers.md").read_text(encoding="utf-8")
    answers = {
        "break_even": break_even(),
        "worth_loading": worth_loading(),
        "other_models": other_models(),
        **sizes(),
        "policies": policies(),
        "controllers": controllers(),
        "sharing": sharing(),
        "writing": writing(),
        "feasible": feasible(),
    }
    for name, text in answers.items():
        head = head.replace(f"{{{name}}}", text)
    return head


def break_even() -> str:
    """The bandwidth at which loading a prefix takes as long as prefilling it, for each profile."""
    rows = []
    for name in PROFILES:
        prefill_s, size, label = _law(name)
        speeds = [break_even_bytes_per_s(tokens, size, prefill_s) / GB for tokens in PREFIXES]
        rows.append([label, *(f"{speed:.1f} GB/s" for speed in speeds)])
    return _table(["profile", *(f"{tokens:,} tokens" for tokens in PREFIXES)], rows)


def worth_loading() -> str:
    """The shortest prefix in front of `NEW_TOKENS` that loads faster than it is prefilled, alone and beside others."""
    rows = []
    for name in PROFILES[1:]:
        size, label = _law(name)[1:]
        saved_s = _saved(name)
        for link, (speed, latency_s) in LINKS.items():
            shortest = [
                smallest_prefix_worth_loading(size, Channel(speed, latency_s, share), saved_s, PREFIXES[-1])
                for share in (1, 1 / 4)
            ]
            rows.append([label, link, *("none" if tokens is None else f"{tokens:,}" for tokens in shortest)])
    return _table(["profile", "link", "tokens, alone", "tokens, one of four reads"], rows)


def other_models() -> str:
    """Break-even bandwidths of other models, if a GPU does as many operations a second on them."""
    tokens = PREFIXES[-1]
    rows = []
    for model in OTHER_MODELS:
        config = MODELS[model]
        speeds = []
        for name in PROFILES:
            prefill_s, _, _ = _law(name)
            measured = load_calibration(PROJECT / "calibration" / f"{name}.json").model.config
            work = Point("prefill", 1, tokens, 0, "fit")
            ratio = operations(work, config) / operations(work, measured)
            scaled_s = float(prefill_s(np.array([tokens]))[0]) * ratio
            speeds.append(f"{tokens * config.kv_bytes_per_token('bf16') / scaled_s / GB:.1f} GB/s")
        rows.append([model, f"{config.kv_bytes_per_token('bf16') / 1024:.0f} KiB", *speeds])
    return _table(["model", "KV of a token", *(_law(name)[2] for name in PROFILES)], rows)


def sizes() -> dict[str, str]:
    """What bytes buy: exact LRU at every size."""
    study = _study({})
    scenario = study.scenario
    asked = scenario.workload.sample(Streams(scenario.seed))
    assert isinstance(scenario.cache, Tiered)
    oracles, token_bytes = Oracles(asked, scenario.cache), _law(PROFILES[1])[1]
    attainable = oracles.attainable_keys

    def hits(gigabytes: float) -> int:
        return oracles.lru_hits_in_tokens(int(gigabytes * GB / token_bytes))

    grid = np.geomspace(1, 20_000, 400)
    curve = np.array([hits(size) for size in grid])
    reach = {share: float(grid[np.searchsorted(curve, share * attainable)]) for share in (0.5, 0.8, 0.9, 0.95)}
    shares = [[f"{share:.0%}", f"{size:,.0f} GB"] for share, size in reach.items()]
    hit_s = float(_law(PROFILES[1])[0](np.array([round(oracles.attainable_tokens / attainable)]))[0])
    more = []
    for size in (100, 200, 400, 800, 1600):
        gained = hits(size + 100) - hits(size)
        share = f"+{gained / len(asked):.2%}"
        more.append([f"{size} GB", f"{hits(size) / len(asked):.1%}", share, f"{gained * hit_s / 3600:.2f}"])
    return {
        "sizes": _table(["share of the attainable hits", "LRU needs"], shares),
        "next_100": _table(["with", "hits", "the next 100 GB", "GPU-hours a day they spare"], more),
    }


def policies() -> str:
    """Each policy at two sizes, against the exact LRU and Belady, on popularities and on bursts."""
    names = ["lru", "fifo", "lfu", "sieve", "s3fifo", "arc", "wtinylfu"]
    sweep = {"cache.tiers.nvme.eviction": names, "cache.tiers.nvme.capacity_bytes": ["40GB", "160GB"]}
    made = _metrics(_study({"sweep": sweep, "replications": 5}))
    trace = yaml12.read((PROJECT / "scenarios" / "cache_block_trace.yaml").read_text(encoding="utf-8"), "trace")
    trace["sweep"] = {"cache.tiers.dram.eviction": names, "cache.tiers.dram.capacity_entries": [50, 100]}
    bursts = _metrics(study_from(trace, PROJECT / "scenarios"))
    rows = [
        [name, *(f"{_mean(arm, 'hit_ratio'):.1%}" for arm in (*made[2 * i : 2 * i + 2], *bursts[2 * i : 2 * i + 2]))]
        for i, name in enumerate(names)
    ]
    for label, metric in (("Belady, entries", "belady_hit_ratio"), ("ceiling", "ceiling_hit_ratio")):
        rows.append([label, *(f"{_mean(arm, metric):.1%}" for arm in (*made[:2], *bursts[:2]))])
    return _table(["policy", "40 GB", "160 GB", "sample trace, 50 blocks", "100 blocks"], rows)


def controllers() -> str:
    """What controllers hold on average and hit, against a static LRU of that size."""
    raw = yaml12.read((PROJECT / "scenarios" / "cache_controllers.yaml").read_text(encoding="utf-8"), "controllers")
    raw["workload"] |= {"requests": 60_000, "arrivals": raw["workload"]["arrivals"] | {"per_s": 0.68}}
    raw["workload"]["sessions"] |= {"users": 2000, "churn": {"replaced_ratio": 0.05, "every_requests": 1200}}
    raw["cache"]["tiers"]["dram"] |= {"capacity_entries": 200}
    raw["replications"] = 5
    window = {"window_requests": 5000}
    wanted: list[dict[str, Any] | None] = [
        None,
        {"kind": "fluid", "initial_entries": 200, "min_entries": 20, "max_entries": 2000},
        {"kind": "frequency", "initial_entries": 200, "min_entries": 20, "max_entries": 2000, "target_hit_ratio": 0.7},
        {"kind": "rate_band"},
        {"kind": "miss_budget", "misses_per_s": 0.2, **window},
        {"kind": "frequency_coverage", **window},
        {"kind": "miss_ratio_curve", **window},
        {"kind": "target_hit", **window},
    ]
    raw["arms"] = [
        {"cache.tiers.dram.sizing": {"every_s": "300s", "controller": controller}} if controller else {}
        for controller in wanted
    ]
    rows = [
        [
            controller["kind"] if controller else "static",
            f"{_mean(arm, 'capacity_mean'):,.0f}",
            f"{_mean(arm, 'hit_ratio'):.1%}",
            f"{_mean(arm, 'lru_hit_ratio'):.1%}",
            f"{_mean(arm, 'infeasible_ratio'):.0%}" if controller else "",
        ]
        for controller, arm in zip(wanted, _metrics(study_from(raw, PROJECT / "scenarios")), strict=True)
    ]
    return _table(["controller", "mean entries", "hits", "static LRU of that size", "ticks out of reach"], rows)


def sharing() -> str:
    """Four GPUs with 20 GB of host memory each, or 80 GB for all, under two routers."""
    rows = []
    for router in ("round_robin", "session_affinity"):
        for shared in (False, True):
            tiers = {
                "gpu": {"capacity_bytes": "1GB"},
                "dram": {
                    "capacity_bytes": "80GB" if shared else "20GB",
                    "read_bytes_per_s": "50GB/s",
                    "shared": shared,
                },
            }
            changes = {"cluster.gpus": 4, "cluster.router.kind": router, "cache.tiers": tiers, "replications": 5}
            (arm,) = _metrics(_study(changes))
            rows.append([router, "one for all" if shared else "each its own", *_shares(arm)])
    return _table(["router", "host memory", "hits", "prompt tokens spared"], rows)


def writing() -> str:
    """Bytes written to NVMe, and hits, by when entries are copied there."""
    arms = [("through", {}), ("selective", {"cache.write": "selective"}), ("back", {"cache.write": "back"})]
    rows = []
    for name, change in arms:
        (arm,) = _metrics(_study(change | {"cache.tiers.nvme.capacity_bytes": "160GB", "replications": 5}))
        rows.append([name, f"{_mean(arm, 'nvme_written_bytes') / GB:,.0f} GB", *_shares(arm)])
    return _table(["write", "written to NVMe", "hits", "prompt tokens spared"], rows)


def feasible() -> str:
    """The ceilings of both workloads."""
    (made,) = _metrics(_study({"replications": 5}))
    return f"{_mean(made, 'ceiling_hit_ratio'):.1%}"


def _law(name: str) -> tuple[Any, float, str]:
    """Seconds of a prefill from nothing, KV bytes of a token, and what to call it."""
    path = PROJECT / "calibration" / f"{name}.json"
    model = Profile(kind="profile", path=path, out_of_range="extrapolate").model(Streams(0))
    found = load_calibration(path)

    def prefill_s(tokens: Ints) -> Floats:
        each: Iterable[int] = tokens.tolist()
        return np.array([model.prefill_s(batch_size=1, new_tokens=n, cached_tokens=0) for n in each])

    return prefill_s, found.model.kv_bytes_per_token, found.hardware.name.removeprefix("NVIDIA ")


def _saved(name: str) -> Any:
    """Seconds that a cached prefix of so many tokens spares a prompt with `NEW_TOKENS` more."""
    path = PROJECT / "calibration" / f"{name}.json"
    model = Profile(kind="profile", path=path, out_of_range="extrapolate").model(Streams(0))

    def prefill_s(cached: int, new: int) -> float:
        return model.prefill_s(batch_size=1, new_tokens=new, cached_tokens=cached)

    def saved_s(tokens: Ints) -> Floats:
        return np.array([prefill_s(0, n + NEW_TOKENS) - prefill_s(n, NEW_TOKENS) for n in tokens.tolist()])

    return saved_s


def _study(changes: dict[str, Any]) -> Any:
    """The service of cache_at_scale.yaml at a hundredth of its size, with these changes."""
    raw = yaml12.read((PROJECT / "scenarios" / "cache_at_scale.yaml").read_text(encoding="utf-8"), "at scale")
    raw["workload"] |= {"requests": 10_000_000 // SHRINK}
    raw["workload"]["arrivals"] |= {"per_s": 110 / SHRINK}
    raw["workload"]["sessions"] |= {"users": 1_000_000 // SHRINK}
    raw["workload"]["sessions"]["churn"] |= {"every_requests": 1_000_000 // SHRINK}
    for tier, size in {"gpu": "5GB", "dram": "10GB", "nvme": "10GB"}.items():
        raw["cache"]["tiers"][tier] |= {"capacity_bytes": size}
    shared = {key: changes.pop(key) for key in ("sweep", "replications") if key in changes}
    return study_from(raw | {"sweep": {}, "replications": 1, "arms": [changes]} | shared, PROJECT / "scenarios")


def _metrics(study: Any) -> list[list[dict[str, Any]]]:
    return [list(arm) for arm in run_study(study).metrics]


def _mean(arm: Sequence[dict[str, Any]], metric: str) -> float:
    return float(np.mean([each[metric] for each in arm]))


def _shares(arm: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{_mean(arm, 'hit_ratio'):.1%}", f"{_mean(arm, 'token_hit_ratio'):.1%}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"written: {PAGE.relative_to(PROJECT)}\n")
