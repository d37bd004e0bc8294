"""The replay of requests through tiers: against a naive one, against single policies, and on a real trace."""

from __future__ import annotations

import json
import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.eviction.kinds import policy_of
from infertuner.cache.sizing.elastic import Elastic
from infertuner.cache.sizing.fluid import Fluid
from infertuner.cache.sizing.miss_ratio_curve import MissRatioCurve
from infertuner.cache.tiers import replay as replay_module
from infertuner.cache.tiers.build import build_tiers
from infertuner.cache.tiers.config import TierConfig, Tiered
from infertuner.cache.tiers.keys import keys_of, served_tokens
from infertuner.cache.tiers.metered import MeteredTiers
from infertuner.cache.tiers.replay import replay_tiers
from infertuner.cache.tiers.tiered import TieredCache
from infertuner.cache.tiers.trace_lru import foresee
from infertuner.errors import ScenarioError
from infertuner.sources.requests import OpenLoop, PrefixBlocks, Requests
from tests.conftest import ROOT
from tests.tiers_oracle import naive_replay

ONLINE = ["lru", "fifo", "lfu", "sieve", "s3fifo", "arc", "wtinylfu", "random"]
WAYS = [("inclusive", "through"), ("inclusive", "selective"), ("inclusive", "back"), ("exclusive", "back")]
BYTES_PER_TOKEN = 8
ROWS_AT_ONCE = st.sampled_from([3, 2**18])


def requests_of(sessions, at_s=None, *, prompt=None, prefix=None, output=None, blocks=None):
    n = len(sessions)
    at_s = np.arange(n, dtype=float) if at_s is None else np.asarray(at_s, dtype=float)
    prompt = np.full(n, 11) if prompt is None else np.asarray(prompt)
    prefix = prompt - 1 if prefix is None else np.asarray(prefix)
    output = np.full(n, 1) if output is None else np.asarray(output)
    return Requests(OpenLoop(at_s), sessions, prompt, prefix, output, blocks)


def tiered(*capacities, unit="entries", eviction="lru", **keys):
    tiers = {f"t{i}": TierConfig(**{f"capacity_{unit}": c}, eviction=eviction) for i, c in enumerate(capacities)}
    return Tiered(kind="tiered", tiers=tiers, **keys)


def replay(requests, config, **keys):
    return replay_tiers(requests, config, requests.pacing.arrived_at_s, bytes_per_token=BYTES_PER_TOKEN, **keys)


def zipf(n=3000, keys=300, seed=1):
    rng = np.random.default_rng(seed)
    return rng.choice(keys, n, p=(p := np.arange(1, keys + 1) ** -0.8) / p.sum()).tolist()


def hits(replayed):
    return [use.hits for use in replayed.tiers]


