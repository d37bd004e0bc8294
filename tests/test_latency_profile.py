"""Profile files, and the latency that answers from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertuner.errors import OutOfRangeError, ProfileError
from infertuner.latency.fitted import Profile, ProfileLatency
from infertuner.latency.profile import load_calibration, save_calibration
from infertuner.streams import Streams
from tests.conftest import ROOT

SHIPPED = ROOT / "calibration" / "epyc-1t-cpu-25m.json"


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value, "high": value}


def knots(**seconds: float) -> list[dict[str, Any]]:
    return [{"tokens": int(tokens[1:]), "step_s": estimate(value)} for tokens, value in seconds.items()]


@pytest.fixture(scope="module")
def by_hand() -> dict[str, Any]:
    """The shipped profile with numbers one can check on paper."""
    content: dict[str, Any] = json.loads(SHIPPED.read_text())
    content["hardware"]["ceilings"] = None
    content["prefill"] |= {
        "ratio": None,
        "roofline": None,
        "knots": knots(t2=1.0, t10=2.0, t100=20.0),
        "draws": [],
        "kv_entry_s": estimate(0.001),
        "sequence_s": estimate(0.01),
        "attended_pair_s": estimate(0.0001),
        "box": {"batch_size": [1, 4], "context_tokens": [2, 80], "batch_tokens": [2, 100]},
    }
    content["decode"] |= {
        "ratio": None,
        "roofline": None,
        "knots": knots(t1=0.5, t4=0.8),
        "draws": [],
        "kv_entry_s": estimate(0.001),
        "box": {"batch_size": [1, 4], "context_tokens": [1, 80]},
    }
    return content


def written(folder: Path, content: Any) -> Path:
    path = folder / "profile.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def answering(folder: Path, content: Any, **keys: Any) -> ProfileLatency:
    written(folder, content)
    return Profile(kind="profile", path=folder / "profile.json", **keys).model(Streams(0))


def test_a_prefill_is_the_sum_of_its_terms(tmp_path, by_hand):
    model = answering(tmp_path, by_hand)
    # 2 x 5 = 10 tokens at a knot, 2 x 12 entries, 2 sequences, and 2 x (8 + 9 + 10 + 11 + 12) pairs
    expected = 2.0 + 24 * 0.001 + 2 * 0.01 + 100 * 0.0001
    assert model.prefill_s(batch_size=2, new_tokens=5, cached_tokens=7) == pytest.approx(expected)


def test_a_decode_stretch_is_the_sum_of_its_steps(tmp_path, by_hand):
    expected = sum(0.6 + 0.001 * 2 * context for context in (10, 11, 12))
    assert answering(tmp_path, by_hand).decode_s(batch_size=2, context_tokens=10, steps=3) == pytest.approx(expected)


def test_a_prefill_of_one_token_is_a_decode_step(tmp_path, by_hand):
    model = answering(tmp_path, by_hand)
    decode_s = model.decode_s(batch_size=3, context_tokens=21, steps=1)
    assert model.prefill_s(batch_size=3, new_tokens=1, cached_tokens=20) == decode_s


@pytest.mark.parametrize(
    ("verb", "question", "complaint"),
    [
        ("prefill_s", {"batch_size": 5, "new_tokens": 2, "cached_tokens": 0}, "prefill with batch_size 5 .*1 to 4"),
        ("prefill_s", {"batch_size": 4, "new_tokens": 26, "cached_tokens": 0}, "batch_tokens 104 .*2 to 100"),
        ("prefill_s", {"batch_size": 1, "new_tokens": 9, "cached_tokens": 72}, "context_tokens 81 .*2 to 80"),
        ("decode_s", {"batch_size": 5, "context_tokens": 9, "steps": 1}, "decode with batch_size 5 .*1 to 4"),
        ("decode_s", {"batch_size": 1, "context_tokens": 79, "steps": 3}, "context_tokens 81 .*1 to 80"),
        ("decode_s", {"batch_size": 1, "context_tokens": 0, "steps": 1}, "context_tokens 0 .*1 to 80"),
    ],
)
def test_outside_the_box_is_refused_by_axis_or_counted(tmp_path, by_hand, verb, question, complaint):
    strict = answering(tmp_path, by_hand)
    with pytest.raises(OutOfRangeError, match=complaint) as refused:
        getattr(strict, verb)(**question)
    assert "profile.json" in str(refused.value)
    assert "out_of_range: extrapolate" in str(refused.value)
    lenient = answering(tmp_path, by_hand, out_of_range="extrapolate")
    assert getattr(lenient, verb)(**question) >= 0
    assert lenient.outside_calls == 1


def test_inside_the_box_nothing_is_counted(tmp_path, by_hand):
    model = answering(tmp_path, by_hand, out_of_range="extrapolate")
    model.prefill_s(batch_size=4, new_tokens=25, cached_tokens=55)
    model.decode_s(batch_size=4, context_tokens=1, steps=80)
    assert model.outside_calls == 0


def test_extrapolation_goes_on_along_the_last_slope(tmp_path, by_hand):
    model = answering(tmp_path, by_hand, out_of_range="extrapolate")
    at_8, at_9, at_10 = (model.decode_s(batch_size=size, context_tokens=0, steps=1) for size in (8, 9, 10))
    assert at_9 - at_8 == pytest.approx(0.1)
    assert at_10 - at_9 == pytest.approx(0.1)


def test_a_dip_at_the_end_is_not_extrapolated(tmp_path, by_hand):
    dipped = by_hand | {"decode": by_hand["decode"] | {"knots": knots(t1=0.5, t3=1.2, t4=1.1)}}
    model = answering(tmp_path, dipped, out_of_range="extrapolate")
    at_4, at_5 = (model.decode_s(batch_size=size, context_tokens=0, steps=1) for size in (4, 5))
    assert at_4 == pytest.approx(1.1)
    assert at_5 - at_4 == pytest.approx((1.1 - 0.5) / 3)


def test_a_curve_that_falls_below_zero_stays_at_zero(tmp_path, by_hand):
    steep = by_hand | {"decode": by_hand["decode"] | {"knots": knots(t3=0.1, t4=0.9)}}
    model = answering(tmp_path, steep, out_of_range="extrapolate")
    assert model.decode_s(batch_size=1, context_tokens=0, steps=1) == 1e-12, "a step takes a picosecond"


@given(batch_size=st.integers(1, 16), new=st.integers(2, 128), cached=st.integers(0, 1900))
def test_the_shipped_profile_answers_everywhere_in_its_box(batch_size, new, cached):
    model = Profile(kind="profile", path=SHIPPED).model(Streams(0))
    behind = model.prefill_s(batch_size=batch_size, new_tokens=new, cached_tokens=cached)
    alone = model.prefill_s(batch_size=batch_size, new_tokens=new, cached_tokens=0)
    assert alone > 0
    assert behind >= 0.99 * alone, "a prefix costs time, but for what the ratio has of the measurements' scatter"


def test_the_file_survives_a_round_trip(tmp_path):
    calibration = load_calibration(SHIPPED)
    save_calibration(calibration, tmp_path / "deep" / "copy.json")
    assert load_calibration(tmp_path / "deep" / "copy.json") == calibration
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["copy.json"], "no temporary file stays"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "schema is None"),
        ({"schema": "infertuner.calibration/9"}, "schema is 'infertuner.calibration/9' and this version reads"),
        ({"schema": "infertuner.calibration/1"}, "provenance: field required"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_in_one_line(tmp_path, content, complaint):
    with pytest.raises(ProfileError, match=complaint) as refused:
        load_calibration(written(tmp_path, content))
    assert "\n" not in str(refused.value)
    assert "infertuner.calibrate" in str(refused.value)


def test_a_wrong_value_is_refused_by_key(tmp_path, by_hand):
    falling = by_hand | {"decode": by_hand["decode"] | {"knots": knots(t4=1.0, t1=2.0)}}
    with pytest.raises(ProfileError, match=r"decode: .*rising tokens"):
        load_calibration(written(tmp_path, falling))
    negative = by_hand | {"decode": by_hand["decode"] | {"kv_entry_s": estimate(-1.0)}}
    with pytest.raises(ProfileError, match=r"decode\.kv_entry_s\.value: .*greater than or equal to 0"):
        load_calibration(written(tmp_path, negative))


def test_a_missing_profile_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"gone\.json: no such profile"):
        Profile(kind="profile", path=tmp_path / "gone.json").model(Streams(0))
