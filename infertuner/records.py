"""What happened: columns the simulation appends to and outcomes read, and nothing that computes.

Times are seconds on the simulated clock; a missing value is NaN in float columns and never 0. Whole numbers take 4
bytes where 2**31 is far beyond them, which is half of a long run's memory; widen them before multiplying.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import IntEnum

from infertuner.sources.requests import Requests


class Status(IntEnum):
    """How a request ended."""

    UNFINISHED = 0
    """Still waiting or running at the horizon, or never sent because of it."""
    FINISHED = 1
    REJECTED_LENGTH = 2
    """Prompt and output exceed `max_model_len`; refused at the door."""
    REJECTED_KV = 3
    """Prompt and output need more KV blocks than a GPU has; refused at the door."""
    FAILED = 4
    """Its GPU died and it was not, or not again, retried."""


class CacheLevel(IntEnum):
    """Where a request's prefix was found."""

    NONE = 0
    """No cache in this scenario, or the request never started."""
    LOCAL = 1
    REMOTE = 2
    MISS = 3


def _nans(n: int) -> array[float]:
    return array("d", [float("nan")]) * n


def _zeros(n: int, typecode: str = "i") -> array[int]:
    return array(typecode, [0]) * n


@dataclass
class RequestColumns:
    """One row a request, indexed by request id; the columns the workload does not already know."""

    n: int
    gpu_id: array[int] = field(init=False)
    """Which GPU it was routed to; -1 until then."""
    arrived_at_s: array[float] = field(init=False)
    started_at_s: array[float] = field(init=False)
    """When its batch began on the GPU (after any deliberate batching delay)."""
    first_token_at_s: array[float] = field(init=False)
    finished_at_s: array[float] = field(init=False)
    batch_size: array[int] = field(init=False)
    cache_level: array[int] = field(init=False)
    cached_tokens: array[int] = field(init=False)
    fetch_s: array[float] = field(init=False)
    """Seconds spent fetching its prefix from a slower tier, or refetching it after a miss; 0 without."""
    status: array[int] = field(init=False)
    """A `Status`; whoever ends a request writes it."""
    routed_at_s: array[float] = field(init=False)
    """When the router handed it to its (last) GPU."""
    prefill_s: array[float] = field(init=False)
    """Of the iterations that prefilled it before its first token, the share of its own tokens: seconds of its own."""
    others_prefill_s: array[float] = field(init=False)
    """Of the same iterations, the share of other requests' prefill tokens."""
    others_decode_s: array[float] = field(init=False)
    """Of the same iterations, the share of decoding sequences."""
    preemptions: array[int] = field(init=False)
    """How often it lost its KV cache to others and had to be computed again."""
    retries: array[int] = field(init=False)
    """How often it was sent to another GPU because its own died."""
    cache_tier: array[int] = field(init=False)
    """The slowest tier that gave it KV, an index into `Records.tiers`' names; -1 for none."""
    prefill_saved_s: array[float] = field(init=False)
    """By the latency law, what prefilling it alone would have taken longer without what tiers gave it."""

    def __post_init__(self) -> None:
        self.gpu_id = array("i", [-1]) * self.n
        self.arrived_at_s, self.started_at_s = _nans(self.n), _nans(self.n)
        self.first_token_at_s, self.finished_at_s = _nans(self.n), _nans(self.n)
        self.batch_size, self.cached_tokens = _zeros(self.n), _zeros(self.n)
        self.fetch_s = array("d", [0.0]) * self.n
        self.cache_level, self.status = _zeros(self.n, "b"), _zeros(self.n, "b")
        self.preemptions, self.retries = _zeros(self.n), _zeros(self.n)
        self.routed_at_s = _nans(self.n)
        self.prefill_s, self.others_prefill_s = array("d", [0.0]) * self.n, array("d", [0.0]) * self.n
        self.others_decode_s = array("d", [0.0]) * self.n
        self.cache_tier, self.prefill_saved_s = array("b", [-1]) * self.n, array("d", [0.0]) * self.n

    def begin_again(self, row: int) -> None:
        """Forget what a GPU that died did of a request; arrival, retries and preemptions remain."""
        self.gpu_id[row] = -1
        for column in (self.started_at_s, self.first_token_at_s, self.routed_at_s):
            column[row] = float("nan")
        for column in (self.fetch_s, self.prefill_s, self.others_prefill_s, self.others_decode_s, self.prefill_saved_s):
            column[row] = 0.0
        self.cache_tier[row] = -1
        self.batch_size[row] = self.cache_level[row] = self.cached_tokens[row] = 0


@dataclass
class StepColumns:
    """One row a batch run on a GPU, in the order in which batches ended."""

    gpu_id: array[int] = field(default_factory=lambda: array("q"))
    started_at_s: array[float] = field(default_factory=lambda: array("d"))
    batch_size: array[int] = field(default_factory=lambda: array("q"))
    fetch_s: array[float] = field(default_factory=lambda: array("d"))
    """Seconds the GPU stood still for the cache, when the scenario says that fetching occupies it."""
    prefill_s: array[float] = field(default_factory=lambda: array("d"))
    decode_s: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class SegmentColumns:
    """One row a stretch of equal iterations of a continuous engine: a single iteration with prefill, or many without.

    Iteration j of a row lasts (`first_s` + j x `rise_s`) x the noise multiplier of iteration `iteration` + j.
    Everything per token (inter-token latencies, batch sizes, KV usage over time) is expanded from rows afterwards.
    """

    gpu_id: array[int] = field(default_factory=lambda: array("i"))
    started_at_s: array[float] = field(default_factory=lambda: array("d"))
    ended_at_s: array[float] = field(default_factory=lambda: array("d"))
    iteration: array[int] = field(default_factory=lambda: array("q"))
    """Number of the first iteration on this GPU, for the noise."""
    iterations: array[int] = field(default_factory=lambda: array("i"))
    first_s: array[float] = field(default_factory=lambda: array("d"))
    rise_s: array[float] = field(default_factory=lambda: array("d"))
    decodes: array[int] = field(default_factory=lambda: array("i"))
    """Sequences that decode one token in each iteration."""
    prefills: array[int] = field(default_factory=lambda: array("i"))
    """Sequences of which a chunk is prefilled; such a row has one iteration."""
    prefill_tokens: array[int] = field(default_factory=lambda: array("i"))
    kv_entries: array[int] = field(default_factory=lambda: array("i"))
    """Entries the decodes of the first iteration read."""
    kv_blocks: array[int] = field(default_factory=lambda: array("i"))
    """Blocks in use, running requests' only, during the last iteration."""
    waiting: array[int] = field(default_factory=lambda: array("i"))
    """Requests waiting on this GPU when the row began."""