@st.composite
def workloads(draw, listed_blocks=False):
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 5),
                st.integers(1, 40),
                st.integers(0, 40),
                st.integers(1, 20),
                st.sampled_from([0.0, 0.5, 1.0, 7.25]),
            ),
            min_size=1,
            max_size=60,
        )
    )
    sessions, prompt, prefix, output, gaps = (list(column) for column in zip(*rows, strict=True))
    blocks = None
    if listed_blocks:
        # Prompts share their first block with all, the next with their session, and are apart from some point on.
        ids = []
        for row, (session, tokens) in enumerate(zip(sessions, prompt, strict=True)):
            fork = draw(st.integers(1, 8))
            names = [0, *(100 + 20 * session + i for i in range(1, 11))]
            ids.append([name if i <= fork else 1000 * (row + 1) + i for i, name in enumerate(names)][: tokens // 4])
        offsets = np.concatenate([[0], np.cumsum([len(own) for own in ids])])
        blocks = PrefixBlocks(4, np.array([i for own in ids for i in own], dtype=np.int64), offsets)
    return requests_of(sessions, np.cumsum(gaps), prompt=prompt, prefix=prefix, output=output, blocks=blocks)


@st.composite
def configs(draw, **keys):
    placement, write = draw(st.sampled_from(WAYS))
    tiers = {}
    for place in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            tiers[f"t{place}"] = TierConfig(capacity_entries=draw(st.integers(1, 8)))
        else:
            tiers[f"t{place}"] = TierConfig(capacity_bytes=draw(st.integers(0, 120)) * BYTES_PER_TOKEN)
    uses = draw(st.integers(1, 3))
    return Tiered(kind="tiered", tiers=tiers, placement=placement, write=write, selective_uses=uses, **keys)


def check_against_naive(requests, config, rows_at_once):
    with patch.object(replay_module, "ROWS_AT_ONCE", rows_at_once):
        replayed = replay(requests, config)
    rows, tiers, held_token_s = naive_replay(requests, config, requests.pacing.arrived_at_s, BYTES_PER_TOKEN)
    assert list(zip(replayed.tier.tolist(), replayed.tokens.tolist(), strict=True)) == rows
    for use, naive, held in zip(replayed.tiers, tiers, held_token_s, strict=True):
        assert (use.hits, use.evictions) == (naive.hits, naive.evictions)
        assert (use.evicted_bytes, use.written_bytes) == (
            naive.evicted * BYTES_PER_TOKEN,
            naive.written * BYTES_PER_TOKEN,
        )
        assert use.held_byte_s == pytest.approx(held * BYTES_PER_TOKEN)
        assert naive.written == naive.held() + naive.evicted + naive.removed
    assert replayed.hit_keys == sum(naive.hits for naive in tiers)
    assert sum(use.hit_tokens for use in replayed.tiers) == replayed.tokens.sum()


@given(workloads(), configs(), ROWS_AT_ONCE)
def test_sessions_fare_as_in_a_naive_replay(requests, config, rows_at_once):
    check_against_naive(requests, config, rows_at_once)


@given(workloads(), configs(keys="block", block_tokens=4), ROWS_AT_ONCE)
def test_blocks_of_sessions_fare_as_in_a_naive_replay(requests, config, rows_at_once):
    check_against_naive(requests, config, rows_at_once)


@given(workloads(listed_blocks=True), configs(keys="block"), ROWS_AT_ONCE)
def test_listed_blocks_fare_as_in_a_naive_replay(requests, config, rows_at_once):
    check_against_naive(requests, config, rows_at_once)


@given(workloads(), st.sampled_from(WAYS), st.sampled_from(ONLINE), st.sampled_from(["session", "block"]), st.data())
def test_a_replay_is_what_caches_do_request_by_request(requests, way, eviction, kind, data):
    """Two GPUs with tiers of their own before and behind one that they share."""
    tiers = {
        "a": TierConfig(capacity_bytes=60 * BYTES_PER_TOKEN, eviction=eviction),
        "b": TierConfig(capacity_entries=4, eviction=eviction, shared=True),
        "c": TierConfig(capacity_bytes=150 * BYTES_PER_TOKEN, eviction=eviction),
    }
    config = Tiered(kind="tiered", tiers=tiers, keys=kind, block_tokens=4, placement=way[0], write=way[1])
    n = len(requests)
    gpu_id = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    replayed = replay(requests, config, gpu_id=gpu_id, gpus=2)
    caches = [TieredCache(own, config) for own in build_tiers(config, BYTES_PER_TOKEN, gpus=2)]
    keys = keys_of(requests, config)
    for row, gpu in enumerate(gpu_id.tolist()):
        cache, asked = caches[gpu], keys.asked(row)
        lookup = cache.look_up(*asked)
        cache.use(asked.keys, lookup, len(lookup.tiers))
        assert replayed.tokens[row] == sum(lookup.tokens)
        assert replayed.tier[row] == max(lookup.tiers, default=-1)
        cache.insert(*keys.served(row))
    uses = [
        cache.tiers[place].use(gpu) for gpu, cache in enumerate(caches) for place in (0, 1, 2) if place != 1 or not gpu
    ]
    for ours, theirs in zip(replayed.tiers, uses, strict=True):
        theirs.held_byte_s, theirs.capacity_byte_s = ours.held_byte_s, ours.capacity_byte_s
        if math.isnan(ours.capacity_byte_s):
            ours.capacity_byte_s = theirs.capacity_byte_s = 0.0
    assert replayed.tiers == uses


@given(workloads(), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 120)), min_size=1))
def test_an_lru_tier_that_foresees_its_trace_is_one_that_does_not(requests, pieces):
    """Also where it is resized between pieces of the trace."""
    config = tiered(60 * BYTES_PER_TOKEN, unit="bytes")
    [[plain]] = build_tiers(config, BYTES_PER_TOKEN)
    [[foreseeing]] = foresee(build_tiers(config, BYTES_PER_TOKEN), requests.session_id, np.zeros(len(requests)))
    assert type(plain) is not type(foreseeing)
    tokens, start = served_tokens(requests), 0
    for length, capacity in pieces:
        piece = slice(start, start + length)
        for ours, theirs in zip(
            *(t.serve(requests.session_id[piece], tokens[piece]) for t in (foreseeing, plain)), strict=True
        ):
            assert ours.tolist() == theirs.tolist()
        for tier in (plain, foreseeing):
            tier.resize(capacity * BYTES_PER_TOKEN)
        assert (foreseeing.held_tokens, foreseeing.held_entries) == (plain.held_tokens, plain.held_entries)
        assert foreseeing.use(0) == plain.use(0)
        start += length


