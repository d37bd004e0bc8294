"""What tuning asks of workloads and laws: traces drawn again at another rate, lengths and latencies a little off."""

from __future__ import annotations

import numpy as np
import pytest

from infertuner.errors import TraceError
from infertuner.experiments.runs import measure, run_arm
from infertuner.scenario.study import study_from
from infertuner.streams import Streams


@pytest.fixture
def trace(tmp_path):
    """A trace of a thousand requests, one a second, whose answers are twice their prompts."""
    lines = [f"{at_s},{10 + at_s % 90},{2 * (10 + at_s % 90)}" for at_s in range(1000)]
    (tmp_path / "trace.csv").write_text("\n".join(["arrived_at_s,prompt_tokens,output_tokens", *lines]) + "\n")

    def sample(replication=0, **keys):
        workload = {"kind": "trace", "path": str(tmp_path / "trace.csv")} | keys
        raw = {
            "name": "traced",
            "workload": workload,
            "cluster": {"gpus": 1, "router": {"kind": "round_robin"}, "batcher": {"kind": "none"}},
            "latency": {"kind": "per_token", "per_output_token_s": 0.01},
        }
        return study_from(raw).scenario.workload.sample(Streams(0, replication))

    return sample


def test_a_trace_can_be_drawn_again_at_the_instants_of_a_law(trace):
    drawn = trace(arrivals={"kind": "poisson", "per_s": 20}, requests=5000)
    assert len(drawn) == 5000
    gaps_s = np.diff(drawn.pacing.arrived_at_s)
    assert gaps_s.mean() == pytest.approx(1 / 20, rel=0.05)
    assert (drawn.output_tokens == 2 * drawn.prompt_tokens).all(), "prompts keep their answers"
    assert drawn.prompt_tokens.mean() == pytest.approx(54.5, rel=0.03)
    assert not (trace(1, arrivals={"kind": "poisson", "per_s": 20}).prompt_tokens == drawn.prompt_tokens[:1000]).all()


def test_two_rates_draw_the_same_requests(trace):
    slow, fast = (trace(arrivals={"kind": "poisson", "per_s": per_s}) for per_s in (1, 2))
    assert (slow.prompt_tokens == fast.prompt_tokens).all()
    assert slow.pacing.arrived_at_s == pytest.approx(2 * fast.pacing.arrived_at_s)


def test_lengths_of_a_trace_can_be_scaled(trace):
    plain, scaled = trace(), trace(prompt_scale=1.1, output_scale=0.001)
    assert (scaled.prompt_tokens == np.rint(plain.prompt_tokens * 1.1)).all()
    assert (scaled.output_tokens == 1).all(), "never less than a token"
    assert (scaled.pacing.arrived_at_s == plain.pacing.arrived_at_s).all()


@pytest.mark.parametrize("key", ["arrivals", "prompt_scale"])
def test_what_would_break_prefixes_is_refused(repository, key):
    changes = {"arrivals": {"kind": "poisson", "per_s": 1}, "prompt_scale": 1.1}
    raw = {
        "name": "traced",
        "workload": {
            "kind": "trace",
            "path": str(repository / "scenarios" / "conversation_sample.jsonl"),
            "format": "mooncake",
            key: changes[key],
        },
        "cluster": {"gpus": 1, "router": {"kind": "round_robin"}, "batcher": {"kind": "none"}},
        "latency": {"kind": "per_token", "per_output_token_s": 0.01},
    }
    with pytest.raises(TraceError, match=f"which {key} would break; remove {key}"):
        study_from(raw).scenario.workload.sample(Streams(0))


def test_a_law_that_is_slower_by_a_tenth_takes_a_tenth_longer(tiny, repository):
    def mean_s(factor, batcher):
        path = str(repository / "calibration" / "epyc-1t-cpu-25m.json")
        tiny["latency"] = {"kind": "profile", "path": path, "factor": factor}
        tiny["cluster"]["batcher"] = batcher
        tiny["workload"]["arrivals"]["per_s"] = 0.01  # nobody waits
        (arm,) = study_from(tiny).arms
        return measure(arm, run_arm(arm))["e2e_mean_s"]

    static = {"kind": "none"}
    assert mean_s(1.1, static) == pytest.approx(1.1 * mean_s(1.0, static), rel=1e-9)
    engine = {"kind": "continuous", "num_gpu_blocks": 100}
    assert mean_s(1.0, engine) < mean_s(1.1, engine) <= 1.1 * mean_s(1.0, engine) * (1 + 1e-9)
