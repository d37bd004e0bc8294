"""A real engine in real time: its law on iterations that obey one, its schedule, and a tiny engine that really runs."""

from __future__ import annotations

import numpy as np
import pytest

from infertuner.errors import ValidationError
from infertuner.latency.model import Chunk
from infertuner.latency.profile import load_calibration
from infertuner.scenario.study import load_study
from infertuner.serving.simulation import Simulation
from infertuner.sources.requests import OpenLoop, Requests
from infertuner.streams import Streams
from infertuner.validation.engine.iterations import Iteration, iteration_from
from infertuner.validation.engine.law import EngineLatency, fit_law, predict_s
from infertuner.validation.engine.replay import ReplayedIterations
from infertuner.validation.engine.runs import make_plan
from infertuner.validation.engine.serving import EngineConfig, running_engine
from infertuner.validation.runs import engine_gaps, requests_of, run_of
from tests.conftest import ROOT, TINY_MODEL

SCENARIO = ROOT / "scenarios" / "engine.yaml"
FEW_DECODES_S = {1: 0.008, 2: 0.012, 3: 0.011, 4: 0.013}
"""Not smooth in the batch, as a CPU's kernels are not."""


def truth_s(decodes, chunks, kv_entries):
    tokens = decodes + sum(chunk.new_tokens for chunk in chunks)
    entries = kv_entries + sum(chunk.cached_tokens + chunk.new_tokens for chunk in chunks)
    base_s = FEW_DECODES_S[tokens] if tokens in FEW_DECODES_S else 0.013 + 0.0004 * (tokens - 4)
    return base_s + 2e-7 * tokens * entries + 1e-6 * entries + (0.002 if chunks else 0.0)


def iterations(count, seed, noise=0.0):
    """Iterations that obey `truth_s`, one in six with a chunk."""
    rng = np.random.default_rng(seed)
    found = []
    for place in range(count):
        chunks = (Chunk(int(rng.integers(0, 100)), int(rng.integers(2, 252))),) if place % 6 == 0 else ()
        decodes = int(rng.integers(1, 5))
        entries = int(rng.integers(decodes, 400 * decodes))
        seconds = truth_s(decodes, chunks, entries) * (1 + noise * rng.standard_normal())
        found.append(Iteration(seconds, 0.9 * seconds, chunks, decodes, entries))
    return found


def test_the_law_finds_what_iterations_obey():
    law, ratios = fit_law(iterations(600, seed=1))
    other = iterations(300, seed=2)
    np.testing.assert_allclose(predict_s(law, other), [one.seconds for one in other], rtol=0.01)
    assert max(abs(ratio - 1) for ratio in ratios) < 0.01


def test_noise_does_not_bend_the_sum():
    """Queues feel the mean of iterations, not their median: over all iterations the law must not lean."""
    noisy = iterations(1200, seed=3, noise=0.2)
    law, ratios = fit_law(noisy)
    assert predict_s(law, noisy).sum() == pytest.approx(sum(one.seconds for one in noisy), rel=0.005)
    assert np.mean(ratios) == pytest.approx(1, abs=0.005)


def test_the_latency_model_says_what_the_law_says_at_any_speed():
    law, ratios = fit_law(iterations(600, seed=1))
    latency = EngineLatency(law, ratios, drift_ratio=2.0)
    chunks = [Chunk(10, 50)]
    assert latency.iteration_s(chunks=chunks, decodes=3, kv_entries=500) == pytest.approx(
        2 * truth_s(3, chunks, 500), rel=0.01
    )
    assert latency.decode_line(3).step_ps(700) * 1e-12 == pytest.approx(2 * truth_s(3, (), 700), rel=0.01)
    assert latency.outside_calls == 0
    latency.iteration_s(chunks=[Chunk(0, 5000)], decodes=0, kv_entries=0)
    assert latency.outside_calls == 1


def test_an_engine_that_obeys_its_law_is_predicted_and_its_own_iterations_replayed():
    """What the simulator makes of the law, taken for a measurement: fitted law and replay both give it back."""
    study = load_study(SCENARIO)
    cluster, workload = study.scenario.cluster, study.scenario.workload
    law, _ = fit_law(iterations(600, seed=1))
    records = Simulation(workload.sample(Streams(1)), cluster, EngineLatency(law, [1.0])).run()
    measured = run_of(records, engine_gaps(records))
    assert np.concatenate(measured.gaps_s).size == (measured.output_tokens - 1).sum()
    seconds = []
    for row in range(len(records.segments.iterations)):
        first_s, rise_s = records.segments.first_s[row], records.segments.rise_s[row]
        seconds += [first_s + j * rise_s for j in range(records.segments.iterations[row])]
    for latency in (EngineLatency(law, [1.0]), ReplayedIterations(seconds)):
        again = run_of(Simulation(requests_of(measured), cluster, latency).run())
        np.testing.assert_allclose(again.finished_at_s, measured.finished_at_s, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"cluster.batcher": {"kind": "none"}}, "must be kind continuous"),
        ({"cluster.batcher.enable_prefix_caching": True}, "enable_prefix_caching: false"),
        ({"cluster.gpus": 2}, "cluster.gpus: 1"),
        ({"latency": {"kind": "per_token", "per_output_token_s": 1}}, "names no model"),
        ({"sweep": {"cluster.batcher.max_num_seqs": [1, 2]}}, "has 2 arms"),
    ],
)
def test_what_the_engine_cannot_serve_is_refused(settings, complaint):
    with pytest.raises(ValidationError, match=complaint):
        make_plan(load_study(SCENARIO, settings), 1, twice=False)


def test_the_first_run_is_for_the_law_and_later_ones_have_other_seeds():
    assert make_plan(load_study(SCENARIO), 2, twice=True).keys == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]


@pytest.mark.torch
def test_a_tiny_engine_really_serves():
    """Every request gets its tokens, and the iterations written down add up to the requests."""
    pytest.importorskip("torch", reason="needs infertuner[calibrate]")
    calibration = load_calibration(ROOT / "calibration" / "epyc-1t-cpu-25m.json")
    tiny = calibration.model_copy(update={"model": calibration.model.model_copy(update={"config": TINY_MODEL})})
    prompts, outputs = np.array([5, 40, 17, 9]), np.array([6, 3, 1, 8])
    asked = Requests(OpenLoop(np.array([0.0, 0.0, 0.05, 0.1])), [0, 1, 2, 3], prompts, prompts * 0, outputs)
    shares = []
    with running_engine(tiny, EngineConfig(8, 16, 16, 32)) as engine:
        run, served = engine.serve(asked, shares.append)
    assert run.output_tokens.tolist() == outputs.tolist()
    assert (run.latencies_s("ttft") > 0).all()
    assert (run.latencies_s("e2e") >= run.latencies_s("ttft")).all()
    assert [len(gaps) for gaps in run.gaps_s] == (outputs - 1).tolist()
    assert sum(chunk.new_tokens for one in served for chunk in one.chunks) == prompts.sum()
    assert sum(one.decodes for one in served) == (outputs - 1).sum()
    assert all(0 < one.forward_s < one.seconds for one in served)
    assert all(one.decodes + sum(chunk.new_tokens for chunk in one.chunks) <= 16 for one in served)
    assert shares[-1] == 1.0
    assert iteration_from([1.0, 0.9, [[0, 16]], 0, 0]).chunks == (Chunk(0, 16),)
