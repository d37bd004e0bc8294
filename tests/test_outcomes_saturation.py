"""The saturation verdict: on queues whose load is known, and where there is nothing to decide."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from scipy import stats

from infertuner.outcomes.saturation import fisher, queue_growth, saturation
from infertuner.records import CacheSizeColumns, Records, RequestColumns, Status, StepColumns
from infertuner.sources.requests import ClosedLoop, OpenLoop, Requests
from tests.walked import walk


def queue(
    arrived_at_s: np.ndarray, service_s: np.ndarray, gpu_id: np.ndarray | None = None, horizon_s: float | None = None
) -> Records:
    """First come first served on each GPU, by the Lindley recursion."""
    n = len(arrived_at_s)
    gpu_id = np.zeros(n, dtype=np.int64) if gpu_id is None else gpu_id
    started_at_s = np.empty(n)
    for gpu in np.unique(gpu_id):
        mine = gpu_id == gpu
        work_s = np.cumsum(service_s[mine]) - service_s[mine]
        started_at_s[mine] = np.maximum.accumulate(arrived_at_s[mine] - work_s) + work_s
    finished_at_s = started_at_s + service_s
    columns = RequestColumns(n)
    columns.arrived_at_s = columns.routed_at_s = array("d", arrived_at_s)
    columns.gpu_id = array("q", gpu_id.tolist())
    if horizon_s is not None:
        started_at_s[started_at_s > horizon_s] = np.nan
        finished_at_s[finished_at_s > horizon_s] = np.nan
    columns.started_at_s, columns.finished_at_s = array("d", started_at_s), array("d", finished_at_s)
    columns.status = array("q", np.where(np.isnan(finished_at_s), Status.UNFINISHED, Status.FINISHED).tolist())
    ones = np.ones(n, dtype=np.int64)
    asked = Requests(OpenLoop(arrived_at_s), range(n), ones, ones, ones)
    gpus = int(gpu_id.max()) + 1
    ended_at_s = float(np.nanmax(finished_at_s)) if horizon_s is None else horizon_s
    return Records(asked, columns, StepColumns(), CacheSizeColumns(), gpus, ended_at_s, events=0)


def poisson(rng: np.random.Generator, n: int, load: float) -> np.ndarray:
    return np.cumsum(rng.exponential(1 / load, n))


def verdicts(load: float, n: int, runs: int = 60, *, service: str = "exponential", gpus: int = 1) -> list[str | None]:
    rng = np.random.default_rng(round(1000 * load) + n)
    found = []
    for _ in range(runs):
        service_s = rng.exponential(1, n) if service == "exponential" else np.ones(n)
        records = queue(poisson(rng, n, load * gpus), service_s, np.arange(n) % gpus)
        found.append(saturation([queue_growth(records)]))
    return found


@pytest.mark.parametrize("service", ["exponential", "constant"])
@pytest.mark.parametrize("n", [300, 3000])
def test_a_load_of_09_is_hardly_ever_called_saturated(service, n):
    """Below load 1 the chance is less than 1 %: 3 of 60 would have a chance of 2 %."""
    assert verdicts(0.9, n, service=service).count("saturated") <= 2


def test_clear_loads_are_decided_from_a_thousand_requests_on():
    assert verdicts(0.5, 1000).count("stable") >= 55
    assert verdicts(1.5, 1000).count("saturated") >= 59
    assert verdicts(1.5, 1000, gpus=8).count("saturated") >= 55


def test_an_overload_of_5_percent_is_seen_in_thirty_thousand_requests_and_seldom_called_stable_before():
    assert verdicts(1.05, 30_000, runs=20).count("saturated") >= 18
    assert verdicts(1.05, 1000).count("stable") <= 8, "5 % by construction: more than 8 of 60 has a chance of 1 %"


def test_replications_decide_together_what_one_leaves_open():
    rng = np.random.default_rng(3)
    runs = [queue_growth(queue(poisson(rng, 1000, 1.2), rng.exponential(1, 1000))) for _ in range(5)]
    assert saturation(runs) == "saturated"
    assert fisher(iter([0.05, 0.2, 0.7])) == pytest.approx(stats.combine_pvalues([0.05, 0.2, 0.7]).pvalue)
    assert fisher(iter([1.0, 1.0])) == pytest.approx(1.0)


def test_one_hot_gpu_among_idle_ones_is_enough():
    rng = np.random.default_rng(4)
    gpu_id = np.where(rng.random(8000) < 0.3, 0, rng.integers(1, 8, 8000))
    assert saturation([queue_growth(queue(poisson(rng, 8000, 5.0), np.ones(8000), gpu_id))]) == "saturated"


def test_many_gpus_that_only_fill_up_are_not_saturated():
    """1,024 queues started empty grow together for a while; each of them by no more than chance."""
    rng = np.random.default_rng(5)
    records = queue(poisson(rng, 20_000, 0.9 * 1024), rng.exponential(1, 20_000), np.arange(20_000) % 1024)
    assert saturation([queue_growth(records)]) == "undecided"


def test_a_horizon_that_cuts_an_overloaded_run_changes_nothing():
    rng = np.random.default_rng(6)
    arrived_at_s, service_s = poisson(rng, 2000, 1.5), rng.exponential(1, 2000)
    cut = queue(arrived_at_s, service_s, horizon_s=float(arrived_at_s[-1]))
    assert np.isnan(cut.requests.started_at_s).any()
    assert queue_growth(cut) == queue_growth(queue(arrived_at_s, service_s))


def test_a_deterministic_queue_above_load_1_is_saturated_and_below_it_stable():
    assert saturation([queue_growth(queue(np.arange(500) * 0.9, np.ones(500)))]) == "saturated"
    assert saturation([queue_growth(queue(np.arange(500) * 1.1, np.ones(500)))]) == "stable"


@pytest.mark.parametrize("arrived_at_s", [np.zeros(30), np.arange(30) * 0.2, np.zeros(1000), np.zeros(0)])
def test_small_published_runs_and_batches_sent_at_once_stay_undecided(arrived_at_s):
    nobody = walk([], [], []).records
    records = queue(arrived_at_s, np.ones(arrived_at_s.size)) if arrived_at_s.size else nobody
    assert saturation([queue_growth(records)] * 200) == "undecided"


def test_users_who_wait_for_answers_cannot_outpace_service():
    records = queue(np.zeros(500), np.ones(500))
    asked = records.asked
    records.asked = Requests(
        ClosedLoop(500, np.zeros(500)), asked.session_id, asked.prompt_tokens, asked.prefix_tokens, asked.output_tokens
    )
    assert saturation([queue_growth(records)]) is None


def test_a_continuous_engine_past_its_capacity_and_within_it():
    rng = np.random.default_rng(7)
    tokens = [10] * 1500
    for load_per_s, expected in ((6.0, "stable"), (60.0, "saturated")):
        records = walk(poisson(rng, 1500, load_per_s).tolist(), tokens, tokens).records
        assert saturation([queue_growth(records)]) == expected