@pytest.mark.parametrize("eviction", ONLINE)
def test_one_tier_of_sessions_hits_as_its_policy_alone(eviction):
    sessions = zipf()
    alone = policy_of(eviction, 40, seed=0)
    alone_hits = sum(alone.access(key, 1) for key in sessions)
    seed = 0 if eviction != "random" else -1  # the tier of the first GPU draws from seed + 1
    assert hits(replay(requests_of(sessions), tiered(40, eviction=eviction), seed=seed)) == [alone_hits]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(1, 6), st.integers(1, 6))
def test_exclusive_lru_tiers_are_one_lru_of_the_summed_size(sessions, first, second):
    requests = requests_of(sessions)
    two = replay(requests, tiered(first, second, placement="exclusive", write="back"))
    assert sum(hits(two)) == hits(replay(requests, tiered(first + second)))[0]
    assert hits(two)[0] == hits(replay(requests, tiered(first)))[0]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(1, 6), st.integers(0, 6))
def test_inclusive_lru_tiers_hit_as_the_largest_and_the_first_as_if_alone(sessions, first, more):
    requests = requests_of(sessions)
    two = replay(requests, tiered(first, first + more))
    assert hits(two)[0] == hits(replay(requests, tiered(first)))[0]
    assert sum(hits(two)) == hits(replay(requests, tiered(first + more)))[0]


@pytest.mark.parametrize(("placement", "write"), WAYS)
def test_with_a_last_tier_without_limits_only_first_requests_miss(placement, write):
    sessions = zipf()
    config = tiered(20, 10**6, placement=placement, write=write, selective_uses=1)
    replayed = replay(requests_of(sessions), config)
    distinct = len(set(sessions))
    assert (sum(hits(replayed)), replayed.cold_misses, replayed.capacity_misses) == (
        len(sessions) - distinct,
        distinct,
        0,
    )


def test_cold_and_capacity_misses_are_told_apart():
    replayed = replay(requests_of([1, 2, 3, 1, 3]), tiered(2))
    assert (replayed.asked_keys, replayed.hit_keys, replayed.cold_misses, replayed.capacity_misses) == (5, 1, 3, 1)
    assert replayed.tier.tolist() == [-1, -1, -1, -1, 0]


def test_a_hit_gives_what_is_held_and_never_the_last_token_of_a_prompt():
    requests = requests_of([7, 7, 7, 7], prompt=[10, 30, 5, 12], prefix=[0, 25, 99, 8], output=[5, 1, 1, 1])
    assert replay(requests, tiered(1)).tokens.tolist() == [0, 14, 4, 8]


