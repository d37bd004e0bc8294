"""How many requests a second caches replay in Python: ours, cachetools' and libCacheSim's, on the same requests.

    python benchmarks/cache_replay.py --csv cache_replay.csv

Ten million requests for a million keys of Zipf popularity and one size, 100,000 held. Single caches replay the first
four million, all by one loop that calls the cache for each request, as a simulation does. cachetools and libcachesim
are left out where they are not installed. libCacheSim is called as its Python binding is called, and counts hits to
compare; its own loop in C is many times faster.

Two rows take all ten million. "two tiers" is a whole replay through two LRU tiers, inclusive and written through, the
second five times as large: with tokens, bytes over time and a row for each request, so its hits are those of both.
There the replay knows the requests beforehand and asks no policy (infertuner/cache/tiers/trace_lru.py). "all LRU sizes"
is the exact hit curve, with the hits at 100,000.

Caches take turns and the best turn of each counts. Seconds are of processor time. Ratios are to an OrderedDict used as
LRU in the loop itself, the floor for Python: they travel between machines, requests a second do not.
"""

from __future__ import annotations

import argparse
import csv
import gc
import importlib
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from infertuner.cache.analysis import lru_hit_curve
from infertuner.cache.analysis.uses import next_uses
from infertuner.cache.eviction.kinds import policy_of
from infertuner.cache.tiers.config import TierConfig, Tiered
from infertuner.cache.tiers.replay import replay_tiers
from infertuner.sources.requests import Key, OpenLoop, Requests

OURS = ("lru", "fifo", "lfu", "sieve", "s3fifo", "arc", "wtinylfu", "random", "belady")
CACHETOOLS = {"lru": "LRUCache", "fifo": "FIFOCache", "lfu": "LFUCache", "random": "RRCache"}
LIBCACHESIM = {
    "lru": "LRU",
    "fifo": "FIFO",
    "lfu": "LFU",
    "sieve": "Sieve",
    "s3fifo": "S3FIFO",
    "arc": "ARC",
    "wtinylfu": "WTinyLFU",
    "random": "Random",
}
FLOOR = "OrderedDict in the loop"
COLUMNS = ("cache", "policy", "requests", "entries", "seconds", "requests_per_s", "to_floor_ratio", "hit_ratio")


class Contender(NamedTuple):
    """A cache to replay with."""

    cache: str
    policy: str
    requests: int
    run: Callable[[], int]
    """Replay them with an empty cache; the hits."""


def zipf(requests: int, keys: int, exponent: float) -> list[int]:
    """Independent requests for keys whose popularity falls with their rank; keys say nothing about ranks."""
    chance = np.random.default_rng(0)
    popularity = np.arange(1, keys + 1) ** -exponent
    ranks = np.searchsorted(popularity.cumsum() / popularity.sum(), chance.random(requests))
    names: list[int] = chance.permutation(keys)[ranks].tolist()
    return names


def floor(keys: Sequence[Key], entries: int) -> int:
    """An LRU without a class around it."""
    held, hits = OrderedDict[Key, int](), 0
    for key in keys:
        if key in held:
            held.move_to_end(key)
            hits += 1
        else:
            held[key] = 1
            if len(held) > entries:
                held.popitem(last=False)
    return hits


def ours(name: str, keys: Sequence[Key], entries: int, next_use: Sequence[int] | None) -> int:
    """Hits of one of our policies."""
    access = policy_of(name, entries, next_use=next_use).access
    hits = 0
    for key in keys:
        hits += access(key, 1)
    return hits


def two_tiers(keys: Sequence[int], entries: int) -> int:
    """Hits of two tiers of ours together, each request leaving as many tokens as any other."""
    n, tokens = len(keys), 100
    tiers = {
        name: TierConfig(capacity_bytes=float(size * tokens)) for name, size in (("a", entries), ("b", 5 * entries))
    }
    lengths = np.full(n, tokens)
    sessions = array("q", keys)
    requests = Requests(OpenLoop(np.arange(n, dtype=np.float64)), sessions, lengths, lengths - 1, np.ones_like(lengths))
    config = Tiered(kind="tiered", tiers=tiers)
    return replay_tiers(requests, config, np.arange(n, dtype=np.float64), bytes_per_token=1.0).hit_keys


