"""What a study found, as its analysis reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from infertuner.outcomes.saturation import saturation
from infertuner.outcomes.statistics import Interval, interval
from infertuner.outcomes.window import Metrics
from infertuner.records import Records
from infertuner.scenario.study import Arm, Study

WITHOUT_HOST_TIME = "public profiles are sums of published kernel times without host time: real steps are longer"
UNANSWERED = {
    "rejected_length": "longer than max_model_len or, without chunked prefill, than max_num_batched_tokens",
    "rejected_kv": "larger than the KV memory of num_gpu_blocks",
    "failed": "lost with their GPUs more often than max_retries allows, or no GPU was left to serve them",
}
"""Why requests end without an answer, by the status that counts them."""

Row: TypeAlias = dict[str, Any]
"""One line of an experiment's table: column to text, number or Interval."""


@dataclass(frozen=True)
class Cell:
    """One arm in one replication, just run."""

    arm_index: int
    replication: int
    records: Records
    metrics: Metrics


@dataclass
class StudyResult:
    """Every metric of every arm in every replication, and what it took to get them."""

    study: Study
    metrics: list[list[Metrics]]
    """Indexed by arm, then replication."""
    distributions: list[list[int]] = field(default_factory=list)
    """Requests finished by each GPU in the first replication, indexed by arm."""
    courses: list[Any] = field(default_factory=list)
    """How each arm's first run went over time, where its analysis asks; indexed by arm."""
    requests: int = 0
    events: int = 0
    outside_calls: int = 0
    """Latencies asked for outside a profile's validity box; above 0 only where the scenario allows it."""
    wall_s: float = 0.0

    @property
    def arms(self) -> list[Arm]:
        """The arms, in the order of the rows of every table."""
        return self.study.arms

    def values(self, arm_index: int, metric: str) -> list[float | None]:
        """One metric of one arm, a value per replication."""
        return [metrics.get(metric) for metrics in self.metrics[arm_index]]

    def interval(self, arm_index: int, metric: str) -> Interval:
        """One metric of one arm: mean and 95 % interval over replications."""
        return interval(self.values(arm_index, metric))

    def requests_of(self, arm_index: int) -> int:
        """Requests of one run of an arm."""
        return int(self.metrics[arm_index][0]["requests"] or 0)

    def intervals(self, arm_index: int, *metrics: str) -> Row:
        """Several metrics of one arm as columns of a table."""
        return {metric: self.interval(arm_index, metric) for metric in metrics}

    def latency_sources(self) -> list[str]:
        """Where the seconds came from, in words; usually one source for all arms."""
        return list(dict.fromkeys(arm.scenario.latency.source() for arm in self.arms))

    def warnings(self) -> list[str]:
        """What a reader must know before using the numbers."""
        sources = self.latency_sources()
        guesses = [source for source in sources if source.startswith("extrapolated")]
        notes = [f"latency is {source}; nobody measured this hardware with this model" for source in guesses]
        if any(source.startswith("public") for source in sources):
            notes.append(WITHOUT_HOST_TIME)
        if self.outside_calls:
            notes.append(f"{self.outside_calls:,} latencies were asked for outside the measured range and extrapolated")
        for status, why in UNANSWERED.items():
            if lost := self._share(status):
                notes.append(f"{status}: {lost} of requests: {why}")
        served = [index for index, arm in enumerate(self.arms) if arm.scenario.driver == "serving"]
        if silent := [index for index in served if self.interval(index, "e2e_mean_s").mean is None]:
            notes.append(f"no latencies: {self._arms(silent)}: nobody came after warmup_s and had an answer by the end")
        if full := [index for index in range(len(self.arms)) if self.saturation(index) == "saturated"]:
            arms = self._arms(full)
            notes.append(f"saturated: {arms}: arrivals outpace service, so latencies depend on when the run stopped")
        return notes

    def _arms(self, indices: Sequence[int]) -> str:
        if len(self.arms) == 1:
            return "the arm"
        return f"arm{'s'[: len(indices) - 1]} {', '.join(map(str, indices))}"

    def _share(self, status: str) -> str:
        """Which share of its requests ended so, of each arm that has any; empty where none has."""
        means = {index: self.interval(index, status).mean for index in range(len(self.arms))}
        lost = {index: mean / self.requests_of(index) for index, mean in means.items() if mean}
        return ", ".join(f"{self._arms([index])}: {100 * share:.3g} %" for index, share in lost.items())

    def saturation(self, arm_index: int) -> str | None:
        """Whether an arm is past its capacity; None for closed loops and replays, which cannot be."""
        if self.arms[arm_index].scenario.driver == "replay":
            return None
        return saturation(self.metrics[arm_index])

    def labels(self, arm_index: int, *shown_elsewhere: str) -> Row:
        """How an arm differs from the others, a column a dotted key, by the shortest ending that tells keys apart.

        A key that only other arms set has the value it has in the file, or its default.
        """
        return self._named(self.parameters(arm_index), shown_elsewhere)

    def parameters(self, arm_index: int) -> Row:
        """The value an arm has of every dotted key in which arms differ, as written."""
        return {key: self._value(self.arms[arm_index], key) for key in self._varied}

    def condition(self, arm_index: int, axis: str) -> Row:
        """What an arm was run with besides its place on `axis`: arms with equal conditions make one line of a figure.

        Where `arms` lists points of the axis, everything such an entry sets belongs to the point, as in weak scaling.
        """
        arm = self.arms[arm_index]
        return self._named(arm.swept, (axis,)) if axis in arm.variant else self.labels(arm_index, axis)

    @cached_property
    def _varied(self) -> list[str]:
        """Every dotted key in which arms differ."""
        return list(dict.fromkeys(key for arm in self.arms for key in arm.parameters))

    def _value(self, arm: Arm, key: str) -> Any:
        return arm.parameters[key] if key in arm.parameters else _written(self.study.raw, arm.scenario, key)

    def _named(self, values: Mapping[str, Any], without: Sequence[str]) -> Row:
        every = set(self._varied)
        return {_short(key, every): self._label(key, value) for key, value in values.items() if key not in without}

    def _label(self, key: str, value: Any) -> Any:
        """A value in words; of parts whose kinds tell the arms apart, the kind alone."""
        return _kind(value) if key in self._told_by_kind else _label(value)

    @cached_property
    def _told_by_kind(self) -> set[str]:
        """Varied keys whose values differ in kind wherever they differ."""
        columns = {key: [self._value(arm, key) for arm in self.arms] for key in self._varied}
        return {
            key
            for key, values in columns.items()
            if len({str(_kind(value)) for value in values}) == len({str(_label(value)) for value in values})
        }


