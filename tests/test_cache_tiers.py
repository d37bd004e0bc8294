"""Laws of tiers: what may be held, what is conserved, and how entries move."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from infertuner.cache.tiers.build import build_tiers
from infertuner.cache.tiers.config import TierConfig, Tiered
from infertuner.cache.tiers.keys import SessionBlocks, SessionKeys, keys_of
from infertuner.cache.tiers.tiered import TieredCache
from infertuner.errors import ScenarioError
from tests.test_cache_replay_tiers import ONLINE, WAYS, requests_of, tiered

BYTES_PER_TOKEN = 3
LAST = 40
"""Turns of the longest session."""


def cache_of(config, bytes_per_token=1, gpus=1):
    caches = [TieredCache(own, config) for own in build_tiers(config, bytes_per_token, gpus=gpus)]
    return caches[0] if gpus == 1 else caches


def contents(cache):
    return [{key: tier.held(key) for key in tier.policy} for tier in cache.tiers]


def put(cache, *keys, tokens=1):
    """One request after the other, each for one key."""
    for key in keys:
        cache.insert([key], [tokens])


class Operations(RuleBasedStateMachine):
    """Two GPUs with tiers of their own and a shared one between them, under anything that may happen."""

    @initialize(
        way=st.sampled_from(WAYS),
        evictions=st.lists(st.sampled_from(ONLINE), min_size=3, max_size=3),
        in_bytes=st.lists(st.booleans(), min_size=3, max_size=3),
    )
    def begin(self, way, evictions, in_bytes):
        tiers = {}
        for i, (eviction, is_in_bytes) in enumerate(zip(evictions, in_bytes, strict=True)):
            of = {"capacity_bytes": 100 + 61 * i} if is_in_bytes else {"capacity_entries": 2 + 2 * i}
            tiers[f"t{i}"] = TierConfig(**of, eviction=eviction, shared=i == 1)
        config = Tiered(kind="tiered", tiers=tiers, placement=way[0], write=way[1])
        self.caches = cache_of(config, BYTES_PER_TOKEN, gpus=2)
        self.pinned = [[], []]
        self.before = {}

    @rule(gpu=st.integers(0, 1), keys=st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True), data=st.data())
    def serve(self, gpu, keys, data):
        cache = self.caches[gpu]
        tokens = data.draw(st.lists(st.integers(1, 30), min_size=len(keys), max_size=len(keys)))
        before = contents(cache)
        lookup = cache.look_up(keys, tokens)
        assert contents(cache) == before
        for key, asked, place, given_tokens in zip(keys, tokens, *lookup, strict=False):
            assert not any(key in faster for faster in before[:place])
            assert given_tokens == min(asked, before[place][key])
        whole = lookup.tokens == tokens[: len(lookup.tokens)]
        assert lookup.tokens[:-1] == tokens[: len(lookup.tokens)][:-1]
        if whole and len(lookup.tiers) < len(keys):
            assert not any(keys[len(lookup.tiers)] in held for held in before)
        count = data.draw(st.integers(0, len(lookup.tiers)))
        read = cache.use(keys, lookup, count).read_bytes
        assert sum(read) == BYTES_PER_TOKEN * sum(lookup.tokens[:count])
        written = [tier.written_tokens for tier in cache.tiers]
        moves = cache.insert(keys, tokens)
        assert moves.written_bytes == [
            BYTES_PER_TOKEN * (tier.written_tokens - n) for tier, n in zip(cache.tiers, written, strict=True)
        ]

    @rule(gpu=st.integers(0, 1), keys=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True))
    def pin(self, gpu, keys):
        self.caches[gpu].pin(keys)
        self.pinned[gpu].append(keys)

    @precondition(lambda self: any(self.pinned))
    @rule(data=st.data())
    def unpin(self, data):
        gpu = data.draw(st.sampled_from([gpu for gpu in (0, 1) if self.pinned[gpu]]))
        self.caches[gpu].unpin(self.pinned[gpu].pop(data.draw(st.integers(0, len(self.pinned[gpu]) - 1))))

    @rule(gpu=st.integers(0, 1), place=st.integers(0, 2), capacity=st.integers(1, 200))
    def resize(self, gpu, place, capacity):
        tier = self.caches[gpu].tiers[place]
        self.caches[gpu].resize(place, capacity if tier.in_bytes else 1 + capacity // 20)

    @rule(gpu=st.integers(0, 1))
    def die(self, gpu):
        other = contents(self.caches[1 - gpu])
        self.caches[gpu].clear_own()
        self.pinned[gpu] = []
        own = contents(self.caches[gpu])
        assert (own[0], own[2]) == ({}, {})
        if not any(self.caches[1 - gpu].tiers[1].pins):
            assert set(contents(self.caches[1 - gpu])[1]) <= set(other[1])
        after = contents(self.caches[1 - gpu])
        assert (after[0], after[2]) == (other[0], other[2])

    def tiers(self):
        return {id(tier): tier for cache in self.caches for tier in cache.tiers}.values()

    @invariant()
    def no_tier_holds_more_than_fits_but_for_what_is_pinned(self):
        for tier in self.tiers():
            held = {key: tier.held(key) for key in tier.policy}
            assert tier.held_tokens == sum(held.values())
            assert all(held.values())
            assert set(tier.pins) <= set(held)
            sizes = {key: tier.size(tokens) for key, tokens in held.items()}
            pinned = sum(sizes[key] for key in tier.pins)
            assert sum(sizes.values()) <= max(tier.capacity, pinned)

    @invariant()
    def what_was_written_is_held_or_left(self):
        for tier in self.tiers():
            assert tier.evicted_tokens >= tier.evictions >= 0
            assert tier.written_tokens >= tier.removed_tokens >= 0
            if tier.evicted_tokens:
                assert tier.evictions


TestOperations = Operations.TestCase
TestOperations.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("unit", ["bytes", "entries"])
@pytest.mark.parametrize("eviction", ONLINE)
def test_evicted_tokens_are_those_of_the_entries_that_left(unit, eviction):
    """Counted one by one here, and by conservation there."""
    config = tiered(50 if unit == "bytes" else 5, unit=unit, eviction=eviction)
    tier = cache_of(config).tiers[0]
    left = entries = 0
    for i in range(400):
        key, tokens = (i * i) % 23, 1 + (7 * i) % 20
        before = tier.held(key)
        tier.touch(key)
        for gone, gone_tokens in tier.put(key, tokens):
            refused = gone == key and not tier.held(key)
            left += before if refused else gone_tokens
            entries += not refused or before > 0
        if i % 50 == 49:
            for _, gone_tokens in tier.resize(tier.capacity + (2 if i % 100 == 49 else -3)):
                left += gone_tokens
                entries += 1
    assert (tier.evicted_tokens, tier.evictions) == (left, entries)
    assert entries > 20


def test_inclusive_tiers_written_through_have_everything_at_once():
    cache = cache_of(tiered(2, 4))
    put(cache, *"abc")
    assert [set(held) for held in contents(cache)] == [set("bc"), set("abc")]
    assert cache.look_up(["a"], [1]).tiers == [1]
    put(cache, "a")
    assert [set(held) for held in contents(cache)] == [set("ca"), set("abc")]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 4))
def test_selective_writing_waits_for_the_kth_request(keys, uses):
    cache = cache_of(tiered(3, 100, write="selective", selective_uses=uses))
    asked = dict.fromkeys(range(7), 0)
    for key in keys:
        had = contents(cache)[1]
        asked[key] += 1
        put(cache, key)
        for new in set(contents(cache)[1]) - set(had):
            assert new == key
            assert asked[key] >= uses
    if uses == 1:
        assert set(contents(cache)[1]) == set(keys)


def test_selective_writing_counts_requests_while_the_entry_is_there():
    cache = cache_of(tiered(1, 9, write="selective", selective_uses=2))
    put(cache, "a", "b", "a", "b")
    assert contents(cache)[1] == {}
    put(cache, "b")
    assert contents(cache) == [{"b": 1}, {"b": 1}]


def test_selective_writing_begins_again_where_a_gpu_died():
    cache = cache_of(tiered(9, 9, write="selective", selective_uses=2))
    put(cache, "a")
    cache.clear_own()
    put(cache, "a")
    assert contents(cache) == [{"a": 1}, {}]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_writing_back_writes_only_what_leaves(keys):
    cache = cache_of(tiered(3, 100, write="back"))
    for key in keys:
        first, second = contents(cache)
        put(cache, key)
        now_first, now_second = contents(cache)
        assert set(now_second) - set(second) <= set(first) - set(now_first)
        assert set(first) - set(now_first) <= set(now_second)


def test_what_is_evicted_falls_from_tier_to_tier():
    cache = cache_of(tiered(1, 1, 1, placement="exclusive", write="back"))
    put(cache, *"abc")
    assert [list(held) for held in contents(cache)] == [["c"], ["b"], ["a"]]
    put(cache, "a")
    assert [list(held) for held in contents(cache)] == [["a"], ["c"], ["b"]]
    put(cache, "d")
    assert [list(held) for held in contents(cache)] == [["d"], ["a"], ["c"]]
    assert [tier.evictions for tier in cache.tiers] == [4, 3, 1]
    assert [tier.removed_tokens for tier in cache.tiers] == [0, 0, 1]


def test_an_entry_too_large_for_a_tier_goes_to_one_that_has_room():
    cache = cache_of(tiered(10, 100, unit="bytes", placement="exclusive", write="back"))
    cache.insert(["a"], [5])
    cache.insert(["a"], [30])
    assert contents(cache) == [{}, {"a": 30}]
    assert [tier.written_tokens for tier in cache.tiers] == [5, 30]
    assert [tier.evicted_tokens for tier in cache.tiers] == [5, 0]


def test_a_shrinking_tier_lets_go_in_its_order_and_growing_brings_nothing_back():
    cache = cache_of(tiered(4, 9, placement="exclusive", write="back"))
    put(cache, *"abcd")
    put(cache, "a")
    assert cache.resize(0, 2).written_bytes == [0, 2]
    assert [list(held) for held in contents(cache)] == [["d", "a"], ["b", "c"]]
    assert cache.resize(0, 4).written_bytes == [0, 0]
    assert len(contents(cache)[0]) == 2


def test_sessions_grow_and_are_used_as_long_as_they_are_in_the_tier_they_are_found_in():
    config = Tiered(
        kind="tiered",
        tiers={"own": TierConfig(capacity_entries=5), "all": TierConfig(capacity_entries=5, shared=True)},
    )
    mine, yours = cache_of(config, gpus=2)
    put(mine, "a", tokens=10)
    put(yours, "a", tokens=25)
    put(yours, "a", tokens=20)
    assert mine.look_up(["a"], [18]) == ([0], [10])
    assert yours.look_up(["a"], [18]) == ([0], [18])
    assert contents(mine) == [{"a": 10}, {"a": 25}]


def test_what_is_behind_a_gap_is_not_found():
    cache = cache_of(tiered(9, keys="block"))
    cache.insert("abc", [4, 2, 4])
    assert cache.look_up("abc", [4, 4, 4]) == ([0, 0], [4, 2])
    assert cache.look_up("abc", [4, 2, 4]) == ([0, 0, 0], [4, 2, 4])


def test_what_is_found_and_recomputed_is_a_hit_that_gives_nothing():
    cache = cache_of(tiered(9, keys="block"))
    cache.insert("abc", [4, 4, 4])
    lookup = cache.look_up("abcd", [4, 4, 3, 4])
    assert cache.use("abcd", lookup, 2).read_bytes == [8]
    use = cache.tiers[0].use(0)
    assert (use.hits, use.hit_tokens, use.recomputed_tokens, use.read_bytes) == (3, 8, 3, 8)


def test_pinned_entries_stay_until_the_last_pin_is_gone():
    cache = cache_of(tiered(2))
    put(cache, *"ab")
    cache.pin("a")
    cache.pin("a")
    put(cache, *"cd")
    assert set(contents(cache)[0]) == set("ad")
    cache.unpin("a")
    put(cache, "e")
    assert set(contents(cache)[0]) == set("ae")
    cache.unpin("a")
    put(cache, "f")
    assert set(contents(cache)[0]) == set("ef")


def test_what_only_pins_kept_goes_where_evicted_entries_go():
    cache = cache_of(tiered(2, 9, placement="exclusive", write="back"))
    put(cache, *"ab")
    cache.pin("ab")
    assert cache.resize(0, 1).written_bytes == [0, 0]
    assert cache.unpin("a").written_bytes == [0, 1]
    assert contents(cache) == [{"b": 1}, {"a": 1}]


def test_an_entry_that_somebody_reads_does_not_move_away():
    cache = cache_of(tiered(1, 9, placement="exclusive", write="back"))
    put(cache, *"ab")
    cache.pin("a")
    put(cache, "a")
    assert contents(cache) == [{"a": 1}, {"a": 1, "b": 1}]


def test_a_gpu_that_dies_loses_its_own_tiers_and_its_pins_alone():
    config = Tiered(
        kind="tiered",
        tiers={"own": TierConfig(capacity_entries=1), "all": TierConfig(capacity_entries=2, shared=True)},
    )
    mine, yours = cache_of(config, gpus=2)
    put(mine, *"ab")
    put(yours, "b")
    mine.pin("ab")
    mine.clear_own()
    assert [set(held) for held in contents(mine)] == [set(), set("ab")]
    assert set(contents(yours)[0]) == {"b"}
    put(yours, *"cd")
    assert set(contents(yours)[1]) == set("cd")
    mine.unpin("ab")


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(1, 20),
    st.sampled_from(WAYS),
)
def test_lru_tiers_hold_prefixes_from_their_beginning(prompts, capacity, way):
    """Prompts share their beginnings and are apart from some block on.

    Exclusive tiers do together; a slower tier that is written back to gets pieces in the order in which they leave.
    """
    cache = cache_of(tiered(capacity, 2 * capacity, keys="block", placement=way[0], write=way[1], selective_uses=1))
    before = {}
    for number, (stem, shared, own) in enumerate(prompts):
        prompt = [f"{stem}/{i}" for i in range(shared)] + [f"{stem}/{shared}/{number}/{i}" for i in range(own)]
        before |= dict(zip(prompt[1:], prompt, strict=False))
        cache.insert(prompt, [1] * len(prompt))
        first, second = (set(held) for held in contents(cache))
        closed = {"through": [first, second], "selective": [first, second], "back": [first]}[way[1]]
        for held in [first, first | second] if way[0] == "exclusive" else closed:
            assert all(before.get(key, key) in held for key in held)


def test_keys_of_sessions_and_of_their_blocks():
    requests = requests_of(["x", "y", "x"], prompt=[10, 40, 33], prefix=[0, 0, 16], output=[5, 1, 8])
    by_session = keys_of(requests, tiered(1))
    assert isinstance(by_session, SessionKeys)
    assert by_session.asked(2) == (("x",), (16,))
    assert by_session.served(0) == (("x",), (14,))
    by_block = keys_of(requests, tiered(1, keys="block", block_tokens=8))
    assert isinstance(by_block, SessionBlocks)
    assert list(by_block.asked(0).keys) == []
    assert (len(by_block.served(0).keys), len(by_block.asked(2).keys), len(by_block.served(2).keys)) == (1, 2, 5)
    assert by_block.served(0).keys[0] == by_block.asked(2).keys[0]
    assert not set(by_block.served(1).keys) & set(by_block.served(2).keys)
    assert by_block.served(2).tokens == [8] * 5


def test_belady_needs_the_future():
    with pytest.raises(ScenarioError, match="driver: replay"):
        build_tiers(tiered(3, eviction="belady"), 1.0)


def test_a_token_has_bytes():
    with pytest.raises(ScenarioError, match="above 0"):
        build_tiers(tiered(3), 0.0)
