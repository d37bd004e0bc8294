"""Where a warm-up ends: known series, steady ones, and a queue that begins empty."""

from __future__ import annotations

import numpy as np
import pytest

from infertuner.experiments.runs import run_arm
from infertuner.outcomes.warmup import Course, course, mser5, mser5_warmup_s, welch
from infertuner.outcomes.warmup_figures import WarmUp, draw_warmup
from infertuner.scenario.study import study_from


def test_a_step_is_cut_where_it_ends():
    """Zeros for 200 observations, then ones with a little noise: the rest has the least standard error from 200 on."""
    noise = np.random.default_rng(1).normal(0, 0.01, 1000)
    values = np.where(np.arange(1000) < 200, 0.0, 1.0) + noise
    assert abs(mser5(values) - 200) <= 10


@pytest.mark.parametrize("decay", [30, 100])
def test_it_is_the_minimum_of_its_formula(decay):
    """Against the sum written out, for a transient that dies away."""
    values = 1 - np.exp(-np.arange(800) / decay) + np.random.default_rng(decay).normal(0, 0.1, 800)
    means = values.reshape(-1, 5).mean(axis=1)
    errors = [((means[d:] - means[d:].mean()) ** 2).sum() / (160 - d) ** 2 for d in range(80)]
    assert mser5(values) == 5 * int(np.argmin(errors))
    assert mser5(values) > decay / 2


def test_steady_series_lose_little():
    """Of 100 series without a warm-up, the median loses less than 5 %."""
    rng = np.random.default_rng(5)
    cuts = [mser5(rng.normal(10, 1, 1000)) for _ in range(100)]
    assert np.median([np.nan if cut is None else cut for cut in cuts]) < 50


@pytest.mark.parametrize("values", [np.ones(99), np.arange(1000.0)])
def test_too_short_to_tell(values):
    """Fewer than 100 observations, and a series that is still on its way at the end."""
    assert mser5(values) is None


@pytest.fixture
def cold_start(tiny):
    """A queue at load 0.95 that begins empty and takes many services to fill."""
    tiny["workload"] |= {"requests": 3000, "arrivals": {"kind": "poisson", "per_s": 1.9}}
    tiny["workload"]["output_tokens"] = {"kind": "constant", "tokens": 10}
    tiny["cluster"]["router"] = {"kind": "least_outstanding"}
    (arm,) = study_from(tiny).arms
    return [run_arm(arm, replication) for replication in range(20)]


def test_a_queue_that_begins_empty_warms_up(cold_start):
    """Cutting where MSER-5 says brings the mean of the early part nearer to the level later on."""
    found = [cut for cut in map(mser5_warmup_s, cold_start) if cut is not None]
    assert len(found) > 10
    assert np.mean(found) > 5
    at_s, smooth = welch([course(records) for records in cold_start])
    assert len(at_s) == len(smooth) == 95
    assert smooth[0] < 0.6 * np.mean(smooth[50:])


def test_a_course_is_means_of_equal_groups(cold_start):
    found = course(cold_start[0])
    assert len(found.e2e_s) == len(found.arrived_at_s) == 100
    assert found.arrived_at_s == sorted(found.arrived_at_s)
    requests = cold_start[0].requests
    e2e_s = np.asarray(requests.finished_at_s) - np.asarray(requests.arrived_at_s)
    assert found.e2e_s[0] == pytest.approx(e2e_s[:30].mean(), rel=1e-5)
    assert np.mean(found.e2e_s) == pytest.approx(e2e_s.mean(), rel=1e-5)


def test_welch_averages_over_replications_and_then_over_neighbours():
    """Two replications of 0 ... 5 and 2 ... 7, one value missing; places 0, 1 and 2 have windows of 1, 3 and 5."""
    at_s = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    first = Course(at_s, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    second = Course(at_s, [2.0, 3.0, None, 5.0, 6.0, 7.0])
    instants, smooth = welch([first, second], reach=2)
    assert instants == at_s[:4]
    assert smooth == pytest.approx([1.0, 5 / 3, 14 / 5, 19 / 5])


def test_the_figure_marks_where_to_cut():
    arms = {
        "one": WarmUp([0.0, 10.0, 20.0, 30.0], [1.0, 3.0, 4.0, 4.0], 15.0),
        "two": WarmUp([0.0, 10.0], [2.0, 2.0], None),
    }
    figure = draw_warmup("warm-up", arms, warmup_s=12.0)
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(15.0, 0.875)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two", "warmup_s"]
