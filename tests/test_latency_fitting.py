"""From visits to laws, on machines whose law is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from infertuner.errors import CalibrationError
from infertuner.latency import fitting
from infertuner.latency.fitting import fit_laws, fit_visits
from infertuner.latency.fitting.forms import solve, spread_knots
from infertuner.latency.forms import work_of
from infertuner.latency.measuring.polish import polish
from infertuner.latency.measuring.samples import Timing, Visit
from infertuner.latency.points import Limits, design

POINTS = design(Limits(tuple(range(1, 9)), max_context_tokens=1024, max_batch_tokens=2048, mixed=0), seed=3)


def affine_s(point):
    """A machine that is affine in tokens, entries, sequences and pairs."""
    prefill_s = 3e-4 * point.batch_size + 2e-7 * point.attended_pairs if point.kind == "prefill" else 0.0
    return 5e-3 + 4e-4 * point.batch_tokens + 6e-7 * point.kv_entries + prefill_s


def kinked_s(point):
    """The same machine with a flat part: small batches all cost the same."""
    return affine_s(point) + 4e-4 * (max(point.batch_tokens, 200) - point.batch_tokens)


def visits_to(law_s, *, rounds=6, noise=0.0, drift=0.0):
    """Rounds of visits in random order to a machine that follows `law_s` with noise, while everything drifts."""
    rng = np.random.default_rng(0)
    order = [POINTS[i] for _ in range(rounds) for i in rng.permutation(len(POINTS))]
    visits = []
    for number, point in enumerate(order):
        speed = math.exp(drift * math.sin(2 * math.pi * 2 * number / len(order)))
        seconds = [law_s(point) * speed * math.exp(rng.normal(0, noise))] * 3
        visits.append(Visit(point, number // len(POINTS), float(number), Timing(seconds, seconds, [False] * 3)))
    return visits


def test_preempted_calls_are_set_aside_unless_little_is_left():
    visit = Visit(POINTS[0], 0, 0.0, Timing([1.0, 5.0, 1.2], [1.0, 5.0, 1.2], [False, True, False]))
    assert visit.median_s == pytest.approx(1.1)
    mostly = replace(visit, timing=Timing([1.0, 5.0, 3.0], [1.0, 5.0, 3.0], [False, True, True]))
    assert mostly.median_s == 3.0


def test_common_drift_is_removed():
    polished = polish(visits_to(affine_s, noise=0.005, drift=0.10))
    errors = [
        math.exp(np.median(log_s)) / affine_s(point) - 1
        for point, log_s in zip(polished.points, polished.log_s, strict=True)
    ]
    assert np.std(errors) < 0.01
    assert math.exp(polished.drift.max()) == pytest.approx(1.10, abs=0.02)
    assert math.exp(polished.drift.min()) == pytest.approx(0.90, abs=0.02)


def test_intervals_narrow_with_visits_and_need_three():
    few, more, many = (polish(visits_to(affine_s, rounds=rounds, noise=0.02)).half_widths() for rounds in (2, 4, 16))
    assert np.isinf(few).all()
    assert np.median(many) < np.median(more)


@pytest.fixture(scope="module")
def laws():
    """What was fitted to a noisy, drifting, affine machine."""
    visits = visits_to(affine_s, noise=0.01, drift=0.05)
    return fit_visits(visits, polish(visits), seed=0)


@pytest.fixture
def few_resamples(monkeypatch):
    """Where intervals are not looked at."""
    monkeypatch.setattr(fitting, "RESAMPLES", 10)


def predicted_s(law, points):
    answer = law.law(law.coefficients)
    return np.array([answer(work_of(point)) for point in points])


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_a_law_is_recovered_inside_its_intervals(laws, kind):
    law = getattr(laws, kind)
    truth = {"kv_entry_s": 6e-7} | ({"sequence_s": 3e-4, "attended_pair_s": 2e-7} if kind == "prefill" else {})
    for name, value in truth.items():
        found = getattr(law, name)
        assert found.low <= found.value <= found.high
        margin = 2 * (found.high - found.low) + 0.01 * value
        assert found.value == pytest.approx(value, abs=margin), name
    points = [point for point in POINTS if point.kind == kind and point.role == "holdout"]
    errors = np.abs(predicted_s(law, points) / [affine_s(point) for point in points] - 1)
    assert errors.mean() < 0.02
    assert law.holdout.points == len(points)


def test_the_simplest_form_that_predicts_as_well_wins(laws, few_resamples):
    assert laws.prefill.form.startswith("affine")
    visits = visits_to(kinked_s, noise=0.01)
    bent = fit_visits(visits, polish(visits), seed=0).prefill
    assert not bent.form.startswith("affine")
    assert bent.cross_validation[bent.form] < bent.cross_validation["affine"]
    assert {"affine", "hinge", "roofline", "piecewise_4"} <= set(bent.cross_validation), "every score is recorded"


def test_held_out_points_do_not_touch_the_fit(laws):
    visits = visits_to(affine_s, noise=0.01, drift=0.05)
    polished = polish(visits)
    later = [
        log_s + (1.0 if point.role == "holdout" else 0.0)
        for point, log_s in zip(polished.points, polished.log_s, strict=True)
    ]
    spoilt = fit_visits(visits, replace(polished, log_s=later), seed=0)
    for kind in ("prefill", "decode"):
        assert getattr(laws, kind).coefficients == getattr(spoilt, kind).coefficients
        assert getattr(spoilt, kind).holdout.mean_ratio > 0.5, "and they are what it is judged by"


def test_a_machine_that_is_faster_at_one_size_is_followed(few_resamples):
    """Kernels for 4 rows may beat those for 3; where every size is measured, nothing has to be smooth."""

    def dipped_s(point):
        return affine_s(point) * (0.8 if point.batch_size == 5 else 1)

    visits = visits_to(dipped_s, noise=0.005)
    decode = fit_visits(visits, polish(visits), seed=0).decode
    seconds = {knot.tokens: knot.step_s.value for knot in decode.knots}
    assert list(seconds) == list(range(1, 9))
    assert seconds[5] < seconds[4] < seconds[6]


def test_draws_spread_as_far_as_the_intervals(laws):
    for law in (laws.prefill, laws.decode):
        drawn = np.array(law.draws)
        assert drawn.shape == (50, len(law.coefficients))
        entry = drawn[:, len(law.knots)]
        assert law.kv_entry_s.low <= np.median(entry) <= law.kv_entry_s.high
        width = law.kv_entry_s.high - law.kv_entry_s.low
        assert 0.4 * width < np.percentile(entry, 97.5) - np.percentile(entry, 2.5) <= 1.2 * width


def test_few_points_without_repeats_are_enough_and_are_never_flattered(few_resamples):
    """Half of a data set fits the law; what the profile claims is its error on the other half, whichever half."""
    rng = np.random.default_rng(1)
    chosen = [point for point in POINTS if point.kind != "mixed"]
    seconds = np.array([kinked_s(point) for point in chosen]) * np.exp(rng.normal(0, 0.02, len(chosen)))
    for held in (0, 1):
        points = [replace(p, role="holdout" if i % 2 == held else "fit") for i, p in enumerate(chosen)]
        laws = fit_laws(points, seconds, seed=0)
        for kind in ("prefill", "decode"):
            law = getattr(laws, kind)
            places = [i for i, p in enumerate(points) if (p.kind, p.role) == (kind, "holdout")]
            errors = np.abs(predicted_s(law, [points[i] for i in places]) / seconds[places] - 1)
            assert law.holdout.mean_ratio == pytest.approx(errors.mean(), rel=1e-6)
            assert law.holdout.worst_ratio == pytest.approx(errors.max(), rel=1e-6)
            assert law.noise is None
            assert law.draws


def test_too_few_points_or_none_held_out_is_refused():
    points = [point for point in POINTS if point.kind != "mixed"]
    fit_only = [replace(point, role="fit") for point in points]
    with pytest.raises(CalibrationError, match="0 held out"):
        fit_laws(fit_only, [affine_s(point) for point in fit_only])
    prefills = [point for point in points if point.kind == "prefill"]
    with pytest.raises(CalibrationError, match="0 points of kind decode"):
        fit_laws(prefills, [affine_s(point) for point in prefills])


def test_weights_decide_between_points_that_disagree():
    columns, seconds = np.ones((2, 1)), np.array([1.0, 2.0])
    assert solve(columns, seconds, np.array([100.0, 1.0]))[0] == pytest.approx(1.0, rel=0.01)
    assert solve(columns, seconds, np.array([1.0, 100.0]))[0] == pytest.approx(2.0, rel=0.01)


def test_knots_follow_where_the_points_are():
    sizes = sorted(point.batch_tokens for point in POINTS if point.kind == "prefill")
    knots = spread_knots(sizes, 8)
    assert (knots[0], knots[-1], len(knots)) == (sizes[0], sizes[-1], 9)
