"""Hardware in the loop: on a bench that obeys a known law, and once on a decoder that is really run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from infertuner.errors import ValidationError
from infertuner.latency.hardware import build_decoder
from infertuner.latency.hardware import loop as device_module
from infertuner.latency.hardware.loop import DeviceLatency, SteppedLatency
from infertuner.latency.hardware.steps import DecoderSteps, inference
from infertuner.latency.laws import PerToken
from infertuner.latency.profile import load_calibration
from infertuner.scenario.study import study_from
from infertuner.serving.simulation import Simulation
from infertuner.streams import Streams
from infertuner.validation import hardware
from infertuner.validation.unfinished import UnfinishedFile
from tests.conftest import ROOT, TINY_MODEL

PROFILE = ROOT / "calibration" / "epyc-1t-cpu-25m.json"


class LawSteps:
    """A device that obeys a law but for its speed, and remembers what it ran."""

    def __init__(self, law, prefill_slower=1.0, decode_slower=1.0):
        self.law, self.ran = law, []
        self.prefill_slower, self.decode_slower = prefill_slower, decode_slower

    def once_s(self, point):
        self.ran.append(point)
        if point.new_tokens == 1:
            return self.decode_slower * self.law.decode_s(
                batch_size=point.batch_size, context_tokens=point.context_tokens, steps=1
            )
        return self.prefill_slower * self.law.prefill_s(
            batch_size=point.batch_size, new_tokens=point.new_tokens, cached_tokens=point.cached_tokens
        )


@pytest.fixture
def study(tiny):
    """Two arms of batches on two GPUs, on a profile."""
    tiny["cluster"]["batcher"] = {"kind": "fixed", "max_batch_size": 2}
    tiny["latency"] = {"kind": "profile", "path": str(PROFILE)}
    tiny["workload"]["arrivals"] = {"kind": "poisson", "per_s": 5}
    tiny["sweep"] = {"cluster.gpus": [1, 2]}
    return study_from(tiny)


def measured(study, steps, path, *, twice=False, resume=False):
    plan = hardware.make_plan(study, 1, twice=twice)
    file = UnfinishedFile(path)
    lines = file.begin(plan.header("this machine", "these programs"), resume=resume)
    hardware.measure(plan, steps, file, lines, lambda *_: None)
    return hardware.cells(plan, lines)


def law_of(study):
    return study.arms[0].scenario.latency.model(Streams(0))


def test_every_decode_step_is_run_once_at_its_own_context():
    steps = LawSteps(PerToken(kind="per_token", per_output_token_s=0.01))
    latency = DeviceLatency(steps)
    assert latency.prefill_s(batch_size=2, new_tokens=5, cached_tokens=3) == 0
    assert latency.decode_s(batch_size=2, context_tokens=9, steps=4) == pytest.approx(0.04)
    warm = device_module.WARM_CALLS
    assert [(p.kind, p.batch_size, p.new_tokens, p.cached_tokens) for p in steps.ran[warm : warm + 1]] == [
        ("prefill", 2, 5, 3)
    ]
    assert [p.context_tokens for p in steps.ran[2 * warm + 1 :]] == [9, 10, 11, 12]
    assert [gaps.tolist() for gaps in latency.gaps_s] == [pytest.approx([0.01] * 8)]


def test_a_stepped_model_says_what_the_model_says(study):
    law = law_of(study)
    asked = {"batch_size": 2, "context_tokens": 12, "steps": 30}
    assert SteppedLatency(law, decode_ratio=1.5).decode_s(**asked) == pytest.approx(
        1.5 * law.decode_s(**asked), rel=1e-9
    )


def test_hardware_that_obeys_its_profile_is_simulated_exactly(study, tmp_path):
    for cell in measured(study, LawSteps(law_of(study)), tmp_path / "cells.jsonl"):
        assert cell.drift == {"decode_drift": pytest.approx(1), "prefill_drift": pytest.approx(1)}
        np.testing.assert_allclose(cell.simulated.finished_at_s, cell.measured.finished_at_s, rtol=1e-9)
        np.testing.assert_allclose(np.concatenate(cell.simulated.gaps_s), np.concatenate(cell.measured.gaps_s))


def test_a_slower_machine_shows_as_drift_and_the_correction_takes_it_out(study, tmp_path):
    cells = measured(study, LawSteps(law_of(study), 1.7, 1.3), tmp_path / "cells.jsonl", twice=True)
    assert [cell.arm for cell in cells] == ["gpus 1", "gpus 2"]
    for cell in cells:
        assert cell.drift == {"decode_drift": pytest.approx(1.3), "prefill_drift": pytest.approx(1.7)}
        assert cell.simulated.latencies_s("e2e").mean() < 0.95 * cell.measured.latencies_s("e2e").mean()
        np.testing.assert_allclose(cell.corrected.finished_at_s, cell.measured.finished_at_s, rtol=1e-9)
        np.testing.assert_array_equal(cell.again.finished_at_s, cell.measured.finished_at_s)


def test_an_interrupted_validation_goes_on_where_it_was(study, tmp_path):
    path = tmp_path / "cells.jsonl"
    whole = measured(study, LawSteps(law_of(study)), path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:40])  # one arm done, the line of the next one torn
    with pytest.raises(ValidationError, match="--resume"):
        measured(study, LawSteps(law_of(study)), path)
    steps = LawSteps(law_of(study))
    resumed = measured(study, steps, path, resume=True)
    per_arm = 20 * 10  # steps of one arm, about
    assert 0 < len(steps.ran) < 2 * per_arm
    np.testing.assert_allclose(resumed[1].measured.finished_at_s, whole[1].measured.finished_at_s)
    assert len(path.read_text().splitlines()) == 3


def test_what_was_measured_otherwise_is_not_gone_on_with(study, tmp_path):
    path = tmp_path / "cells.jsonl"
    measured(study, LawSteps(law_of(study)), path)
    file, plan = UnfinishedFile(path), hardware.make_plan(study, 1, twice=False)
    with pytest.raises(ValidationError, match="another hardware"):
        file.begin(plan.header("another machine", "these programs"), resume=True)
    path.write_text(json.dumps({}) + "\nno JSON\n" + json.dumps({}) + "\n")
    with pytest.raises(ValidationError, match="line 2: not JSON"):
        file.begin(plan.header("this machine", "these programs"), resume=True)


def test_a_scenario_that_the_device_cannot_run_is_refused(tiny):
    with pytest.raises(ValidationError, match="names no model to run"):
        hardware.make_plan(study_from(tiny), 1, twice=False)
    tiny["latency"] = {"kind": "profile", "path": str(PROFILE)}
    tiny["cluster"]["batcher"] = {"kind": "continuous", "num_gpu_blocks": 100}
    with pytest.raises(ValidationError, match="validate engine"):
        hardware.make_plan(study_from(tiny), 1, twice=False)


@pytest.mark.torch
def test_a_decoder_is_really_run(study):
    pytest.importorskip("torch", reason="needs infertuner[calibrate]")
    plan = hardware.make_plan(study, 1, twice=False)
    calibration = load_calibration(PROFILE)
    assert plan.calibration == calibration
    assert plan.kv_tokens() == 128  # the sentinels'; two sequences of 10 + 20 tokens need less
    decoder = build_decoder(
        replace(TINY_MODEL), dtype="fp32", device="cpu", threads=1, kv_tokens=plan.kv_tokens(), seed=0
    )
    scenario = study.arms[1].scenario
    asked = scenario.workload.sample(Streams(scenario.seed))
    with inference():
        latency = DeviceLatency(DecoderSteps(decoder))
        records = Simulation(asked, scenario.cluster, latency).run()
    assert all(seconds > 0 for gaps in latency.gaps_s for seconds in gaps)
    busy_s = sum(records.steps.prefill_s) + sum(records.steps.decode_s)
    decode_s = sum(float(gaps.sum()) / 2 for gaps in latency.gaps_s)
    assert busy_s > decode_s == pytest.approx(sum(records.steps.decode_s))
