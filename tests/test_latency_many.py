"""Millions of prefills from few answers: the same seconds as asking for each."""

from pathlib import Path

import numpy as np
import pytest

from infertuner.latency.fitted import Profile
from infertuner.latency.laws import PerToken
from infertuner.latency.many import FEW, prefills_s
from infertuner.streams import Streams
from tests.conftest import ROOT

PROFILES = sorted((ROOT / "calibration").glob("*.json"))


def prompts(count, longest):
    rng = np.random.default_rng(0)
    new = np.minimum(rng.lognormal(6, 1, count).astype(np.int64) + 2, longest // 2)
    return new, (rng.random(count) ** 2 * (longest - new) * (rng.random(count) < 0.6)).astype(np.int64)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_many_are_interpolated_close_to_the_law(path: Path):
    model = Profile(kind="profile", path=path, out_of_range="extrapolate").model(Streams(0))
    new, cached = prompts(60_000, 2048)
    many = prefills_s(model, new, cached)
    some = slice(0, FEW)
    each = prefills_s(model, new[some], cached[some])
    error = np.abs(many[some] / each - 1)
    assert error.mean() < 1e-3
    assert error.max() < 0.03
    assert many[some].sum() == pytest.approx(each.sum(), rel=1e-3)


def test_a_straight_law_is_met_exactly():
    law = PerToken(kind="per_token", base_s=0.01, per_prompt_token_s=0.001, per_output_token_s=1)
    new, cached = prompts(FEW + 1, 4096)
    assert prefills_s(law, new, cached) == pytest.approx(0.01 + 0.001 * new, rel=1e-12)


def test_nothing_outside_what_is_asked_for_is_asked_of_the_model():
    """A profile that refuses what it has not measured answers for prompts that are all inside its box."""
    model = Profile(kind="profile", path=ROOT / "calibration" / "epyc-1t-cpu-25m.json").model(Streams(0))
    new, cached = prompts(FEW + 1, 2048)
    assert (prefills_s(model, new, cached) > 0).all()
    assert model.outside_calls == 0


def test_one_length_and_nothing_cached():
    law = PerToken(kind="per_token", per_prompt_token_s=0.5, per_output_token_s=1)
    same = np.full(FEW + 1, 7)
    assert prefills_s(law, same, np.zeros_like(same)) == pytest.approx(3.5)
