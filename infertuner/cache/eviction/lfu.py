"""Least frequently used."""

from __future__ import annotations

from dataclasses import dataclass, field

from infertuner.cache.eviction.base import Base
from infertuner.cache.eviction.queues import Queue
from infertuner.sources.requests import Key


@dataclass(slots=True, eq=False)
class _Bucket:
    """The keys with the same number of requests, least recently used first, between fewer and more requests."""

    requests: int
    less: _Bucket | None = None
    more: _Bucket | None = None
    keys: Queue = field(default_factory=Queue)


class Lfu(Base):
    """The entry with the fewest requests since it came leaves first; among equals the least recently used.

    Constant time: keys of equal counts share a bucket in a chain of buckets by count (Shah, Mitra and Matani, 2010).
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._bucket: dict[Key, _Bucket] = {}
        self._least = _Bucket(1)
        """The bucket of new keys, which stays in the chain when it is empty; so no other bucket is ever the first."""

    def touch(self, key: Key) -> bool:
        """Note a request for `key`, which then counts one more."""
        bucket = self._bucket.get(key)
        if bucket is None:
            return False
        keys, requests, more = bucket.keys, bucket.requests + 1, bucket.more
        if more is None or more.requests != requests:
            if len(keys) == 1 and bucket.less is not None:
                bucket.requests = requests  # it is alone, and nobody is in its way
                return True
            more = self._bucket_after(bucket)
        del keys[key]
        more.keys[key] = None
        self._bucket[key] = more
        if not keys:
            self._unchain(bucket)
        return True

    def _enqueue(self, key: Key) -> None:
        self._least.keys[key] = None
        self._bucket[key] = self._least

    def _dequeue(self, key: Key) -> None:
        bucket = self._bucket.pop(key)
        del bucket.keys[key]
        if not bucket.keys:
            self._unchain(bucket)

    def _evict(self) -> Key:
        bucket: _Bucket | None = self._least
        while bucket is not None:
            key = self._first(bucket.keys)
            if key is not None:
                self._dequeue(key)
                return key
            bucket = bucket.more
        raise AssertionError("everything is pinned")

    def _bucket_after(self, bucket: _Bucket) -> _Bucket:
        """A new bucket for one request more."""
        new = _Bucket(bucket.requests + 1, bucket, bucket.more)
        if bucket.more is not None:
            bucket.more.less = new
        bucket.more = new
        return new

    def _unchain(self, bucket: _Bucket) -> None:
        """Take an empty bucket out of the chain, unless it is the one of new keys."""
        if bucket.less is None:
            return
        bucket.less.more = bucket.more
        if bucket.more is not None:
            bucket.more.less = bucket.less
