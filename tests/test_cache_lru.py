"""One LRU tier: plain values, and every sequence of operations against a list kept in order by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infertuner.cache.lru import Lru

KEYS = st.integers(0, 7)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("put"), KEYS),
        st.tuples(st.just("resize"), st.one_of(st.none(), st.integers(0, 6))),
    ),
    max_size=80,
)


class NaiveLru:
    """Least recently used first, by moving list items about."""

    def __init__(self, capacity):
        self.capacity, self.items = capacity, []
        self.hits = self.misses = self.evictions = 0

    def get(self, key):
        for item in self.items:
            if item[0] == key:
                self.items.remove(item)
                self.items.append(item)
                self.hits += 1
                return item[1]
        self.misses += 1
        return None

    def put(self, key, tokens):
        self.items = [item for item in self.items if item[0] != key] + [(key, tokens)]
        self.trim()

    def resize(self, capacity):
        self.capacity = capacity
        self.trim()

    def trim(self):
        excess = 0 if self.capacity is None else max(0, len(self.items) - self.capacity)
        self.items = self.items[excess:]
        self.evictions += excess


def test_the_least_recently_used_entry_leaves_first():
    lru = Lru(2)
    lru.put("a", 10)
    lru.put("b", 20)
    assert lru.get("a") == 10
    lru.put("c", 30)
    assert lru.get("b") is None
    assert (lru.get("a"), lru.get("c")) == (10, 30)
    assert (lru.hits, lru.misses, lru.evictions) == (3, 1, 1)


def test_putting_again_replaces_the_tokens_and_touches():
    lru = Lru(2)
    lru.put("a", 10)
    lru.put("b", 20)
    lru.put("a", 15)
    lru.put("c", 30)
    assert (lru.get("a"), lru.get("b")) == (15, None)


def test_an_entry_of_no_tokens_is_still_an_entry():
    lru = Lru(1)
    lru.put("a", 0)
    assert lru.get("a") == 0


def test_growing_brings_nothing_back():
    lru = Lru(3)
    for key in "abc":
        lru.put(key, 1)
    lru.resize(1)
    lru.resize(3)
    assert [lru.get(key) for key in "abc"] == [None, None, 1]


@given(st.one_of(st.none(), st.integers(0, 6)), OPERATIONS)
def test_every_sequence_of_operations_equals_the_naive_list(capacity, operations):
    lru, naive = Lru(capacity), NaiveLru(capacity)
    for step, (operation, value) in enumerate(operations):
        arguments = (value, step) if operation == "put" else (value,)
        assert getattr(lru, operation)(*arguments) == getattr(naive, operation)(*arguments)
        assert len(lru) == len(naive.items)
        assert lru.capacity_entries is None or len(lru) <= lru.capacity_entries
    assert (lru.hits, lru.misses, lru.evictions) == (naive.hits, naive.misses, naive.evictions)