def all_sizes(keys: Sequence[Key], entries: int) -> int:
    """Hits of LRU at one of the sizes of its whole curve."""
    return int(lru_hit_curve(np.asarray(keys))[entries])


def cachetools(make: Callable[[int], Any], keys: Sequence[Key], entries: int) -> int:
    """Hits of one of cachetools' mappings."""
    cache, hits = make(entries), 0
    for key in keys:
        if cache.get(key) is None:
            cache[key] = 1
        else:
            hits += 1
    return hits


def libcachesim(make: Callable[[int], Any], keys: Sequence[Key], entries: int) -> int:
    """Hits of one of libCacheSim's caches, with one request object for all."""
    get, request, hits = make(entries).get, importlib.import_module("libcachesim").Request(), 0
    request.obj_size = 1
    for key in keys:
        request.obj_id = key
        hits += get(request)
    return hits


def contenders(keys: list[int], few: int, entries: int, policies: Sequence[str]) -> list[Contender]:
    """The floor, ours, and those of the others that are installed, with the first `few` requests; then whole traces."""
    first = keys[:few]
    next_use = next_uses(np.asarray(first)).tolist() if "belady" in policies else None
    found = [Contender(FLOOR, "lru", few, partial(floor, first, entries))]
    found += [Contender("infertuner", name, few, partial(ours, name, first, entries, next_use)) for name in policies]
    for cache, theirs, replay in (("cachetools", CACHETOOLS, cachetools), ("libcachesim", LIBCACHESIM, libcachesim)):
        library = _installed(cache)
        for name in policies if library is not None else ():
            if name in theirs:
                run = partial(replay, getattr(library, theirs[name]), first, entries)
                found.append(Contender(cache, name, few, run))
    if "lru" in policies:
        found.append(Contender("infertuner, two tiers", "lru", len(keys), partial(two_tiers, keys, entries)))
        found.append(Contender("infertuner, all LRU sizes", "lru", len(keys), partial(all_sizes, keys, entries)))
    return found


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def measure(contender: Contender, entries: int) -> dict[str, Any]:
    """One replay."""
    gc.collect()
    started = time.process_time()
    hits = contender.run()
    seconds = time.process_time() - started
    return {
        "cache": contender.cache,
        "policy": contender.policy,
        "requests": contender.requests,
        "entries": entries,
        "seconds": seconds,
        "requests_per_s": contender.requests / seconds,
        "hit_ratio": hits / contender.requests,
    }


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--few", type=int, default=4_000_000, help="requests for single caches, the first of all")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=100_000, help="entries held")
    parser.add_argument("--exponent", type=float, default=0.9, help="of the Zipf popularity")
    parser.add_argument("--turns", type=int, default=2, help="replays of each, of which the best counts")
    parser.add_argument("--policies", nargs="+", default=OURS, choices=OURS)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="where to write the table")
    asked = parser.parse_args()
    keys = zipf(asked.requests, asked.keys, asked.exponent)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(asked.turns):
        for contender in contenders(keys, min(asked.few, asked.requests), asked.entries, asked.policies):
            row = measure(contender, asked.entries)
            name = contender.cache, contender.policy
            rows[name] = min(rows.get(name, row), row, key=lambda one: one["seconds"])
    fastest = rows[FLOOR, "lru"]["requests_per_s"]
    print("| cache | policy | M requests | CPU seconds | M requests/s | to the floor | hit ratio |")
    print("|---|---|---|---|---|---|---|")
    for row in rows.values():
        row["to_floor_ratio"] = row["requests_per_s"] / fastest
        millions, seconds, ratio = row["requests"] / 1e6, row["seconds"], row["to_floor_ratio"]
        numbers = f"{millions:g} | {seconds:.1f} | {millions / seconds:.2f} | {ratio:.2f} | {row['hit_ratio']:.4f}"
        print(f"| {row['cache']} | {row['policy']} | {numbers} |")
    if asked.csv is not None:
        with asked.csv.open("w", newline="") as file:
            lines = csv.DictWriter(file, COLUMNS)
            lines.writeheader()
            lines.writerows(rows.values())


if __name__ == "__main__":
    main()
