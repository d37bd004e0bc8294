"""Where cells are computed: this process, all cores through joblib, or a Dask cluster through joblib's backend."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeAlias

import joblib

from infertuner.errors import ResultsError
from infertuner.sweeping.cells import Answer, compute_cell

Job: TypeAlias = tuple[str, dict[str, Any], str, int]
"""A cell's key, its arm, its folder and its replication."""
Done: TypeAlias = tuple[str, Answer | None]
"""A cell's key and its answer; None where the process that computed it died of it."""

AHEAD = 3
"""Jobs handed out for each worker, so that none waits for the next."""

IDLE_S = 10
"""When a process without work ends, so that those of a sweep that was killed do not stay."""
CONNECT_WITHIN = "10s"
"""How long a scheduler may take to answer."""


class Engine(Protocol):
    """Computes cells in whatever order suits it."""

    workers: int
    """How many cells it computes at once."""

    def compute(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Every job once, as it is done."""
        ...


class ThisProcess:
    """One cell after the other."""

    workers = 1

    def compute(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Every job once, in order."""
        return map(_answer, jobs)


class Processes:
    """A process for each of `workers` cores, two at least."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def compute(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Every job once. A worker that dies takes the pool with it; joblib makes a new one."""
        return _survive(self._pool, jobs, BrokenProcessPool, AHEAD * self.workers)

    def _pool(self, jobs: Sequence[Job]) -> Iterator[Done]:
        spare = {"inner_max_num_threads": 1, "idle_worker_timeout": IDLE_S}
        with joblib.parallel_config("loky", n_jobs=self.workers, **spare):
            yield from _unordered(jobs)


class Cluster:
    """The workers of a Dask scheduler, which have the same files in the same places."""

    def __init__(self, client: Any, died: type[Exception]) -> None:
        self._client = client
        self._died = died
        self.workers = sum(client.ncores().values())

    def compute(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Every job once. The scheduler hands the jobs of a dead worker to others, until too many died of one."""
        return _survive(self._pool, jobs, self._died, AHEAD * self.workers)

    def _pool(self, jobs: Sequence[Job]) -> Iterator[Done]:
        with joblib.parallel_config(_dask_backend(self._client)):
            yield from _unordered(jobs)


def engine(workers: int | None, address: str | None) -> AbstractContextManager[Engine]:
    """The engine that is asked for: a cluster's address, a number of processes, or one for each core."""
    return _local(joblib.cpu_count() if workers is None else workers) if address is None else _cluster(address)


@contextmanager
def _local(workers: int) -> Iterator[Engine]:
    yield Processes(workers) if workers > 1 else ThisProcess()


@contextmanager
def _cluster(address: str) -> Iterator[Engine]:
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise ResultsError("--cluster: needs Dask; pip install 'infertuner[cluster]'") from None
    try:
        client = distributed.Client(address, timeout=CONNECT_WITHIN)
    except (OSError, ValueError) as error:
        raise ResultsError(f"--cluster {address}: no Dask scheduler answers there ({error})") from None
    with client:
        if not client.ncores():
            raise ResultsError(f"--cluster {address}: the scheduler has no workers; start some with dask worker")
        yield Cluster(client, distributed.KilledWorker)


def _survive(
    pool: Callable[[Sequence[Job]], Iterator[Done]], jobs: Sequence[Job], died: type[Exception], handed_out: int
) -> Iterator[Done]:
    """Every job once, even if one of them kills whoever computes it.

    When workers have died, the jobs that were handed out are the first that are left. Each then goes alone, to find the
    one that cannot be computed, before the others go on together.
    """
    left = {job[0]: job for job in jobs}
    while left:
        try:
            for key, answer in pool(list(left.values())):
                del left[key]
                yield key, answer
        except died:
            for job in list(left.values())[:handed_out]:
                try:
                    ((key, answer),) = pool([job])
                except died:
                    key, answer = job[0], None
                del left[key]
                yield key, answer


def _unordered(jobs: Sequence[Job]) -> Iterator[Done]:
    """Answers as they come; one job a task, so that each is kept as soon as it is done."""
    parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=f"{AHEAD}*n_jobs")
    answers = parallel(joblib.delayed(_answer)(job) for job in jobs)
    try:
        for answer in answers:  # noqa: UP028 - `yield from` would close them before `finally` can
            yield answer
    finally:
        with warnings.catch_warnings(action="ignore"):  # joblib's remark that there was more to compute
            answers.close()


def _answer(job: Job) -> Done:
    key, arm, folder, replication = job
    return key, compute_cell(arm, folder, replication)


def _dask_backend(client: Any) -> Any:
    """joblib's Dask backend, which does not wait for ever for a task that the scheduler has given up.

    joblib (1.6) hands out results through a callback that it makes for tasks that succeed alone.
    """
    backend = importlib.import_module("joblib._dask").DaskDistributedBackend

    class Backend(backend):  # type: ignore[misc, valid-type]
        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: done.exception() and callback(done.exception()))
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, Exception):
                raise out
            return super().retrieve_result_callback(out)

    return Backend(client=client)
