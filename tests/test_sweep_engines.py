"""The same bytes from every engine, whatever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from infertuner.scenario import yaml12
from infertuner.sweep import main
from infertuner.sweeping import engines, runner
from infertuner.sweeping.engines import Processes

CELLS = 32
WAIT_S = 60.0
"""For what happens within seconds unless something is wrong."""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A scenario of 32 cells of some 30 ms, and its tables as one process writes them."""
    folder = tmp_path_factory.mktemp("sweep")
    scenario = {
        "name": "sweep",
        "replications": 4,
        "workload": {
            "kind": "synthetic",
            "requests": 3000,
            "arrivals": {"kind": "poisson", "per_s": 1},
            "prompt_tokens": {"kind": "constant", "tokens": 10},
            "output_tokens": {"kind": "uniform", "min_tokens": 1, "max_tokens": 20},
        },
        "cluster": {"gpus": 2, "router": {"kind": "least_outstanding"}, "batcher": {"kind": "none"}},
        "latency": {"kind": "per_token", "base_s": "100ms", "per_output_token_s": "100ms"},
        "sweep": {"cluster.gpus": [1, 2, 3, 4], "workload.arrivals.per_s": [1, 1.5]},
    }
    (folder / "scenario.yaml").write_text(yaml12.write(scenario))
    assert run(folder, "one", "--jobs", "1") == 0
    return folder


def arguments(folder, name, *more):
    return [str(folder / "scenario.yaml"), "--out", str(folder / name), "--store", str(folder / f"{name}.store"), *more]


def run(folder, name, *more):
    return main(arguments(folder, name, *more))


def tables(folder, name):
    return [(folder / name / table).read_bytes() for table in ("sweep.csv", "sweep.parquet", "arms.csv")]


def kept(folder, name):
    return sum(1 for _ in (folder / f"{name}.store").rglob("*.json"))


def wait_until(condition):
    until = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.005)
    return found


def kill_when_some_are_kept(folder, name, workers):
    """A thread that ends one of `workers()` without warning once a few cells are there; join it for the verdict."""
    killed = []

    def watch():
        wait_until(lambda: kept(folder, name) >= 3)
        victim = wait_until(workers)[0]
        os.kill(victim, signal.SIGKILL)
        killed.append(kept(folder, name))

    thread = threading.Thread(target=watch)
    thread.start()
    return thread, killed


def loky_workers():
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "loky.backend.popen" in " ".join(child.cmdline())]


def test_processes_write_the_same_bytes_even_when_one_is_killed(swept):
    thread, killed = kill_when_some_are_kept(swept, "two", loky_workers)
    assert run(swept, "two", "--jobs", "2") == 0
    thread.join()
    assert killed[0] < CELLS, "it was killed on the way"
    assert tables(swept, "two") == tables(swept, "one")


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
    ):
        yield cluster


def test_a_cluster_writes_the_same_bytes_even_when_a_worker_is_killed(swept, cluster):
    workers = [worker.pid for worker in cluster.workers.values()]
    thread, killed = kill_when_some_are_kept(swept, "dask", lambda: workers)
    assert run(swept, "dask", "--cluster", cluster.scheduler_address) == 0
    thread.join()
    assert killed[0] < CELLS, "it was killed on the way"
    assert tables(swept, "dask") == tables(swept, "one")


def test_a_sweep_that_was_killed_resumes_where_it_was(swept, capsys):
    process = subprocess.Popen([sys.executable, "-m", "infertuner.sweep", *arguments(swept, "killed", "--jobs", "2")])
    wait_until(lambda: kept(swept, "killed") >= 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = kept(swept, "killed")
    assert 5 <= done < CELLS
    assert not (swept / "killed").exists(), "a table appears whole or not at all"
    capsys.readouterr()
    assert run(swept, "killed", "--jobs", "1", "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)["run"]
    assert (told["from_store"], told["computed"]) == (done, CELLS - done)
    assert tables(swept, "killed") == tables(swept, "one")


def lethal(job):
    """In place of a cell: the fifth ends its process."""
    if job[3] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return job[0], ("code", "{}", None)


def test_a_cell_that_kills_its_process_is_found_and_the_others_are_computed():
    """Pools that break: of twelve jobs of which one is lethal, eleven are answered and that one is not."""

    def pool(jobs):
        for job in jobs:
            if job[3] == 5:
                raise BrokenProcessPool
            yield job[0], ("code", "{}", None)

    jobs = [(str(number), {}, ".", number) for number in range(12)]
    answers = dict(engines._survive(pool, jobs, BrokenProcessPool, handed_out=3))
    assert {key for key, answer in answers.items() if answer is None} == {"5"}
    assert list(answers) == [str(number) for number in range(12)]


def test_a_process_that_dies_of_its_cell_is_no_hang(monkeypatch):
    monkeypatch.setattr(engines, "_answer", lethal)
    jobs = [(str(number), {}, ".", number) for number in range(8)]
    answers = dict(Processes(2).compute(jobs))
    assert {key for key, answer in answers.items() if answer is None} == {"5"}
    assert len(answers) == 8


def test_a_worker_with_other_code_is_refused(swept, monkeypatch, capsys):
    """Its answers would be kept under this code's keys."""
    monkeypatch.setattr(runner, "code_digest", lambda: "another")
    assert run(swept, "other", "--jobs", "2") == 2
    assert "a worker runs other code than this process" in capsys.readouterr().err
    assert kept(swept, "other") == 0