def _written(raw: Any, parsed: Any, key: str) -> Any:
    """The value of a dotted key as it stands in the file, or else its default."""
    for word in key.split("."):
        raw = raw.get(word) if isinstance(raw, Mapping) else None
        parsed = getattr(parsed, word, None)
    return raw if raw is not None else "none" if parsed is None else getattr(parsed, "kind", parsed)


def _short(key: str, every: set[str]) -> str:
    """The shortest ending of a dotted key that no other key has: `gpus` for `cluster.gpus`."""
    words = key.split(".")
    endings = (".".join(words[start:]) for start in range(len(words) - 1, -1, -1))
    return next((end for end in endings if sum(f".{other}".endswith(f".{end}") for other in every) == 1), key)


def _kind(value: Any) -> Any:
    """The kind of a part, or of the one part within it that has a kind, as a tier's controller."""
    if not isinstance(value, Mapping):
        return _label(value)
    kinds = [part["kind"] for part in (value, *value.values()) if isinstance(part, Mapping) and "kind" in part]
    return kinds[0] if "kind" in value or len(kinds) == 1 else _label(value)


def _label(value: Any) -> Any:
    """A part as `kind(key=value, ...)`, a scalar as itself."""
    if not isinstance(value, Mapping):
        return value if isinstance(value, str | int | float) else str(value)
    rest = ", ".join(f"{key}={_label(inner)}" for key, inner in value.items() if key != "kind")
    return f"{value.get('kind', '')}({rest})" if rest else str(value.get("kind", ""))
