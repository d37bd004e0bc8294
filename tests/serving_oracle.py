"""An engine as plain as it can be, written from vLLM's rules: the oracle for the one that jumps.

One iteration at a time, one object a block, one countdown a request, lists everywhere; it shares no code with the
engine under test beyond routers and latency laws. Time is in femtoseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from infertuner.latency.lines import DecodeLine
from infertuner.latency.model import Chunk
from infertuner.latency.noise import NoiseRing
from infertuner.serving.request import Request


@dataclass
class Law:
    """A latency law for tests. `decode_s(batch)` are the corners (KV entries, seconds) of one decode iteration."""

    corners: object
    token_s: float = 30e-6
    pair_s: float = 0.0
    noise: NoiseRing | None = None
    low: int = 0
    high: int = 10**9
    outside_calls: int = 0

    def decode_line(self, batch_size):
        return DecodeLine(batch_size, self.corners(batch_size), self.low, self.high)

    def iteration_s(self, *, chunks, decodes, kv_entries):
        seconds = self.decode_line(decodes).step_ps(kv_entries) / 1e12 if decodes else 4e-3
        for chunk in chunks:
            assert chunk.new_tokens > 0
            seconds += chunk.new_tokens * (self.token_s + self.pair_s * (chunk.cached_tokens + chunk.new_tokens / 2))
        return seconds

    def prefill_s(self, *, batch_size, new_tokens, cached_tokens):
        assert batch_size == 1
        return self.iteration_s(chunks=[Chunk(cached_tokens, new_tokens)], decodes=0, kv_entries=0)

    def note_outside(self, *, batch_size, kv_entries, steps):
        self.outside_calls += steps


@dataclass(eq=False)
class Slot:
    """A KV block."""

    name: object = None
    refs: int = 0


@dataclass(eq=False)
class Job:
    request: Request
    output: int
    priority: int
    names: list
    said: int = 0
    computed: int = 0
    blocks: list = field(default_factory=list)
    findable: int | None = None
    """Blocks it may look for; None is all."""
    started: int | None = None
    first: int | None = None
    finished: int | None = None
    gpu: int | None = None
    refused: int | None = None
    cached: int | None = None
    preemptions: int = 0
    prefills: bool = True
    """Whether it has yet to catch up with what it had when it was admitted."""
    had: int = 0
    fetched: int = 0
    """Tokens at the start of its prompt that tiers gave it, all but the first `had` ones."""
    fetch_fs: int = 0

    @property
    def total(self):
        return self.request.prompt_tokens + self.said

    @property
    def rank(self):
        return self.priority, self.request.arrived_at_s, self.request.request_id

    def name(self, index):
        if isinstance(self.names, list):
            return self.names[index] if index < len(self.names) else ("own", self.request.request_id, index)
        return ("session", self.names, index)


class Memory:
    def __init__(self, blocks, caching):
        self.free = [Slot() for _ in range(blocks)]
        self.all = list(self.free)
        self.caching = caching
        self.named = {}

    def pop(self):
        slot = self.free.pop(0)
        assert slot.refs == 0
        self.unname(slot)
        slot.refs = 1
        return slot

    def unname(self, slot):
        if slot.name is not None:
            self.named[slot.name].remove(slot)
            slot.name = None

    def give_name(self, slot, name):
        if self.caching:
            slot.name = name
            self.named.setdefault(name, []).append(slot)

    def find(self, job, size):
        limit = (job.total - 1) // size
        if job.findable is not None:
            limit = min(limit, job.findable)
        found = []
        while self.caching and len(found) < limit:
            slots = self.named.get(job.name(len(found)))
            if not slots:
                break
            found.append(slots[0])
        return found

    def give_back(self, blocks):
        for slot in reversed(blocks):
            slot.refs -= 1
            if slot.refs == 0:
                self.free.append(slot)

    def check(self, running):
        held = {}
        for job in running:
            for slot in job.blocks:
                held[slot] = held.get(slot, 0) + 1
        for slot in self.all:
            assert slot.refs == held.get(slot, 0)
        assert len(self.free) == sum(slot.refs == 0 for slot in self.all)
        assert len(set(map(id, self.free))) == len(self.free)


class PlainGpu:
    def __init__(self, gpu_id, batcher, law, starts_at):
        self.gpu_id, self.c, self.law = gpu_id, batcher, law
        v0 = batcher.kind == "prefill_first"
        self.v0 = v0
        usable = batcher.num_gpu_blocks - (0 if v0 else 1)
        self.memory = Memory(usable, not v0 and batcher.enable_prefix_caching)
        self.reserve = int(batcher.watermark * usable)
        self.priority = not v0 and batcher.scheduling_policy == "priority"
        self.waiting, self.running = [], []
        self.due = starts_at
        """When its iteration ends, or when it looks at its queue; None is idle."""
        self.work = None
        self.number = 0
        self.rows = []

    def blocks_of(self, tokens):
        return -(-tokens // self.c.block_size)

    def refuses(self, job):
        prompt, output = job.request.prompt_tokens, job.output
        if self.c.max_model_len and prompt + output > self.c.max_model_len:
            return 2
        if (self.v0 or not self.c.enable_chunked_prefill) and prompt + output > self.c.max_num_batched_tokens:
            return 2
        if self.blocks_of(prompt + output - 1) + self.reserve > len(self.memory.all):
            return 3
        return None

    def arrive(self, job, now):
        self.waiting.append(job)
        if self.due is None:
            self.due = now

    def head(self):
        return min(self.waiting, key=lambda job: job.rank) if self.priority else self.waiting[0]

    def allocate(self, job, tokens):
        """Blocks for `tokens` more, and names for those that become full."""
        need = self.blocks_of(job.computed + tokens) - len(job.blocks)
        if need > len(self.memory.free):
            return False
        job.blocks += [self.memory.pop() for _ in range(need)]
        for index in range((job.computed + tokens) // self.c.block_size):
            if job.blocks[index].name is None:
                self.memory.give_name(job.blocks[index], job.name(index))
        return True

    def preempt(self, job, now):
        full = job.computed // self.c.block_size
        for slot in job.blocks[full:]:
            self.memory.unname(slot)  # was to be computed in this iteration and will not be
        job.fetched = 0
        if job.findable is not None:
            job.findable = max(job.request.prefix_tokens // self.c.block_size, full)
        self.memory.give_back(job.blocks)
        job.blocks, job.computed, job.prefills = [], 0, True
        job.preemptions += 1
        self.waiting.insert(0, job)

    def schedule_running(self, now):
        budget, index, plan, preempted = self.c.max_num_batched_tokens, 0, {}, False
        limit = self.c.long_prefill_token_threshold
        while index < len(self.running) and budget > 0:
            job = self.running[index]
            tokens = job.total - job.computed
            if limit and tokens > limit:
                tokens = limit
            tokens = min(tokens, budget)
            victim = None
            while not self.allocate(job, tokens):
                victim = max(self.running, key=lambda other: other.rank) if self.priority else self.running[-1]
                at = self.running.index(victim)
                self.running.remove(victim)
                if victim in plan:
                    budget += plan.pop(victim)
                    index -= 1
                else:
                    assert at >= index
                self.preempt(victim, now)
                preempted = True
                if victim is job:
                    break
            if victim is job:
                break
            plan[job] = tokens
            budget -= tokens
            index += 1
        return plan, budget, preempted

    def admit(self, plan, budget, now):
        limit = self.c.long_prefill_token_threshold
        while self.waiting and budget > 0 and len(self.running) < self.c.max_num_seqs:
            job = self.head()
            found = self.memory.find(job, self.c.block_size)
            computed = len(found) * self.c.block_size
            if computed >= job.had:
                computed = max(computed, job.fetched)
            tokens = job.total - computed
            if limit and tokens > limit:
                tokens = limit
            if tokens > budget and (self.v0 or not self.c.enable_chunked_prefill):
                break
            tokens = min(tokens, budget)
            upto = job.total if self.c.scheduler_reserve_full_isl else computed + tokens
            need = self.blocks_of(upto) - len(found) + sum(slot.refs == 0 for slot in found)
            if need + self.reserve > len(self.memory.free):
                break
            self.waiting.remove(job)
            for slot in found:
                if slot.refs == 0:
                    self.memory.free.remove(slot)
                slot.refs += 1
            if job.cached is None:
                job.cached = computed
            job.blocks, job.computed = list(found), computed
            assert self.allocate(job, tokens)
            if job.started is None:
                job.started = now
            self.running.append(job)
            plan[job] = tokens
            budget -= tokens

    def schedule(self, now):
        if self.v0:
            plan = {}
            self.admit(plan, self.c.max_num_batched_tokens, now)
            if plan:
                return plan, False
            plan, _, preempted = self.schedule_running(now)
            return plan, preempted
        plan, budget, preempted = self.schedule_running(now)
        if not preempted:
            self.admit(plan, budget, now)
        return plan, preempted

    def boundary(self, now):
        """End the iteration under way; the requests answered by it, in order. Then `plan` must follow."""
        done = []
        if self.work:
            for job, tokens in self.work.items():
                job.computed += tokens
                if job.computed == job.total:
                    job.said += 1
                    job.prefills = False
                    if job.first is None:
                        job.first = now
                    if job.said == job.output:
                        done.append(job)
            self.number += 1
            self.work = None
            for job in done:
                job.finished = now
                self.running.remove(job)
                self.memory.give_back(job.blocks)
                job.blocks = []
        return done

    def keep(self, job):
        """Nothing remains of an answered request but its blocks."""

    def plan(self, now):
        while True:
            plan, preempted = self.schedule(now)
            if plan or not preempted:
                break
        self.memory.check(self.running)
        if not plan:
            assert not self.running
            assert not self.waiting
            self.due = None
            return
        chunks = [Chunk(job.computed, tokens) for job, tokens in plan.items() if job.prefills]
        decodes = len(plan) - len(chunks)
        kv = sum(job.computed + 1 for job in plan if not job.prefills)
        if chunks:
            ps = max(1, round(self.law.iteration_s(chunks=chunks, decodes=decodes, kv_entries=kv) * 1e12))
        else:
            ps = self.law.decode_line(decodes).step_ps(kv)
        permille = self.law.noise.permille[self.number % len(self.law.noise.permille)] if self.law.noise else 1000
        self.due = now + ps * permille
        self.work = plan
        used = sum(slot.refs > 0 for slot in self.memory.all)
        tokens = sum(chunk.new_tokens for chunk in chunks)
        self.rows.append((now, self.due, self.number, decodes, len(chunks), tokens, kv, used, len(self.waiting)))


def named_blocks(asked, size):
    """What each request's blocks are called: a list, or a session."""
    if asked.blocks is not None:
        ratio = asked.blocks.block_tokens // size
        ids, ends = asked.blocks.ids.tolist(), asked.blocks.offsets.tolist()
        return [
            [("listed", name, part) for name in ids[ends[i] : ends[i + 1]] for part in range(ratio)]
            for i in range(len(asked))
        ]
    if asked.prefix_tokens.max() >= size:
        return list(asked.session_id)
    return [[] for _ in range(len(asked))]


