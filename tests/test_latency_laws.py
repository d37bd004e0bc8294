"""One law suite for every latency part, and what is particular to the law written by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from infertuner.latency.kinds import Latency
from infertuner.latency.laws import PerToken
from infertuner.latency.lines import PS_PER_S
from infertuner.latency.model import Chunk
from infertuner.streams import Streams
from tests.conftest import ROOT

LATENCY = TypeAdapter(Latency)
TABLE = """kind,batch_size,tokens,seconds
prefill,1,1,0.010
prefill,1,512,0.200
prefill,8,1,0.015
prefill,8,256,0.700
decode,1,1,0.008
decode,1,700,0.011
decode,8,1,0.012
decode,8,2000,0.031
"""
KINDS = {
    "per_token": {"kind": "per_token", "base_s": "20ms", "per_prompt_token_s": "1ms", "per_output_token_s": "9.9ms"},
    "profile": {"kind": "profile", "path": str(ROOT / "calibration" / "epyc-1t-cpu-25m.json")},
    "table": {"kind": "table", "path": "table.csv"},
}
"""Everything that computes; a replay is not a law and has its own tests."""


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latency")
    (folder / "table.csv").write_text(TABLE)
    return LATENCY.validate_python(KINDS[request.param], context={"folder": folder}).model(Streams(0))


def test_nothing_takes_no_time(model):
    assert model.prefill_s(batch_size=4, new_tokens=0, cached_tokens=100) == 0.0
    assert model.decode_s(batch_size=4, context_tokens=100, steps=0) == 0.0


@given(batch_size=st.integers(1, 8), context=st.integers(1, 500), steps=st.integers(1, 200))
def test_k_steps_take_as_long_as_k_single_steps(model, batch_size, context, steps):
    one_by_one = sum(model.decode_s(batch_size=batch_size, context_tokens=context + i, steps=1) for i in range(steps))
    at_once = model.decode_s(batch_size=batch_size, context_tokens=context, steps=steps)
    assert at_once == pytest.approx(one_by_one, rel=1e-9)


@given(batch_size=st.integers(1, 8), new=st.integers(1, 255), context=st.integers(1, 500))
def test_work_takes_time_and_more_tokens_never_take_less(model, batch_size, new, context):
    prefill_s = model.prefill_s(batch_size=batch_size, new_tokens=new, cached_tokens=0)
    decode_s = model.decode_s(batch_size=batch_size, context_tokens=context, steps=1)
    assert 0 < prefill_s <= model.prefill_s(batch_size=batch_size, new_tokens=new + 1, cached_tokens=0)
    assert 0 < decode_s <= model.decode_s(batch_size=batch_size, context_tokens=context + 1, steps=1)


def test_equal_questions_get_equal_answers(model):
    asked = {"batch_size": 3, "new_tokens": 77, "cached_tokens": 0}
    assert model.prefill_s(**asked) == model.prefill_s(**asked)


@given(batch_size=st.integers(1, 8), context=st.integers(1, 500), steps=st.integers(1, 200))
def test_the_decode_line_says_what_decode_says(model, batch_size, context, steps):
    line = model.decode_line(batch_size)
    assert line.batch_size == batch_size
    assert line.low <= batch_size * context <= batch_size * (context + steps - 1) <= line.high
    decode_s = model.decode_s(batch_size=batch_size, context_tokens=context, steps=steps)
    assert line.span_ps(batch_size * context, steps) / PS_PER_S == pytest.approx(decode_s, rel=1e-9, abs=steps * 1e-12)


@given(new=st.integers(2, 200), more=st.integers(1, 50), decodes=st.integers(1, 8), context=st.integers(2, 500))
def test_an_iteration_costs_more_the_more_it_carries(model, new, more, decodes, context):
    def iteration_s(*new_tokens, decodes=0, kv_entries=0):
        chunks = [Chunk(cached_tokens=0, new_tokens=tokens) for tokens in new_tokens]
        return model.iteration_s(chunks=chunks, decodes=decodes, kv_entries=kv_entries)

    alone_s = iteration_s(new)
    assert alone_s == pytest.approx(model.prefill_s(batch_size=1, new_tokens=new, cached_tokens=0))
    beside_s = iteration_s(new, decodes=decodes, kv_entries=decodes * context)
    assert alone_s < beside_s <= iteration_s(new, decodes=decodes, kv_entries=decodes * (context + 1))
    assert beside_s < iteration_s(new + more, decodes=decodes, kv_entries=decodes * context)
    assert alone_s < iteration_s(new, more + 1)


def test_inside_its_bounds_nothing_is_counted_and_nothing_is_noisy_by_itself(model):
    model.iteration_s(chunks=[Chunk(0, 100)], decodes=3, kv_entries=300)
    assert model.outside_calls == 0
    assert model.noise is None


def test_the_published_service_takes_9_9_ms_an_output_token():
    """Prefill yields the first token, decode steps the other 99."""
    law = PerToken(kind="per_token", base_s=0.0099, per_output_token_s=0.0099).model(Streams(0))
    service_s = law.prefill_s(batch_size=1, new_tokens=30, cached_tokens=0)
    service_s += law.decode_s(batch_size=1, context_tokens=31, steps=99)
    assert service_s == pytest.approx(0.99)


def test_a_serial_service_pays_for_every_sequence():
    law = PerToken(kind="per_token", per_prompt_token_s=0.001, per_output_token_s=0.01, per_sequence_s=0.01)
    assert law.prefill_s(batch_size=3, new_tokens=5, cached_tokens=90) == pytest.approx(0.015)
    assert law.decode_s(batch_size=3, context_tokens=5, steps=2) == pytest.approx(0.06)


def test_a_negative_or_missing_law_is_refused():
    with pytest.raises(ValidationError, match="per_output_token_s"):
        LATENCY.validate_python({"kind": "per_token"})
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        LATENCY.validate_python({"kind": "per_token", "per_output_token_s": -1})
