"""Noise and uncertainty: what was planted is found, what is drawn looks like it and moves no mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infertuner.errors import ProfileError
from infertuner.latency.fitted import Profile
from infertuner.latency.fitting.noise import robust_sd, step_noise
from infertuner.latency.law_sections import StepNoise
from infertuner.latency.noise import NoiseRing
from infertuner.latency.profile import load_calibration, save_calibration
from infertuner.latency.uncertainty import RING, noise_ring, run_level
from infertuner.streams import Streams
from tests.conftest import ROOT

SHIPPED = ROOT / "calibration" / "epyc-1t-cpu-25m.json"
PLANTED = StepNoise(
    scale_ratio=0.02, degrees_of_freedom=4.0, lag1=0.5, run_sd_ratio=0.03, spike_rate=0.004, spike_quantiles=[1.5, 2, 3]
)


def ring(noise=PLANTED, seed=0):
    return np.array(noise_ring(noise, np.random.default_rng(seed)).permille)


@given(
    scale=st.floats(0.001, 0.2),
    freedom=st.floats(2.1, 100),
    lag1=st.floats(0, 0.95),
    spikes=st.sampled_from([[], [1.3, 9.0]]),
)
@settings(max_examples=15)
def test_noise_moves_no_mean(scale, freedom, lag1, spikes):
    noise = StepNoise(
        scale_ratio=scale,
        degrees_of_freedom=freedom,
        lag1=lag1,
        run_sd_ratio=0,
        spike_rate=0.01,
        spike_quantiles=spikes,
    )
    multipliers = ring(noise)
    assert len(multipliers) == RING
    assert multipliers.sum() == 1000 * RING, "the mean is 1 to the last digit"
    assert multipliers.min() >= 1


def test_a_ring_has_the_spread_correlation_and_spikes_it_was_asked_for():
    calm = ring(PLANTED.model_copy(update={"spike_rate": 0.0}))
    log = np.log(calm / 1000)
    low, high = np.quantile(log - np.median(log), [0.1, 0.9])
    assert (high - low) / 2 == pytest.approx(0.02 * 1.533, rel=0.05), "1.533: the 90 % quantile of Student-t(4)"
    assert np.corrcoef(log[:-1], log[1:])[0, 1] == pytest.approx(0.5, abs=0.06)
    spiky = ring()
    assert (spiky > 1400).mean() == pytest.approx(0.004, rel=0.3)
    assert np.median(spiky[spiky > 1400]) == pytest.approx(2000, rel=0.1)


def test_planted_noise_is_found_again():
    """The ring of a planted noise, cut into visits, gives the planted noise back."""
    log = np.log(ring() / 1000)
    found = step_noise(list(log.reshape(-1, 64)), run_sd_ratio=0.03)
    assert found is not None
    assert found.scale_ratio == pytest.approx(0.02, rel=0.1)
    assert found.degrees_of_freedom == pytest.approx(4.0, rel=0.25)
    assert found.lag1 == pytest.approx(0.5, abs=0.08)
    assert found.spike_rate == pytest.approx(0.004, rel=0.5), "the tail of Student-t adds a few"
    assert found.spike_quantiles[-1] == pytest.approx(3.0, rel=0.1)


def test_a_neighbours_visit_is_not_the_spread_of_quiet_runs():
    rng = np.random.default_rng(0)
    drift = rng.normal(0.0, 0.02, 2000)
    assert robust_sd(drift) == pytest.approx(0.02, rel=0.1)
    drift[:400] += 0.8
    assert robust_sd(drift) == pytest.approx(0.02, rel=0.5), "a plain standard deviation is 0.32"


def test_a_handful_of_calls_says_nothing_about_tails():
    assert step_noise([np.zeros(50)], run_sd_ratio=0.01) is None


def test_the_level_of_a_run_has_a_mean_of_one_and_the_measured_spread():
    rng = np.random.default_rng(0)
    levels = [run_level(0.05, rng) for _ in range(20_000)]
    assert np.mean(levels) == pytest.approx(1.0, abs=0.002)
    assert np.std(np.log(levels)) == pytest.approx(0.05, rel=0.03)


def step_s(model):
    return model.decode_s(batch_size=4, context_tokens=500, steps=10)


def profile(**keys):
    return Profile(kind="profile", path=SHIPPED, **keys)


def test_every_replication_draws_its_own_calibration_and_finds_it_again():
    drawn = [step_s(profile(uncertainty="drawn").model(Streams(7, replication))) for replication in range(30)]
    again = [step_s(profile(uncertainty="drawn").model(Streams(7, replication))) for replication in range(30)]
    assert drawn == again
    assert len(set(drawn)) == 30
    point = step_s(profile().model(Streams(7)))
    decode = load_calibration(SHIPPED).decode
    assert decode.noise is not None
    assert decode.noise.steps is not None
    assert np.mean(drawn) == pytest.approx(point, rel=4 * decode.noise.steps.run_sd_ratio / 30**0.5 + 0.01)
    assert np.std(drawn) / point == pytest.approx(decode.noise.steps.run_sd_ratio, rel=0.5)


def test_the_point_estimate_draws_nothing_and_noise_leaves_it_alone():
    plain, noisy = profile().model(Streams(1)), profile(noise="measured").model(Streams(1))
    assert plain.noise is None
    assert isinstance(noisy.noise, NoiseRing)
    assert step_s(plain) == step_s(noisy) == step_s(profile().model(Streams(2)))
    other = profile(noise="measured").model(Streams(1, 1)).noise
    assert other is not None
    assert noisy.noise.permille != other.permille


def test_what_was_not_measured_cannot_be_drawn(tmp_path):
    found = load_calibration(SHIPPED)
    bare = {key: getattr(found, key).model_copy(update={"draws": (), "noise": None}) for key in ("prefill", "decode")}
    save_calibration(found.model_copy(update=bare), tmp_path / "bare.json")
    part = Profile(kind="profile", path=tmp_path / "bare.json")
    part.uncertainty = "drawn"
    with pytest.raises(ProfileError, match="holds no draws"):
        part.model(Streams(0))
    part.uncertainty, part.noise = "none", "measured"
    with pytest.raises(ProfileError, match="no noise was measured"):
        part.model(Streams(0))
