"""What trace readers refuse, and that they name the line."""

import pytest

from infertuner.errors import TraceError
from infertuner.sources.traces import Trace
from infertuner.streams import Streams

CSV = "arrived_at_s,prompt_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


GOOD = '{"timestamp": 0, "input_length": 3, "output_length": 4, "hash_ids": [1]}\n'
MALFORMED = [
    ("csv", CSV + "0,1,1\n1,x,1\n", 3, "prompt_tokens is 'x', must be a whole number"),
    ("csv", CSV + "0,1,1\n\n1,1.5,1\n", 4, "prompt_tokens is '1.5', must be a whole number"),
    ("csv", CSV + "0,1,1\n1,,1\n", 3, "prompt_tokens is '', must be a whole number"),
    ("csv", CSV + "0,1,1\n1,1\n", 3, "2 fields, must be 3 as in the header"),
    ("csv", CSV + "0,1,1,1\n", 2, "4 fields, must be 3 as in the header"),
    ("csv", CSV + "0,1,1\n\n\n1,1,-3\n", 5, "output_tokens is -3, must be 1 or more"),
    ("csv", CSV + "0,1,1\n1,0,1\n", 3, "prompt_tokens is 0, must be 1 or more"),
    ("csv", CSV + "0,1,1\n-1,1,1\n", 3, "arrived_at_s is -1, must be 0 or more"),
    ("csv", CSV + "0,1,1\nnan,1,1\n", 3, "arrived_at_s is 'nan', must be a finite number"),
    (
        "csv",
        CSV.strip() + ",prefix_tokens\n0,5,1,4\n0,5,1,5\n",
        3,
        "prefix_tokens is 5, must be below prompt_tokens (5)",
    ),
    ("csv", AZURE + "2023-11-16 18:15:46.6805900,1,1\n", 1, "no column arrived_at_s (found TIMESTAMP, ContextTokens"),
    ("csv", "", 1, "no column arrived_at_s (found nothing)"),
    (
        "azure_2023",
        AZURE + "2023-11-16 18:15:46,1,1\nyesterday,1,1\n",
        3,
        "TIMESTAMP is 'yesterday', must be an instant",
    ),
    ("burstgpt", BURSTGPT + "5,GPT-4,7,-1,6,log\n", 2, "Response tokens is -1, must be 0 or more"),
    ("mooncake", GOOD + '{"timestamp": 0\n', 2, "must be one complete JSON object"),
    ("mooncake", GOOD + "\n[1, 2]\n", 3, "must be one complete JSON object"),
    ("mooncake", GOOD + '{"timestamp": 0, "input_length": 3, "hash_ids": [1]}\n', 2, "output_length is missing"),
    ("mooncake", GOOD + GOOD.replace("3", '"three"'), 2, """input_length is '"three"', must be a whole number"""),
    ("mooncake", GOOD + GOOD.replace("[1]", "null"), 2, "hash_ids is 'null', must be a list of whole numbers"),
    (
        "mooncake",
        GOOD + GOOD.replace("[1]", "[1, null]"),
        2,
        "hash_ids is '[1, null]', must be a list of whole numbers",
    ),
    ("mooncake", GOOD + "[" * 100_000, 2, "must be one complete JSON object"),
    ("csv", CSV + "0,99999999999999999999,1\n", 2, "prompt_tokens is '99999999999999999999', must be a whole number"),
    ("mooncake", GOOD + GOOD.replace("4", "0"), 2, "output_length is 0, must be 1 or more"),
]


@pytest.mark.parametrize(("form", "text", "line", "complaint"), MALFORMED)
def test_malformed_lines_are_named(form, text, line, complaint, tmp_path):
    (tmp_path / "trace").write_text(text)
    with pytest.raises(TraceError) as refused:
        Trace(kind="trace", path=tmp_path / "trace", format=form).sample(Streams(1))
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'trace'}, line {line}: ")
    assert complaint in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("csv", CSV),
        ("azure_2023", AZURE),
        ("burstgpt", BURSTGPT),
        ("burstgpt", BURSTGPT + "1,a,0,0,0,b\n"),
        ("mooncake", ""),
        ("mooncake", "\n\n"),
    ],
)
def test_empty_traces_are_refused(form, text, tmp_path):
    (tmp_path / "trace").write_text(text)
    with pytest.raises(TraceError, match="no requests in this trace"):
        Trace(kind="trace", path=tmp_path / "trace", format=form).sample(Streams(1))


@pytest.mark.parametrize("form", ["csv", "azure_2023", "mooncake", "burstgpt"])
def test_a_missing_file_or_a_folder_is_refused_when_sampled_not_before(form, tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        trace = Trace(kind="trace", path=path, format=form)
        with pytest.raises(TraceError, match=r"cannot read this trace \(.*\); check workload.path"):
            trace.sample(Streams(1))