def test_blocks_give_their_leading_run_and_one_token_less_where_they_are_the_whole_prompt():
    ids, offsets = [1, 2, 3, 1, 2, 3, 1, 9, 3], [0, 3, 6, 9]
    requests = requests_of([0, 1, 2], prompt=[12, 12, 14], blocks=PrefixBlocks(4, np.array(ids), np.array(offsets)))
    replayed = replay(requests, tiered(99, keys="block"))
    assert replayed.tokens.tolist() == [0, 11, 4]
    assert (replayed.asked_keys, replayed.hit_keys, replayed.cold_misses, replayed.capacity_misses) == (9, 4, 4, 1)


@pytest.mark.parametrize("eviction", ONLINE)
@pytest.mark.parametrize(("placement", "write"), WAYS)
def test_names_of_keys_and_the_speed_of_time_change_nothing(eviction, placement, write):
    sessions = zipf(1000, 100)
    config = tiered(10, 30, eviction=eviction, placement=placement, write=write)
    plain = replay(requests_of(sessions), config)
    renamed = replay(requests_of([f"user {997 * key % 1009}" for key in sessions]), config)
    assert renamed.tier.tolist() == plain.tier.tolist()
    slow = replay(requests_of(sessions, at_s=np.arange(1000) * 60.0), config)
    assert slow.tier.tolist() == plain.tier.tolist()
    assert [use.held_byte_s for use in slow.tiers] == pytest.approx([60 * use.held_byte_s for use in plain.tiers])


@pytest.mark.parametrize("keys", ["session", "block"])
def test_belady_hits_no_less_than_any_policy_and_no_more_than_there_is(keys):
    rng = np.random.default_rng(3)
    sessions = zipf(1500, 150)
    requests = requests_of(sessions, prompt=rng.integers(4, 8, 1500))

    def hit(eviction):
        return replay(requests, tiered(30, eviction=eviction, keys=keys, block_tokens=4)).hit_keys

    best = hit("belady")
    ceiling = replay(requests, tiered(10**6, keys=keys, block_tokens=4)).hit_keys
    assert max(map(hit, ONLINE)) <= best <= ceiling
    assert best < ceiling


def test_belady_is_refused_where_it_cannot_know():
    config = tiered(5, 5, eviction="belady", placement="exclusive", write="back")
    with pytest.raises(ScenarioError, match="first tier"):
        replay(requests_of([1]), config)


def test_gpus_keep_their_own_tiers_and_share_the_shared_one():
    tiers = {"hbm": TierConfig(capacity_entries=1), "remote": TierConfig(capacity_entries=9, shared=True)}
    requests = requests_of([1, 1, 2, 1, 1], prompt=[3, 4, 5, 6, 7])
    replayed = replay(requests, Tiered(kind="tiered", tiers=tiers), gpu_id=np.array([0, 1, 0, 0, 1]), gpus=2)
    assert replayed.tier.tolist() == [-1, 1, -1, 1, 0]
    assert replayed.tokens.tolist() == [0, 3, 0, 4, 4]  # the second GPU's own copy is as long as when it left it
    assert [(use.name, use.gpu_id, use.hits) for use in replayed.tiers] == [
        ("hbm", 0, 0),
        ("remote", -1, 2),
        ("hbm", 1, 1),
    ]


def test_held_and_paid_bytes_add_up_over_time():
    config = tiered(10 * BYTES_PER_TOKEN, unit="bytes")
    replayed = replay(requests_of([1, 2, 1], at_s=[1, 3, 7], prompt=[4, 6, 4]), config)
    use = replayed.tiers[0]
    assert use.held_byte_s == (4 * 2 + 10 * 4) * BYTES_PER_TOKEN
    assert use.capacity_byte_s == 10 * BYTES_PER_TOKEN * 7
    assert math.isnan(replay(requests_of([1]), tiered(1)).tiers[0].capacity_byte_s)


