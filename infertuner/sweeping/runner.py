"""Running a sweep: what is in the store is read, the rest computed, and arms replicated until they are precise."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from infertuner.errors import ResultsError, ScenarioError
from infertuner.experiments.result import StudyResult
from infertuner.outcomes.stopping import Precision
from infertuner.outcomes.window import Metrics
from infertuner.scenario.study import Study
from infertuner.sweeping.cells import Answer, CellResult, cell_arm, cell_key, code_digest, read_cell
from infertuner.sweeping.engines import Engine, Job
from infertuner.sweeping.store import Store

Place = tuple[int, int]
"""Arm and replication."""
DIED = "the process that computed it died; it may need more memory than there is"


@dataclass
class Sweep:
    """The cells of a study as they become known."""

    study: Study
    engine: Engine
    store: Store
    metrics_asked: Sequence[str] = ()
    """Names that cells must have, so that a slip of the pen shows at the first cell and not at the end."""
    cells: dict[Place, CellResult] = field(default_factory=dict)
    failures: dict[Place, str] = field(default_factory=dict)
    """What went wrong, of the cells that failed."""
    replications: list[int] = field(default_factory=list)
    """How many replications of each arm count; others may have been computed ahead of knowing."""
    imprecise: list[int] = field(default_factory=list)
    """Arms that did not become precise within the most replications allowed."""
    computed: int = 0
    """Simulations that were run; cells that ask the same share one."""
    from_store: int = 0
    """Simulations that were read instead."""
    wall_s: float = 0.0

    def run(self, progress: Callable[[float], None]) -> None:
        """Every arm as often as its scenario says."""
        started = time.perf_counter()
        arms, count = range(len(self.study.arms)), self.study.scenario.replications
        self.replications = [count for _ in arms]
        self._find([(arm, replication) for replication in range(count) for arm in arms], progress)
        self.wall_s += time.perf_counter() - started

    def run_until(self, precision: Precision, most: int, progress: Callable[[float], None]) -> None:
        """Every arm as often as its scenario says, and then until it is precise, at most `most` times.

        Where workers would idle they compute replications ahead. Whether those count depends on the ones before them
        alone, so that the outcome is the same for any number of workers.
        """
        self.run(progress)
        started = time.perf_counter()
        least, known = self.study.scenario.replications, self.study.scenario.replications
        while True:
            reached = [precision.reached_at(self._values(arm, precision.metric, known), least) for arm in self._arms()]
            self.replications = [known if stop is None else stop for stop in reached]
            open_arms = [arm for arm, stop in enumerate(reached) if stop is None]
            if not open_arms or known >= most:
                break
            ahead = min(known + math.ceil(self.engine.workers / len(open_arms)), most)
            self._find([(arm, replication) for replication in range(known, ahead) for arm in open_arms], progress)
            known = ahead
        self.imprecise = open_arms
        self.wall_s += time.perf_counter() - started

    def result(self) -> StudyResult:
        """What was found, as the analyses of studies read it; failed cells are left out."""
        places = [(arm, replication) for arm in self._arms() for replication in range(self.replications[arm])]
        counted = {place: self.cells[place] for place in places if place in self.cells}
        metrics: list[list[Metrics]] = [[] for _ in self._arms()]
        for (arm, _), cell in counted.items():
            metrics[arm].append(cell.metrics)
        return StudyResult(
            self.study,
            metrics,
            requests=sum(cell.requests for cell in counted.values()),
            events=sum(cell.events for cell in counted.values()),
            outside_calls=sum(cell.outside_calls for cell in counted.values()),
            wall_s=self.wall_s,
        )

    def values(self, arm: int, metric: str) -> list[float | None]:
        """One metric of an arm, a value a replication up to the most any arm has; None where there is none."""
        counted = self._values(arm, metric, self.replications[arm])
        return counted + [None] * (max(self.replications) - len(counted))

    def counted_failures(self) -> dict[Place, str]:
        """What went wrong in the cells that count, by arm and replication."""
        return {place: why for place, why in sorted(self.failures.items()) if place[1] < self.replications[place[0]]}

    def _arms(self) -> range:
        return range(len(self.study.arms))

    def _values(self, arm: int, metric: str, count: int) -> list[float | None]:
        cells = (self.cells.get((arm, replication)) for replication in range(count))
        return [None if cell is None else cell.metrics[metric] for cell in cells]

    def _find(self, places: Sequence[Place], progress: Callable[[float], None]) -> None:
        """Read or compute these cells; equal ones are computed once."""
        wanted: dict[str, list[Place]] = {}
        for arm, replication in places:
            key = cell_key(self.study.arms[arm].scenario, replication)
            wanted.setdefault(key, []).append((arm, replication))
        done = 0
        missing: list[str] = []
        for key, same in wanted.items():
            kept = self.store.get(key)
            if kept is None:
                missing.append(key)
            else:
                self._keep(same, kept)
                self.from_store += 1
                done += len(same)
        progress(done / len(places))
        for key, answer in self.engine.compute([self._job(key, wanted[key][0]) for key in missing]):
            self._take(key, wanted[key], answer)
            done += len(wanted[key])
            progress(done / len(places))

    def _job(self, key: str, place: Place) -> Job:
        arm, replication = place
        return key, cell_arm(self.study, self.study.arms[arm]), str(self.study.folder.resolve()), replication

    def _take(self, key: str, same: Sequence[Place], answer: Answer | None) -> None:
        """Store an answer that has just come."""
        code, text, error = (None, None, DIED) if answer is None else answer
        if code is not None and code != code_digest():
            raise ResultsError(
                "sweep: a worker runs other code than this process; install this version of InferTuner on all of "
                "--cluster, or run again if its files have just been changed (finished cells are kept)"
            )
        if text is None:
            self.failures |= dict.fromkeys(same, error or "")
            return
        self.store.put(key, text)
        self._keep(same, read_cell(text))
        self.computed += 1

    def _keep(self, same: Iterable[Place], cell: CellResult) -> None:
        for name in self.metrics_asked:
            if name not in cell.metrics:
                near = difflib.get_close_matches(name, cell.metrics, 1)
                hint = f"; did you mean {near[0]}?" if near else "; docs/metrics.md lists them"
                raise ScenarioError(f"{name}: there is no such metric{hint}")
        self.cells |= dict.fromkeys(same, cell)
