"""What a profile answers to a continuous engine: iterations, host gap, mixed laws, ratios, bounds and boxes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.errors import OutOfRangeError, ProfileError
from infertuner.experiments.result import StudyResult
from infertuner.latency.bounds import Bounds
from infertuner.latency.fitted import Profile, ProfileLatency
from infertuner.latency.forms import Work, work_of
from infertuner.latency.lines import PS_PER_S
from infertuner.latency.machine import Ceilings
from infertuner.latency.model import Chunk
from infertuner.latency.physics import SLACK, least_s
from infertuner.latency.points import Point
from infertuner.latency.profile import Calibration
from infertuner.streams import Streams
from tests.conftest import ROOT

SHIPPED = ROOT / "calibration" / "epyc-1t-cpu-25m.json"


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value, "high": value}


def knots(**seconds: float) -> list[dict[str, Any]]:
    return [{"tokens": int(tokens[1:]), "step_s": estimate(value)} for tokens, value in seconds.items()]


def content() -> dict[str, Any]:
    """The shipped profile with numbers one can check on paper."""
    found: dict[str, Any] = json.loads(SHIPPED.read_text())
    found["hardware"]["ceilings"] = found["mixed"] = found["host_gap"] = None
    found["prefill"] |= {
        "ratio": None,
        "roofline": None,
        "knots": knots(t2=1.0, t100=10.8),  # 0.8 + 0.1 a token
        "kv_entry_s": estimate(0.001),
        "sequence_s": estimate(0.01),
        "attended_pair_s": estimate(0.0001),
        "draws": [],
        "box": {"batch_size": [1, 4], "context_tokens": [2, 80], "batch_tokens": [2, 100]},
    }
    found["decode"] |= {
        "ratio": None,
        "roofline": None,
        "knots": knots(t1=0.5, t4=0.8),
        "kv_entry_s": estimate(0.002),
        "draws": [],
        "box": {"batch_size": [1, 4], "context_tokens": [1, 80]},
    }
    return found


MIXED = {
    "form": "surcharge_crowd",
    "cross_validation": {},
    "holdout": {"points": 1, "mean_ratio": 0.02, "p95_ratio": 0.02, "worst_ratio": 0.02},
    "fixed_s": estimate(1.0),
    "decode_s": estimate(0.1),
    "kv_entry_s": estimate(0.01),
    "chunk_token_s": estimate(0.001),
    "crowded_entry_s": estimate(0.0),
    "crowd": 0,
    "box": {"new_tokens": [5, 50], "context_tokens": [5, 80], "decodes": [2, 3], "decode_context_tokens": [5, 60]},
}
GAP = {"per_iteration_s": 0.5, "per_sequence_s": 0.125, "how": "made up"}


def answering(found: dict[str, Any], *, refuse: bool = True) -> ProfileLatency:
    return ProfileLatency(Calibration.model_validate(found), name="profile.json", refuse=refuse)


# 12 tokens at once, two chunks that read 10 + 4 entries and attend to 60 + ... pairs, 20 entries of the decodes
CHUNKS = [Chunk(cached_tokens=4, new_tokens=6), Chunk(cached_tokens=0, new_tokens=4)]
PARTS_S = (0.8 + 0.1 * 12) + 0.01 * 2 + 0.001 * 14 + 0.0001 * (6 * 7.5 + 4 * 2.5) + 0.002 * 20


def test_without_a_mixed_law_an_iteration_is_the_sum_of_its_parts():
    model = answering(content())
    assert model.iteration_s(chunks=CHUNKS, decodes=2, kv_entries=20) == pytest.approx(PARTS_S)


def test_the_surcharge_is_paid_by_mixed_iterations_only():
    model = answering(content() | {"mixed": MIXED})
    surcharge_s = 1.0 + 0.1 * 2 + 0.01 * 20 + 0.001 * 10
    assert model.iteration_s(chunks=CHUNKS, decodes=2, kv_entries=20) == pytest.approx(PARTS_S + surcharge_s)
    alone_s = model.iteration_s(chunks=CHUNKS[:1], decodes=0, kv_entries=0)
    assert alone_s == pytest.approx(model.prefill_s(batch_size=1, new_tokens=6, cached_tokens=4))


def test_a_chunk_of_one_token_is_a_decode():
    model = answering(content() | {"mixed": MIXED})
    last = Chunk(cached_tokens=9, new_tokens=1)
    only_s = model.iteration_s(chunks=[last], decodes=2, kv_entries=20)
    assert only_s == pytest.approx(model.decode_line(3).step_ps(30) / PS_PER_S)
    beside_s = model.iteration_s(chunks=[*CHUNKS, last], decodes=1, kv_entries=10)
    assert beside_s == model.iteration_s(chunks=CHUNKS, decodes=2, kv_entries=20)


def test_the_host_gap_is_paid_by_every_iteration_and_by_no_static_batch():
    plain, gapped = answering(content()), answering(content() | {"host_gap": GAP})
    for ask in (
        lambda model: model.prefill_s(batch_size=2, new_tokens=5, cached_tokens=0),
        lambda model: model.decode_s(batch_size=2, context_tokens=5, steps=9),
    ):
        assert ask(plain) == ask(gapped)
    steps_s = (gapped.decode_line(3).span_ps(30, 7) - plain.decode_line(3).span_ps(30, 7)) / PS_PER_S
    assert steps_s == pytest.approx(7 * (0.5 + 3 * 0.125))
    asked = {"chunks": CHUNKS, "decodes": 2, "kv_entries": 20}
    assert gapped.iteration_s(**asked) - plain.iteration_s(**asked) == pytest.approx(0.5 + 4 * 0.125)


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ({"chunks": [Chunk(0, 51)], "decodes": 2, "kv_entries": 20}, "new_tokens 51 .*0 to 50"),
        ({"chunks": [Chunk(0, 20)], "decodes": 4, "kv_entries": 40}, "decodes 4 .*0 to 3"),
        ({"chunks": [Chunk(0, 20)], "decodes": 2, "kv_entries": 122}, "decode_context_tokens 61 .*0 to 60"),
        ({"chunks": [Chunk(0, 101)], "decodes": 0, "kv_entries": 0}, "prefill with batch_tokens 101 .*2 to 100"),
        ({"chunks": [Chunk(70, 11)], "decodes": 0, "kv_entries": 0}, "prefill with context_tokens 81"),
        ({"chunks": [Chunk(80, 1)], "decodes": 0, "kv_entries": 0}, "decode with context_tokens 81"),
    ],
)
def test_an_iteration_outside_is_refused_by_axis_or_counted_once(question, complaint):
    found = content() | {"mixed": MIXED}
    with pytest.raises(OutOfRangeError, match=complaint):
        answering(found).iteration_s(**question)
    lenient = answering(found, refuse=False)
    assert lenient.iteration_s(**question) > 0
    assert lenient.outside_calls == 1


def test_below_the_smallest_mixed_iteration_pure_laws_anchor_the_sum():
    model = answering(content() | {"mixed": MIXED})
    model.iteration_s(chunks=[Chunk(0, 2)], decodes=1, kv_entries=1)
    assert model.outside_calls == 0


def test_an_engine_notes_the_steps_it_takes_outside():
    lenient, strict = answering(content(), refuse=False), answering(content())
    lenient.note_outside(batch_size=2, kv_entries=162, steps=7)
    assert lenient.outside_calls == 7
    with pytest.raises(OutOfRangeError, match=r"decode with context_tokens 87 .*1 to 80"):
        strict.note_outside(batch_size=2, kv_entries=162, steps=7)
    with pytest.raises(OutOfRangeError, match=r"decode with batch_size 9 .*1 to 4"):
        strict.note_outside(batch_size=9, kv_entries=90, steps=1)
    beyond = lenient.decode_line(9)
    assert beyond.low > beyond.high, "no number of entries is inside for a batch that was not measured"


RATIO = {"tokens": [1, 4], "context_tokens": [1, 80], "log_ratio": [[0.0, 0.1], [0.2, -0.3]]}


def test_a_law_with_a_ratio_is_straight_between_its_corners_and_close_to_the_law():
    found = content()
    found["decode"]["ratio"] = RATIO
    model, law = answering(found), Calibration.model_validate(found).decode
    exact = law.law(law.coefficients)
    for batch_size in (1, 2, 3, 4):
        line = model.decode_line(batch_size)
        for context in (1, 2, 7, 33, 80):
            entries = batch_size * context
            says_s = exact(Work(batch_size, entries, batch_size, entries))
            assert line.step_ps(entries) / PS_PER_S == pytest.approx(says_s, rel=2e-3)
    steps_s = sum(model.decode_s(batch_size=3, context_tokens=context, steps=1) for context in range(5, 65))
    assert model.decode_s(batch_size=3, context_tokens=5, steps=60) == pytest.approx(steps_s, rel=1e-9)


def test_beyond_its_nodes_a_ratio_stays_and_the_law_goes_on():
    found = content()
    found["decode"]["ratio"] = RATIO
    model = answering(found, refuse=False)
    at_100, at_200, at_300 = (model.decode_s(batch_size=4, context_tokens=c, steps=1) for c in (100, 200, 300))
    slope_s = 4 * 100 * 0.002 * 2.718281828**-0.3
    assert at_200 - at_100 == pytest.approx(slope_s, rel=0.01)
    assert at_300 - at_200 == pytest.approx(slope_s, rel=0.01)


def with_ceilings(found: dict[str, Any], read_bytes_per_s: float, flops_per_s: float) -> Calibration:
    found["hardware"]["ceilings"] = {"read_bytes_per_s": read_bytes_per_s, "flops_per_s": flops_per_s}
    return Calibration.model_validate(found)


def test_bounds_are_those_that_measurements_are_checked_against():
    calibration = with_ceilings(content(), 1e10, 1e11)
    bounds = Bounds.of(calibration)
    assert bounds is not None
    peak = Ceilings(read_bytes_per_s=1e10, flops_per_s=1e11)
    for point in (Point("decode", 4, 1, 99, "fit"), Point("prefill", 3, 50, 20, "fit")):
        expected = least_s(point, calibration.model.config, calibration.model.dtype, peak) / SLACK
        assert bounds.least_s(work_of(point)) == pytest.approx(expected)


@given(
    speed=st.floats(1e6, 1e12),
    batch_size=st.integers(1, 9),
    new=st.integers(2, 200),
    context=st.integers(1, 400),
    steps=st.integers(1, 50),
)
def test_no_answer_is_faster_than_physics(speed, batch_size, new, context, steps):
    calibration = with_ceilings(content() | {"mixed": MIXED}, speed, 50 * speed)
    model, bounds = ProfileLatency(calibration, name="it", refuse=False), Bounds.of(calibration)
    assert bounds is not None
    entries = batch_size * context
    least = bounds.least_s(Work(batch_size, entries, batch_size, entries))
    assert model.decode_s(batch_size=batch_size, context_tokens=context, steps=steps) >= steps * least * (1 - 1e-9)
    assert model.decode_line(batch_size).step_ps(entries) / PS_PER_S >= least * (1 - 1e-9)
    prefill = Work(batch_size * new, batch_size * new, batch_size, batch_size * new * (new + 1) / 2)
    prefill_s = model.prefill_s(batch_size=batch_size, new_tokens=new, cached_tokens=0)
    assert prefill_s >= bounds.least_s(prefill) * (1 - 1e-9)
    mixed_s = model.iteration_s(chunks=[Chunk(0, new)], decodes=batch_size, kv_entries=entries)
    beside = Work(new + batch_size, new + entries, 1 + batch_size, new * (new + 1) / 2 + entries)
    assert mixed_s >= bounds.least_s(beside) * (1 - 1e-9)


def test_an_extrapolated_profile_says_so_in_every_table(tmp_path):
    (tmp_path / "profile.json").write_text(json.dumps(content() | {"provenance": "extrapolated"}))
    part = Profile(kind="profile", path=tmp_path / "profile.json")
    assert part.source().startswith("extrapolated")

    class Told(StudyResult):
        def latency_sources(self):
            return [part.source()]

        def saturation(self, arm_index):
            return None

    class NoArms:
        arms: tuple[()] = ()

    assert "nobody measured" in Told(NoArms(), []).warnings()[0]  # type: ignore[arg-type]


def test_a_public_profile_needs_no_samples_and_cannot_pretend_to_have_them():
    found = {key: value for key, value in content().items() if key not in ("software", "protocol", "samples")}
    origin = {"url": "https://example.org", "commit": "abc", "licence": "MIT", "note": "composed"}
    calibration = Calibration.model_validate(found | {"provenance": "public", "origin": origin})
    assert calibration.origin is not None
    with pytest.raises(ProfileError, match="public has no samples"):
        calibration.run_here()


@pytest.mark.parametrize(
    ("law", "change", "complaint"),
    [
        ("decode", {"knots": []}, "2 knots or more, or a roofline"),
        ("decode", {"draws": [[1.0]]}, "as many numbers"),
        ("decode", {"ratio": RATIO | {"log_ratio": [[0.0]]}}, "a row for each node"),
        ("decode", {"ratio": RATIO | {"tokens": [4, 1]}}, "must rise"),
    ],
)
def test_a_law_that_contradicts_itself_is_refused_in_one_line(tmp_path, law, change, complaint):
    found = content()
    found[law] |= change
    (tmp_path / "profile.json").write_text(json.dumps(found))
    with pytest.raises(ProfileError, match=complaint) as refused:
        Profile(kind="profile", path=tmp_path / "profile.json").model(Streams(0))
    assert "\n" not in str(refused.value)


def test_a_truncated_file_is_refused_in_one_line(tmp_path):
    text = SHIPPED.read_text()
    (tmp_path / "half.json").write_text(text[: len(text) // 2])
    with pytest.raises(ProfileError, match="not JSON") as refused:
        Profile(kind="profile", path=tmp_path / "half.json").model(Streams(0))
    assert "\n" not in str(refused.value)
