"""The replay driver: the cache alone, at the instants of arrival."""

from __future__ import annotations

from array import array

import numpy as np

from infertuner.cache.tiers.config import Tiered
from infertuner.cache.tiers.replay import TierReplay, replay_tiers
from infertuner.errors import ScenarioError
from infertuner.latency.fitted import Profile
from infertuner.latency.many import prefills_s
from infertuner.latency.model import LatencyModel
from infertuner.latency.profile import load_calibration
from infertuner.records import CacheSizeColumns, Records, RequestColumns, StepColumns
from infertuner.scenario.model import Scenario
from infertuner.serving.request import Request
from infertuner.sources.requests import Floats, Ints, OpenLoop, Requests


def replay(scenario: Scenario, asked: Requests, latency: LatencyModel) -> Records:
    """What the tiers did with every request, and what the latency law says of each prefill, alone on its GPU.

    Of the columns of requests only those that a cache alone can answer are filled; the others have no rows.
    """
    config, pacing = scenario.cache, asked.pacing
    if not isinstance(config, Tiered):
        raise ScenarioError("driver: replay runs tiers alone, so it needs cache: {kind: tiered}; use driver: serving")
    if not isinstance(pacing, OpenLoop):
        raise ScenarioError("driver: replay answers nobody, and users wait for answers; use driver: serving")
    if scenario.horizon_s is not None:
        raise ScenarioError("horizon_s: a replay runs to its last request; remove it")
    done = replay_tiers(
        asked,
        config,
        pacing.arrived_at_s,
        bytes_per_token=bytes_per_token(scenario),
        gpu_id=_routed(scenario, asked, pacing.arrived_at_s),
        gpus=scenario.cluster.gpus,
        seed=scenario.seed,
    )
    return Records(
        asked=asked,
        requests=_columns(scenario, config, asked, done, latency),
        steps=StepColumns(),
        cache_sizes=CacheSizeColumns(),
        num_gpus=scenario.cluster.gpus,
        ended_at_s=done.ended_at_s,
        events=len(asked),
        tiers=done.tiers,
        capacities=done.capacities,
        outside_calls=latency.outside_calls,
    )


def bytes_per_token(scenario: Scenario) -> float:
    """KV of one token over all layers: as the scenario says, or else of the model in its latency profile."""
    if isinstance(scenario.cache, Tiered) and scenario.cache.kv_bytes_per_token is not None:
        return scenario.cache.kv_bytes_per_token
    if isinstance(scenario.latency, Profile):
        return load_calibration(scenario.latency.path).model.kv_bytes_per_token
    raise ScenarioError("cache.kv_bytes_per_token: is missing, and only a latency of kind profile knows its model's")


def _routed(scenario: Scenario, asked: Requests, at_s: Floats) -> Ints | None:
    """The GPU of each request; None where there is one GPU."""
    gpus, router = scenario.cluster.gpus, scenario.cluster.router
    if gpus == 1:
        return None
    if router.looks_at_gpus or scenario.cluster.changes:
        raise ScenarioError(
            f"cluster.router: kind {router.kind!r} asks how busy GPUs are, or GPUs come and go, and a replay has none; "
            "use round_robin or session_affinity, or driver: serving"
        )
    router.start(None)  # type: ignore[arg-type]  # a router that looks at requests alone asks no fleet
    for gpu in range(gpus):
        router.join(gpu)
    rows = zip(at_s.tolist(), asked.session_id, asked.prompt_tokens.tolist(), asked.prefix_tokens.tolist(), strict=True)
    chosen = (router.choose(Request(row, *request)) or 0 for row, request in enumerate(rows))
    return np.fromiter(chosen, dtype=np.int64, count=len(asked))


def _columns(
    scenario: Scenario, config: Tiered, asked: Requests, done: TierReplay, latency: LatencyModel
) -> RequestColumns:
    """Fetching, prefilling and what was saved, in seconds, where loading is chosen as the scenario says.

    A request that got blocks of several tiers is taken to fetch all of them from the slowest.
    """
    cached, tier = np.asarray(done.tokens), np.asarray(done.tier)
    fetch_s = np.zeros(len(asked))
    for place, of in enumerate(config.tiers.values()):
        given = tier == place
        link = of.read_bytes_per_s
        per_token_s = bytes_per_token(scenario) / link if link else 0.0
        fetch_s[given] = of.latency_s + cached[given] * per_token_s
    uncached_s = prefills_s(latency, asked.prompt_tokens, np.zeros_like(cached))
    rest_s = prefills_s(latency, asked.prompt_tokens - cached, cached)
    if config.load == "faster":
        slower = fetch_s + rest_s > uncached_s
        cached, tier = np.where(slower, 0, cached), np.where(slower, -1, tier)
        fetch_s[slower], rest_s[slower] = 0.0, uncached_s[slower]
    columns = RequestColumns(0)
    columns.cached_tokens = array("i", cached.astype("i").tobytes())
    columns.cache_tier = array("b", tier.astype("b").tobytes())
    columns.fetch_s, columns.prefill_s, columns.prefill_saved_s = map(_doubles, (fetch_s, rest_s, uncached_s - rest_s))
    return columns


def _doubles(values: Floats) -> array[float]:
    return array("d", values.tobytes())
