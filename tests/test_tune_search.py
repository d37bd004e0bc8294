"""The search against an exhaustive one, on made-up services whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from infertuner.outcomes.objectives import judge, keeps, run_headroom
from infertuner.outcomes.statistics import least_share
from infertuner.scenario.study import study_from
from infertuner.tuning.evaluator import BudgetSpentError, Failure
from infertuner.tuning.likely import likely_lines
from infertuner.tuning.race import Race, looks
from infertuner.tuning.search import Search
from infertuner.tuning.space import Space

REPLICATIONS = 16


class Service:
    """A service whose latency falls with GPUs; the noise of a replication is mostly common to all configurations."""

    def __init__(self, seed, noise=0.1, bumps=()):
        rng = np.random.default_rng(seed)
        self.seed, self.noise, self.bumps = seed, noise, bumps
        self.speed = rng.uniform(0.5, 1.5, size=6)
        self.scale = rng.uniform(2, 8)
        self.cells = set()
        self.least = int(rng.integers(1, 4))

    def runs(self, arm, numbers):
        name = json.dumps(arm.parameters, sort_keys=True)
        self.cells |= {(name, number) for number in numbers}
        return [self.run(arm, number) for number in numbers]

    def run(self, arm, number):
        cluster = arm.scenario.cluster
        line = 3 * (cluster.price_per_gpu_hour > 1.5) + {4: 0, 8: 1, 16: 2}[cluster.batcher.max_batch_size]
        common = np.random.default_rng([self.seed, 1, number]).standard_normal()
        own = np.random.default_rng([self.seed, 2, number, line, cluster.gpus]).standard_normal()
        latency_s = self.scale / cluster.gpus / self.speed[line] * np.exp(self.noise * (0.9 * common + 0.4 * own))
        if (line, cluster.gpus) in self.bumps:
            latency_s *= 5
        full = cluster.gpus < self.least
        return {
            "ttft_p95_s": float(latency_s),
            "requests": 100,
            "finished": 100,
            **dict.fromkeys(("rejected_length", "rejected_kv", "failed"), 0),
            "queue_growth_p_value": 1e-9 if full else 1.0,
            "queue_growth_ratio": 0.0,
            "queue_growth_error_ratio": 0.001,
        }


@pytest.fixture
def space(tiny):
    tiny["cluster"]["batcher"] = {"kind": "timeout", "max_batch_size": 4, "timeout_s": 1}
    tiny["arms"] = [{"cluster.price_per_gpu_hour": 1}, {"cluster.price_per_gpu_hour": 1.7}]
    tiny["sweep"] = {
        "cluster.gpus": {"range": {"min": 1, "max": 12, "step": 1}},
        "cluster.batcher.max_batch_size": [4, 8, 16],
    }
    tiny["slo"] = {"ttft_p95_s": 1}
    return Space(study_from(tiny))


def search(space, service):
    slo = space.arm({}).scenario.slo
    race = Race(service, slo, REPLICATIONS)
    lines = [space.line(setting) for setting in space.settings()]
    return race, lines, Search(race).run(lines)


def exhaustive(race, lines, service, *, without=None):
    """The cheapest that meets the objectives in all replications, and again in fresh ones."""
    slo = lines[0][0].arm.scenario.slo
    found = []
    for point in (point for line in lines for point in line if point != without):
        runs = service.runs(point.arm, range(REPLICATIONS))
        if judge(runs, slo, race.confidence).verdict == "meets":
            found.append((point.cost_per_hour, -np.mean([run_headroom(run, slo) for run in runs]), point))
    for _, _, point in sorted(found, key=lambda entry: entry[:2]):
        if race.confirm(point).verdict == "meets":
            return point
    return None


def test_it_finds_what_an_exhaustive_search_finds_at_a_fifth_of_the_cells(space):
    same, shares = [], []
    for seed in range(60):
        service = Service(seed)
        race, lines, outcome = search(space, service)
        shares.append(len(service.cells) / (sum(map(len, lines)) * REPLICATIONS))
        best = exhaustive(race, lines, service)
        same.append((outcome.answer and outcome.answer.point) == best)
        if outcome.answer is not None:
            assert outcome.complete
            assert outcome.fresh.verdict == "meets"
    assert np.mean(same) >= 0.95
    assert np.mean(shares) <= 0.15
    assert np.quantile(shares, 0.9) <= 0.2


def test_the_next_best_is_the_cheapest_other(space):
    agreed = []
    for seed in range(30):
        service = Service(seed, noise=0.01)
        race, lines, outcome = search(space, service)
        best = exhaustive(race, lines, service, without=outcome.answer.point)
        agreed.append(outcome.next_best.point.cost_per_hour == best.cost_per_hour)
        assert outcome.next_best.point != outcome.answer.point
    assert np.mean(agreed) >= 0.95


def test_it_keeps_its_promise(space):
    """How often the share of runs that keep all is below the bound that is given with 95 % confidence."""
    broken, answers = 0, 0
    for seed in range(100):
        service = Service(seed, noise=0.3)
        _, _, outcome = search(space, service)
        if outcome.answer is not None:
            answers += 1
            promised = least_share(outcome.fresh.runs_met, outcome.fresh.runs)
            runs = service.runs(outcome.answer.point.arm, range(1000, 1200))
            kept = np.mean([keeps(run, outcome.answer.point.arm.scenario.slo) for run in runs])
            broken += kept < promised
    assert answers > 60
    assert broken / answers <= 0.05


def test_saturated_configurations_are_no_answer_however_fast_they_look(space):
    service = Service(3)
    service.scale, service.least = 0.01, 5
    _, _, outcome = search(space, service)
    assert outcome.answer.point.parameters["cluster.gpus"] == 5
    assert outcome.answer.point.cost_per_hour == 5


def test_one_that_cannot_be_simulated_is_passed_over(space):
    class Broken(Service):
        def runs(self, arm, numbers):
            if arm.scenario.cluster.price_per_gpu_hour == 1:
                raise Failure("too long for the profile")
            return super().runs(arm, numbers)

    race, _, outcome = search(space, Broken(1))
    assert outcome.answer.point.parameters["cluster.price_per_gpu_hour"] == 1.7
    assert "too long for the profile" in {found.error for found in race.found.values()}


def test_nothing_is_begun_when_the_budget_is_spent(space):
    class Dear(Service):
        def runs(self, arm, numbers):
            if len(self.cells) > 20:
                raise BudgetSpentError
            return super().runs(arm, numbers)

    _, _, outcome = search(space, Dear(1))
    assert not outcome.complete
    assert outcome.answer is not None, "what was found so far"
    assert outcome.fresh is None


def test_a_knob_that_does_not_only_help_is_told(space):
    """Along every line six GPUs are worse than five."""
    service = Service(1, noise=0.01, bumps={(line, 6) for line in range(6)})
    service.scale, service.speed[:] = 4.5, 1.0
    race, _, outcome = search(space, service)
    assert outcome.answer.point.parameters["cluster.gpus"] == 5
    places = {(found.point.line, found.point.index): found.meets for found in race.found.values()}
    assert places[outcome.answer.point.line, 5] is False, "its dearer neighbour was looked at"


@pytest.mark.parametrize("replications", [1, 2, 3, 5, 10, 16, 40])
def test_looks_end_with_everything(replications):
    assert looks(replications)[-1] == replications
    assert looks(replications) == sorted(set(looks(replications)))


def test_likely_lines_lead_to_the_same_answer(space):
    """Six lines, which Optuna suggests in an order of its own until it has nothing new to say."""
    pytest.importorskip("optuna")
    for seed in range(3):
        _, _, enumerated = search(space, Service(seed, noise=0.01))
        race = Race(Service(seed, noise=0.01), space.arm({}).scenario.slo, REPLICATIONS)
        likely = Search(race).run(likely_lines(space, race, seed))
        assert likely.answer.point.cost_per_hour == enumerated.answer.point.cost_per_hour
