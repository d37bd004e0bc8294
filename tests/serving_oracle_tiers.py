"""Tiers for the plain engine: links that share out their time read by read, and GPUs that fetch.

What is in which tier is the cache's own business, tested elsewhere; here it is when who looks, waits and gets what.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

from infertuner.cache.tiers.build import build_tiers
from infertuner.cache.tiers.keys import keys_of
from infertuner.cache.tiers.tiered import Lookup, TieredCache
from tests.serving_oracle import PlainGpu


class PlainLink:
    """Time is dealt out in whole femtoseconds, as many to each; what cannot be is dealt out next time."""

    def __init__(self, tier):
        self.rate, self.latency = tier.read_bytes_per_s, round(tier.latency_s * 10**15)
        self.now = self.over = 0
        self.reads = []
        """Of each read: when its first byte comes, what is left of it, and what to do then."""

    def sharing(self):
        return [read for read in self.reads if read[0] <= self.now]

    def next_at(self):
        here = self.sharing()
        ends = [self.now + min(read[1] for read in here) * len(here) - self.over] if here else []
        return min([math.inf, *ends, *(read[0] for read in self.reads if read[0] > self.now)])

    def go_on(self, now):
        here = self.sharing()
        if here:
            each, self.over = divmod(now - self.now + self.over, len(here))
            for read in here:
                read[1] -= each
        self.now = now
        done = [read for read in here if read[1] == 0]
        self.reads = [read for read in self.reads if read not in done]
        for read in done:
            read[2](now)

    def read(self, now, num_bytes, done):
        self.go_on(now)
        self.reads.append([now + self.latency, max(1, round(num_bytes * 10**15 / self.rate)), done])


class Offload:
    """The tiers of all GPUs."""

    def __init__(self, asked, config, gpus):
        self.config, self.keys = config, keys_of(asked, config)
        self.caches = [TieredCache(own, config) for own in build_tiers(config, config.kv_bytes_per_token, gpus=gpus)]
        self.of_gpu, self.links = [], []
        for gpu_id in range(gpus):
            own = []
            for place, tier in enumerate(config.tiers.values()):
                link = PlainLink(tier) if tier.read_bytes_per_s else None
                if tier.shared and gpu_id:
                    link = self.of_gpu[0][place]
                elif link:
                    self.links.append(link)
                own.append(link)
            self.of_gpu.append(own)

    def gpu(self, gpu_id, batcher, law, starts_at):
        return FetchingGpu(self, gpu_id, batcher, law, starts_at)


class FetchingGpu(PlainGpu):
    def __init__(self, offload, gpu_id, batcher, law, starts_at):
        super().__init__(gpu_id, batcher, law, starts_at)
        self.offload, self.cache, self.links = offload, offload.caches[gpu_id], offload.of_gpu[gpu_id]
        self.arrived = []

    def arrive(self, job, now):
        self.arrived.append(job)
        if self.due is None:
            self.due = now

    def plan(self, now):
        for job in self.arrived:
            self.look(job, now)
        self.arrived = []
        super().plan(now)

    def keep(self, job):
        keys, tokens = self.offload.keys.served(job.request.request_id)
        if self.offload.config.keys == "session":
            tokens = [tokens[0] // self.c.block_size * self.c.block_size]
        self.cache.insert(keys, tokens)

    def look(self, job, now):
        own = len(self.memory.find(job, self.c.block_size)) * self.c.block_size
        keys, tokens = map(list, self.offload.keys.asked(job.request.request_id))
        begins = [0, *accumulate(tokens)]
        first = sum(end <= own for end in begins[1:])
        keys, tokens = keys[first:], tokens[first:]
        found = self.cache.look_up(keys, tokens)
        ends, at = [], begins[first]
        for there in found.tokens:
            at += there
            ends.append(at)
        whole = ends[-1] // self.c.block_size * self.c.block_size if ends else 0
        cuts = [own]
        for end in ends:
            if cuts[-1] < whole:
                cuts.append(min(end, whole))
        given = [end - begin for begin, end in pairwise(cuts)]
        tiers = found.tiers[: len(given)]
        if not given or given[0] <= 0:
            given, tiers, cuts = [], [], [own]
        count = self.count(job, tiers, cuts)
        read_bytes = self.cache.use(keys, Lookup(tiers, given), count).read_bytes
        job.had, job.fetched = own, cuts[count] if count else 0
        reads = [(link, n) for link, n in zip(self.links, read_bytes, strict=True) if link and n]
        if not reads:
            self.waiting.append(job)
            return
        self.cache.pin(keys[:count])
        left = [len(reads)]

        def done(at):
            left[0] -= 1
            if not left[0]:
                self.cache.unpin(keys[:count])
                job.fetch_fs = at - now
                later = (
                    i for i, other in enumerate(self.waiting)
                    if other.started is None and other.request.request_id > job.request.request_id
                )  # fmt: skip
                self.waiting.insert(next(later, len(self.waiting)), job)
                if self.due is None:
                    self.due = at

        for link, n in reads:
            link.read(now, n, done)

    def count(self, job, tiers, cuts):
        """Load so many of the found keys that loading and prefilling the rest take least; of equals the most."""
        there = len(tiers)
        config, size = self.offload.config, self.offload.config.kv_bytes_per_token
        if config.load == "always" or not any(self.links[tier] for tier in tiers):
            return there
        step = -(-there // 32)
        best, chosen = math.inf, 0
        for count in range(there + 1):
            if 0 < count < there and count % step and tiers[count] == tiers[count - 1]:
                continue
            load_s = 0.0
            for place, link in enumerate(self.links):
                mine = sum(cuts[i + 1] - cuts[i] for i in range(count) if tiers[i] == place) * size
                if link and mine:
                    share = 1 / (len(link.reads) + 1)
                    load_s = max(load_s, link.latency / 10**15 + mine / (link.rate * share))
            prompt = job.request.prompt_tokens
            rest_s = self.law.prefill_s(batch_size=1, new_tokens=prompt - cuts[count], cached_tokens=cuts[count])
            if load_s + rest_s <= best:
                best, chosen = load_s + rest_s, count
        return chosen
