"""Every candidate form finds a law of its own kind, and cross-validation tells them apart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from infertuner.latency import fitting
from infertuner.latency.fitting import FORMS, RATIOS, fit_laws
from infertuner.latency.fitting.forms import Data, hinge, piecewise, roofline
from infertuner.latency.fitting.mixed import MixedData
from infertuner.latency.fitting.selection import cross_validate, simplest
from infertuner.latency.forms import Law, Ratio, Roofline, Surcharge, Work, work_of
from infertuner.latency.points import Point

BATCHES = [1, 2, 3, 5, 9, 17, 30, 50, 90, 150, 250]
CONTEXTS = [70, 300, 1100, 4300]
DECODES = [Point("decode", batch, 1, context - 1, "fit") for batch in BATCHES for context in CONTEXTS]
WORK = [work_of(point) for point in DECODES]


def data(law, *, noise=0.0):
    seconds = np.array([law(work) for work in WORK]) * np.exp(np.random.default_rng(0).normal(0, noise, len(WORK)))
    return Data("decode", WORK, seconds, np.full(len(WORK), 50.0))


AFFINE = Law(lambda tokens: 4e-3 + 2e-5 * tokens, [3e-8], None)
HINGE = Law(lambda tokens: 4e-3 + 3e-5 * max(0.0, tokens - 50), [3e-8], None)
ROOFLINE = Law(Roofline(1e-3, 3e-3, 4e-5, 3.0), [3e-8], None)
WAVY = Law(lambda tokens: (4e-3 + 2e-5 * tokens) * (1 + 0.1 * math.sin(2 * math.log(tokens))), [3e-8], None)


@pytest.mark.parametrize(
    ("law", "form"), [(AFFINE, piecewise(1)), (HINGE, hinge), (ROOFLINE, roofline)], ids=["affine", "hinge", "roofline"]
)
def test_a_form_finds_its_own_law(law, form):
    planted = data(law)
    fitted = form(planted)
    np.testing.assert_allclose(fitted.predict_s(WORK), planted.seconds, rtol=2e-3)
    assert fitted.coefficients[-1] == pytest.approx(3e-8, rel=0.02), "seconds for each KV entry"


def test_a_hinge_names_its_bend():
    assert hinge(data(HINGE)).shape.knots == (1, 50, 250)


def test_a_refit_keeps_its_shape():
    for form in FORMS.values():
        first = form(data(ROOFLINE))
        again = form(data(AFFINE), first)
        assert again.shape == first.shape


def test_a_ratio_follows_what_the_form_cannot():
    wavy = data(WAVY)
    plain, corrected = (
        np.abs(form(wavy).predict_s(WORK) / wavy.seconds - 1) for form in (roofline, RATIOS["roofline"])
    )
    assert corrected.mean() < 0.6 * plain.mean()


def test_a_ratio_stays_what_it_is_beyond_its_nodes():
    ratio = Ratio((1.0, 4.0), (10.0, 1000.0), [0.0, 0.2, 0.4, 0.6])
    assert ratio(1, 10) == 1.0
    assert ratio(2, 100) == pytest.approx(math.exp(0.3)), "the middle of the cell, in the logarithm"
    assert ratio(64, 10**6) == ratio(4, 1000) == pytest.approx(math.exp(0.6))


@pytest.mark.parametrize(
    ("law", "winner"),
    [(AFFINE, "affine"), (HINGE, "hinge"), (ROOFLINE, "roofline")],
    ids=["affine", "hinge", "roofline"],
)
def test_cross_validation_picks_the_planted_form(law, winner):
    noisy = data(law, noise=0.005)

    def judge(form):
        return lambda kept, left_out: form(noisy.only(kept)).predict_s([WORK[i] for i in left_out])

    errors = {name: cross_validate(judge(form), noisy.seconds, seed=0) for name, form in FORMS.items()}
    assert simplest(errors) == winner


def test_the_simplest_form_within_one_standard_error_wins():
    rng = np.random.default_rng(0)
    hard = rng.exponential(0.05, 100)
    errors = {"worse": hard + 0.01, "as_good": hard + rng.normal(0, 0.01, 100), "best": hard - 1e-4}
    assert simplest(errors) == "as_good", "what is hard for all forms does not blur the comparison"


def surcharged_s(point):
    """A machine whose mixed kernels lose more, the more sequences decode."""
    work = work_of(point)
    parts_s = 4e-3 + 2e-5 * work.tokens + 1e-9 * work.pairs + 3e-8 * point.decode_entries
    if point.kind == "decode":
        return 4e-3 + 2e-5 * work.tokens + 3e-8 * work.entries
    crowd = max(0, point.decodes - 40)
    return parts_s + (2e-3 + 1e-5 * point.decodes + (1e-8 + 1e-9 * crowd) * point.decode_entries) * (point.decodes > 0)


def mixed_points(count, rng):
    for _ in range(count):
        chunk, context, decodes = (
            round(math.exp(rng.uniform(math.log(a), math.log(b)))) for a, b in ((64, 2048), (70, 4300), (1, 128))
        )
        yield Point("mixed", 1, chunk, int(rng.integers(0, 2000)), "fit", decodes, context)


def test_a_surcharge_is_found_with_32_points(monkeypatch):
    monkeypatch.setattr(fitting, "RESAMPLES", 10)
    rng = np.random.default_rng(3)
    prefills = [
        Point("prefill", int(b), int(n), int(1500 // n), "fit")
        for b, n in zip(rng.integers(1, 5, 20), np.geomspace(16, 2048, 20), strict=True)
    ]
    mixed = list(mixed_points(72, rng))
    points = [*prefills, *DECODES, *mixed]
    points = [replace(p, role="holdout") if i % 4 == 3 and p.kind != "mixed" else p for i, p in enumerate(points)]
    points[-40:] = [replace(p, role="holdout") for p in points[-40:]]
    laws = fit_laws(points, [surcharged_s(p) for p in points], seed=0)
    assert laws.mixed is not None
    assert laws.mixed.form.startswith("surcharge_crowd")
    assert laws.mixed.cross_validation["parts"] > 0.05
    assert laws.mixed.holdout.points == 40
    assert laws.mixed.holdout.mean_ratio < 0.02


def test_a_machine_without_surcharge_is_the_sum_of_its_parts():
    points = list(mixed_points(32, np.random.default_rng(0)))
    prefill = Law(lambda tokens: 4e-3 + 2e-5 * tokens, [0.0, 0.0, 1e-9], None)
    parts = [prefill(Work(p.batch_tokens, 0, 1, p.attended_pairs)) + 3e-8 * p.decode_entries for p in points]
    fits = MixedData(points, np.array(parts), np.ones(32), prefill, AFFINE)
    found = fits.fit("surcharge_crowd", np.arange(32))
    np.testing.assert_allclose(fits.predict_s(found, np.arange(32)), parts, rtol=1e-9)


def test_a_surcharge_is_the_sum_of_its_terms():
    surcharge = Surcharge([1.0, 0.1, 0.01, 0.001, 0.0001], 3, None)
    assert surcharge(10.0, 500, 5, 100) == pytest.approx(10 + 1 + 0.5 + 0.01 * 100 + 0.5 + 0.0001 * 2 * 100)


@pytest.mark.parametrize("form", [piecewise(1), hinge, roofline], ids=["affine", "hinge", "roofline"])
def test_what_never_varied_costs_nothing_by_itself(form):
    """Prompts prefilled one at a time say nothing about a second one: a step's own cost must not be doubled for it."""
    alone = [
        work_of(Point("prefill", 1, new, cached, "fit")) for new in (16, 60, 200, 700, 2000) for cached in (0, 900)
    ]
    seconds = np.array([4e-3 + 2e-5 * work.tokens + 1e-9 * work.pairs + 1e-8 * work.entries for work in alone])
    fitted = form(Data("prefill", alone, seconds, np.full(len(alone), 50.0)))
    _, sequence_s, _ = fitted.coefficients[-3:]
    assert sequence_s == 0.0
    np.testing.assert_allclose(fitted.predict_s(alone), seconds, rtol=0.15 if form is hinge else 0.01)