class GpuState(IntEnum):
    """What a GPU of the cluster is doing."""

    DOWN = 0
    """Not there: never started, failed, or let go."""
    STARTING = 1
    """Paid for and not serving yet."""
    SERVING = 2
    DRAINING = 3
    """Finishing what it holds; takes no requests."""


@dataclass
class FleetColumns:
    """One row a change of a GPU's state; a GPU with no row yet is down."""

    gpu_id: array[int] = field(default_factory=lambda: array("q"))
    at_s: array[float] = field(default_factory=lambda: array("d"))
    state: array[int] = field(default_factory=lambda: array("q"))
    """A `GpuState`."""

    def note(self, gpu_id: int, at_s: float, state: GpuState) -> None:
        """Add a row."""
        self.gpu_id.append(gpu_id)
        self.at_s.append(at_s)
        self.state.append(state)


@dataclass
class StallColumns:
    """One row a gap between two tokens of a request that is no single iteration: it was preempted."""

    request_id: array[int] = field(default_factory=lambda: array("q"))
    last_token_at_s: array[float] = field(default_factory=lambda: array("d"))
    next_token_at_s: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class CacheSizeColumns:
    """One row a change of a local cache's size, the initial size included."""

    gpu_id: array[int] = field(default_factory=lambda: array("q"))
    at_s: array[float] = field(default_factory=lambda: array("d"))
    entries: array[int] = field(default_factory=lambda: array("q"))


@dataclass
class TierUse:
    """What one tier did over a run or replay, of one GPU or of all that share it; sizes are bytes."""

    name: str
    gpu_id: int
    """Whose it is; -1 where all share it."""
    capacity_bytes: int | None
    """The last one; None for a tier that counts entries."""
    hits: int = 0
    """Lookups of keys it held and faster tiers did not."""
    hit_tokens: int = 0
    """Tokens of prefixes it gave; what was found and recomputed because that was faster is not among them."""
    recomputed_tokens: int = 0
    """Tokens found here and recomputed because that was faster."""
    evictions: int = 0
    evicted_bytes: int = 0
    written_bytes: int = 0
    """Into this tier, from the GPU or from a faster tier."""
    read_bytes: int = 0
    """Out of this tier, towards the GPU."""
    link_busy_s: float = 0.0
    """Seconds in which at least one read was on its link."""
    held_byte_s: float = 0.0
    """Integral over time of the bytes held."""
    capacity_byte_s: float = 0.0
    """Integral over time of its capacity: what is paid for."""
    resizes: int = 0
    infeasible_ticks: int = 0
    """Decisions at which its controller said that its aim cannot be reached."""
    ticks: int = 0
    """Decisions of its controller."""


@dataclass
class CapacityColumns:
    """One row a change of a tier's capacity, the first one included."""

    gpu_id: array[int] = field(default_factory=lambda: array("q"))
    tier: array[int] = field(default_factory=lambda: array("q"))
    at_s: array[float] = field(default_factory=lambda: array("d"))
    capacity: array[float] = field(default_factory=lambda: array("d"))
    """In the unit of the tier."""
    feasible: array[int] = field(default_factory=lambda: array("b"))
    """0 where the controller said that its aim cannot be reached."""


@dataclass
class Records:
    """Everything one simulated run leaves behind."""

    asked: Requests
    requests: RequestColumns
    steps: StepColumns
    cache_sizes: CacheSizeColumns
    num_gpus: int
    ended_at_s: float
    """Simulated time at which the run stopped: the last completion, or the horizon."""
    events: int
    """Simulation events processed."""
    cache_logs: list[array[int]] = field(default_factory=list)
    """What each GPU's cache went through, in order: a request id for its lookup, ~id for its insertion when served."""
    tiers: list[TierUse] = field(default_factory=list)
    """What every tier of kind `tiered` did, in the order of looking, GPU after GPU."""
    capacities: CapacityColumns = field(default_factory=CapacityColumns)
    outside_calls: int = 0
    """Answers of the latency model beyond what was measured."""
    segments: SegmentColumns = field(default_factory=SegmentColumns)
    """What continuous engines did; empty for static batches, which fill `steps`."""
    stalls: StallColumns = field(default_factory=StallColumns)
    fleet: FleetColumns = field(default_factory=FleetColumns)
    """When which GPU came and went; without rows all `num_gpus` serve from the beginning to the end."""
    noise_permille: list[int] = field(default_factory=list)
    """The multipliers behind `SegmentColumns.iteration`, repeating; empty when there is no noise."""
    kv_blocks: list[int] = field(default_factory=list)
    """KV blocks of each GPU, indexed by GPU id; 0 where batches are static."""
    kv_block_tokens: list[int] = field(default_factory=list)
    """Tokens a KV block of each GPU holds, indexed by GPU id; 0 where batches are static."""