class Front:
    """Clients and router."""

    def __init__(self, asked, cluster, gpus):
        self.asked, self.router, self.gpus, self.held, self.jobs = asked, cluster.router, gpus, [], {}
        self.router.start(self)
        for gpu_id in range(len(gpus)):
            self.router.join(gpu_id)
        self.size = cluster.batcher.block_size
        self.names = named_blocks(asked, self.size)
        self.arrivals = [int(ns) * 10**6 for ns in np.rint(asked.pacing.arrived_at_s * 1e9)]

    def next_at(self):
        return self.arrivals[len(self.jobs)] if len(self.jobs) < len(self.arrivals) else math.inf

    def send(self, now):
        asked, row = self.asked, len(self.jobs)
        tokens = int(asked.prompt_tokens[row]), int(asked.prefix_tokens[row])
        request = Request(row, now / 1e15, asked.session_id[row], *tokens)
        priority = int(asked.priority[row]) if asked.priority is not None else 0
        job = self.jobs[row] = Job(request, int(asked.output_tokens[row]), priority, self.names[row])
        if not isinstance(self.names[row], list):
            job.findable = request.prefix_tokens // self.size
        self.held.append(job)
        self.dispatch(now)

    def dispatch(self, now):
        while self.held:
            at = self.router.choose(self.held[0].request)
            if at is None:
                return
            job, gpu = self.held.pop(0), self.gpus[at]
            job.gpu, job.refused = at, gpu.refuses(job)
            if job.refused:
                self.router.finished(at)
            else:
                gpu.arrive(job, now)

    def answered(self, gpu, now):
        self.router.finished(gpu.gpu_id)
        self.dispatch(now)


def simulate(asked, cluster, law, offload=None):
    """Every job of an open-loop workload, and the rows of every GPU.

    offload: makes GPUs that have tiers, `offload.gpu(...)`, and knows their links.
    """
    starts_at = round(cluster.startup_s * 10**15)
    make = PlainGpu if offload is None else offload.gpu
    gpus = [make(i, cluster.batcher, law, starts_at) for i in range(cluster.gpus)]
    links = [] if offload is None else offload.links
    front = Front(asked, cluster, gpus)
    while True:
        busy = [gpu for gpu in gpus if gpu.due is not None]
        now = min([front.next_at(), *(link.next_at() for link in links), *(gpu.due for gpu in busy)])
        if now == math.inf:
            return front.jobs, gpus
        if front.next_at() == now:
            front.send(now)
            continue
        link = next((link for link in links if link.next_at() == now), None)
        if link is not None:
            link.go_on(now)
            continue
        gpu = min((gpu for gpu in busy if gpu.due == now), key=lambda gpu: gpu.gpu_id)
        done = gpu.boundary(now)
        for job in done:
            gpu.keep(job)
        for _ in done:
            front.answered(gpu, now)
        gpu.plan(now)
