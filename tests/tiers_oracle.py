"""Tiers written down as plainly as possible: lists searched from end to end, for tests to compare with."""

from __future__ import annotations

from infertuner.cache.tiers.config import Tiered
from infertuner.cache.tiers.keys import keys_of


class NaiveTier:
    """Entries [key, tokens], the least recently used first."""

    def __init__(self, capacity, bytes_per_token, in_bytes):
        self.capacity, self.bytes_per_token, self.in_bytes = capacity, bytes_per_token, in_bytes
        self.entries = []
        self.requests = {}
        self.hits = self.written = self.evictions = self.evicted = self.removed = 0

    def size(self, tokens):
        return tokens * self.bytes_per_token if self.in_bytes else 1

    def used(self):
        return sum(self.size(tokens) for _, tokens in self.entries)

    def held(self):
        return sum(tokens for _, tokens in self.entries)

    def find(self, key):
        return next((entry for entry in self.entries if entry[0] == key), None)

    def touch(self, key):
        entry = self.find(key)
        if entry:
            self.entries.remove(entry)
            self.entries.append(entry)
        return entry is not None

    def drop(self, entry):
        self.entries.remove(entry)
        self.requests.pop(entry[0], None)

    def put(self, key, tokens):
        entry = self.find(key)
        before = entry[1] if entry else 0
        if tokens <= before:
            return []
        if self.size(tokens) > self.capacity:
            if entry:
                self.drop(entry)
                self.evictions += 1
                self.evicted += before
            return [[key, tokens]]
        if entry:
            entry[1] = tokens
        else:
            entry = [key, tokens]
            self.entries.append(entry)
        self.written += tokens - before
        return self.make_room(entry)

    def make_room(self, keep=None):
        gone = []
        while self.used() > self.capacity:
            victim = next(entry for entry in self.entries if entry is not keep)
            self.drop(victim)
            self.evictions += 1
            self.evicted += victim[1]
            gone.append(victim)
        return gone


class NaiveTiers:
    """What the tiers of one GPU do, all of them LRU."""

    def __init__(self, config: Tiered, bytes_per_token):
        self.config = config
        self.tiers = [NaiveTier(tier.capacity, bytes_per_token, tier.in_bytes) for tier in config.tiers.values()]

    def look_up(self, keys, tokens):
        found = []
        for key, asked in zip(keys, tokens, strict=True):
            here = [(place, tier.find(key)) for place, tier in enumerate(self.tiers) if tier.find(key)]
            if not here:
                break
            found.append((here[0][0], min(asked, here[0][1][1])))
        return found

    def demote(self, place, gone):
        if self.config.write == "back" and place + 1 < len(self.tiers):
            for key, tokens in gone:
                self.demote(place + 1, self.tiers[place + 1].put(key, tokens))

    def insert(self, key, tokens):
        first, *slower = self.tiers
        if self.config.placement == "exclusive":
            if not first.touch(key):
                here = next((tier for tier in slower if tier.find(key)), None)
                if here:
                    entry = here.find(key)
                    here.drop(entry)
                    here.removed += entry[1]
                    tokens = max(tokens, entry[1])
            self.demote(0, first.put(key, tokens))
            return
        for tier in self.tiers:
            tier.touch(key)
        if self.config.write == "back":
            self.demote(0, first.put(key, tokens))
            return
        first.put(key, tokens)
        for faster, tier in zip(self.tiers, slower, strict=False):
            if faster.find(key):
                faster.requests[key] = faster.requests.get(key, 0) + 1
            due = self.config.write == "through" or faster.requests.get(key, 0) >= self.config.selective_uses
            if due or tier.find(key):
                tier.put(key, tokens)


def naive_replay(requests, config, at_s, bytes_per_token):
    """For each request (slowest tier, tokens); the tiers; and for each tier the integral of the tokens it held."""
    tiers, keys = NaiveTiers(config, bytes_per_token), keys_of(requests, config)
    rows, held_token_s, before_s = [], [0.0] * len(tiers.tiers), 0.0
    for row, now_s in enumerate(at_s.tolist()):
        for place, tier in enumerate(tiers.tiers):
            held_token_s[place] += tier.held() * (now_s - before_s)
        before_s = now_s
        found = tiers.look_up(*keys.asked(row))
        for place, _ in found:
            tiers.tiers[place].hits += 1
        rows.append((max((place for place, _ in found), default=-1), sum(tokens for _, tokens in found)))
        served = keys.served(row)
        for key, tokens in list(zip(*served, strict=True))[::-1]:
            tiers.insert(key, tokens)
    return rows, tiers.tiers, held_token_s
