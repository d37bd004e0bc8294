"""From visits to laws, on machines whose law is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from infertuner.latency.fitting import Basis, cross_validate, fit, polish, solve, spread_knots
from infertuner.latency.points import Limits, design
from infertuner.latency.samples import Timing, Visit

POINTS = design(Limits(tuple(range(1, 9)), max_context_tokens=1024, max_batch_tokens=2048), seed=3)


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


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_a_law_is_recovered_inside_its_intervals(kind):
    fitted = fit(polish(visits_to(affine_s, noise=0.01, drift=0.05)), kind, seed=0)
    truth = {"kv_entry_s": 6e-7} | ({"sequence_s": 3e-4, "attended_pair_s": 2e-7} if kind == "prefill" else {})
    for name, value in truth.items():
        found = fitted.estimate(name)
        assert found.low <= found.value <= found.high
        margin = 2 * (found.high - found.low) + 0.01 * value
        assert found.value == pytest.approx(value, abs=margin), name
    points = [point for point in POINTS if point.kind == kind and point.role == "holdout"]
    true_s = np.array([affine_s(point) for point in points])
    assert np.abs(fitted.predict_s(points) / true_s - 1).mean() < 0.02


def test_the_simplest_form_that_predicts_as_well_wins():
    straight = fit(polish(visits_to(affine_s, noise=0.01)), "prefill", seed=0)
    assert straight.form == "affine"
    bent = fit(polish(visits_to(kinked_s, noise=0.01)), "prefill", seed=0)
    assert bent.form != "affine"
    assert bent.scores[bent.form] < bent.scores["affine"]


def test_held_out_points_do_not_touch_the_fit():
    visits = visits_to(affine_s, noise=0.01)
    polished = polish(visits)
    spoilt = replace(
        polished,
        log_s=[
            log_s + (1.0 if point.role == "holdout" else 0.0)
            for point, log_s in zip(polished.points, polished.log_s, strict=True)
        ],
    )
    for kind in ("prefill", "decode"):
        coefficients = [fit(each, kind, seed=0).coefficients for each in (polished, spoilt)]
        np.testing.assert_array_equal(*coefficients)


def test_cross_validation_of_an_exact_law_finds_no_error():
    points = [point for point in POINTS if point.kind == "decode"]
    columns = Basis("decode", spread_knots(points, 1)).columns(points)
    seconds = np.array([affine_s(point) for point in points])
    assert cross_validate(columns, seconds, np.ones(len(points)), seed=0).max() < 1e-6


def test_a_machine_that_is_faster_at_one_size_is_followed():
    """Kernels for 4 rows may beat those for 3; where every size is measured, nothing has to be smooth."""

    def dipped_s(point):
        return affine_s(point) * (0.8 if point.batch_size == 5 else 1)

    fitted = fit(polish(visits_to(dipped_s, noise=0.005)), "decode", seed=0)
    seconds = {knot.tokens: knot.step_s.value for knot in fitted.knot_estimates()}
    assert list(seconds) == list(range(1, 9))
    assert seconds[5] < seconds[4] < seconds[6]


def test_weights_decide_between_points_that_disagree():
    columns, seconds = np.ones((2, 1)), np.array([1.0, 2.0])
    assert solve(columns, seconds, np.array([100.0, 1.0]))[0] == pytest.approx(1.0, rel=0.01)
    assert solve(columns, seconds, np.array([1.0, 100.0]))[0] == pytest.approx(2.0, rel=0.01)


def test_knots_follow_where_the_points_are():
    points = [point for point in POINTS if point.kind == "prefill"]
    knots = spread_knots(points, 8)
    sizes = sorted(point.batch_tokens for point in points)
    assert (knots[0], knots[-1], len(knots)) == (sizes[0], sizes[-1], 9)