@pytest.mark.parametrize("keys", ["session", "block"])
def test_a_controller_decides_at_ticks_of_the_requests_clock(keys):
    """Published FLUID grows by a quarter at a burst, which its tier sees at the tick after it."""
    at_s = np.concatenate([np.arange(15.0), 15 + np.arange(60) / 100, [100.0]])
    requests = requests_of(np.arange(76).tolist(), at_s, prompt=np.full(76, 4))
    elastic = Elastic(controller=Fluid(kind="fluid", initial_entries=20), every_s=10.0, hysteresis_ratio=0.0)
    config = Tiered(
        kind="tiered", tiers={"dram": TierConfig(capacity_entries=20, sizing=elastic)}, keys=keys, block_tokens=4
    )
    replayed = replay(requests, config)
    use, rows = replayed.tiers[0], replayed.capacities
    assert use.ticks == 10
    assert rows.at_s.tolist()[:2] == [0.0, 20.0]
    assert rows.capacity.tolist()[0] == 20 < rows.capacity.tolist()[1]
    assert use.resizes == len(rows.at_s) - 1
    assert replayed.ended_at_s == 100.0


@pytest.mark.parametrize(
    ("placement", "write", "seen"),
    [("exclusive", "back", [1, 2, 1]), ("inclusive", "back", [1, 1, 2, 1]), ("inclusive", "through", [1, 1, 2, 1])],
)
def test_the_controller_of_a_slower_tier_sees_what_reaches_it(placement, write, seen):
    """Of exclusive tiers, only requests that faster ones cannot answer."""
    elastic = Elastic(controller=MissRatioCurve(kind="miss_ratio_curve", target_hit_ratio=0.5))
    tiers = {"a": TierConfig(capacity_entries=1), "b": TierConfig(capacity_entries=5, sizing=elastic)}
    shown = []
    with patch.object(MissRatioCurve, "observe", lambda self, key, size, hit, now_s: shown.append(key)):
        replay(requests_of([1, 1, 2, 1]), Tiered(kind="tiered", tiers=tiers, placement=placement, write=write))
    assert shown == seen


def test_each_controller_has_its_own_ticks():
    def sized(every_s):
        elastic = Elastic(controller=MissRatioCurve(kind="miss_ratio_curve"), every_s=every_s)
        return TierConfig(capacity_entries=5, sizing=elastic)

    config = Tiered(kind="tiered", tiers={"a": sized(10.0), "b": sized(25.0), "c": TierConfig(capacity_entries=5)})
    replayed = replay(requests_of(zipf(100, 20), at_s=np.arange(100) + 0.5), config)
    assert [use.ticks for use in replayed.tiers] == [9, 3, 0]


def test_nobody_pays_for_the_tiers_of_a_gpu_that_is_away():
    config = tiered(80, unit="bytes")
    metered = MeteredTiers(config, [TieredCache(build_tiers(config, BYTES_PER_TOKEN)[0], config)])
    metered.advance(2.0)
    metered.all[0].away = True
    metered.advance(5.0)
    metered.all[0].away = False
    metered.advance(6.0)
    assert metered.all[0].use().capacity_byte_s == 80 * 3


@pytest.fixture(scope="module")
def conversation():
    """Mooncake's conversations with every block they list, the last, partial one of each prompt included."""
    path = ROOT.parent / "shared" / "data" / "traces" / "mooncake_conversation_trace.jsonl"
    if not path.is_file():
        pytest.skip("the Mooncake trace beside the checkout is not here")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    offsets = np.cumsum([0] + [len(row["hash_ids"]) for row in rows])
    blocks = PrefixBlocks(512, np.array([name for row in rows for name in row["hash_ids"]]), offsets)
    return requests_of(list(range(len(rows))), prompt=[row["input_length"] for row in rows], blocks=blocks)


@pytest.mark.parametrize(
    ("blocks", "ratio"), [(1000, 0.045), (5000, 0.114), (10000, 0.216), (20000, 0.294), (50000, 0.362)]
)
def test_token_hits_of_mooncake_conversations(conversation, blocks, ratio):
    """As found by an independent replay of the same trace, printed to three digits."""
    replayed = replay(conversation, tiered(blocks, keys="block"))
    assert replayed.tokens.sum() / conversation.prompt_tokens.sum() == pytest.approx(ratio, abs=0.0006)
