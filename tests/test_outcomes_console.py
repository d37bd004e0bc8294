"""Tables on a terminal and in a pipe."""

from __future__ import annotations

from io import StringIO
from math import nan

import pandas as pd
import pytest
from rich.console import Console

from infertuner.outcomes.console import format_cell, print_table
from infertuner.outcomes.statistics import Interval

ROWS = [
    {"arm": "static", "requests": 12345, "ttft_mean_s": Interval(0.5, 0.25, 0.75, 8), "hit_ratio": 0.5},
    {"arm": "[bold]fluid", "requests": 80, "ttft_mean_s": Interval(None, None, None, 0), "hit_ratio": nan},
]


def printed(rows, **console) -> str:
    file = StringIO()
    print_table("cache", rows, Console(file=file, **console))
    return file.getvalue()


def test_a_pipe_gets_plain_words_in_columns():
    lines = [line.split() for line in printed(ROWS).splitlines()]
    assert lines == [
        ["cache"],
        ["arm", "requests", "ttft_mean_s", "hit_ratio"],
        ["static", "12,345", "500", "ms", "±", "250", "ms", "50.0", "%"],
        ["[bold]fluid", "80", "-", "-"],
    ]


def test_a_pipe_truncates_nothing():
    row = {f"a_long_column_name_{i}": "x" * 50 for i in range(40)}
    text = printed([row], width=80)
    assert all(name in text for name in row)
    assert text.count("x" * 50) == 40


def test_a_terminal_keeps_to_its_width():
    text = printed(ROWS, width=50, force_terminal=True, color_system=None, legacy_windows=False)
    assert all(len(line) <= 50 for line in text.splitlines())
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_wide_table_turns_on_its_side():
    row = {"strategy": "static", **{f"metric_number_{i}": i for i in range(9)}}
    text = printed([row, row | {"strategy": "fluid"}], width=60, force_terminal=True, color_system=None)
    lines = [line.split() for line in text.splitlines() if line.split()]
    assert ["strategy", "static", "fluid"] in lines
    assert ["metric_number_8", "8", "8"] in lines


def test_frames_and_nothing_are_tables_too():
    frame = pd.DataFrame([{"arm": "static", "n": 3, "e2e_s": 2.0}])
    assert printed(frame).split() == ["cache", "arm", "n", "e2e_s", "static", "3", "2.00", "s"]
    assert printed([]).strip() in ("", "cache")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("ttft_s", 0.0123, "12.3 ms"),
        ("throughput_per_s", 1234.5, "1,234"),
        ("hit_ratio", 1.0, "100.0 %"),
        ("requests", 1_000_000, "1,000,000"),
        ("saturated", True, "True"),
        ("tpot_s", None, "-"),
        ("gpu_id", pd.NA, "-"),
        ("tpot_s", Interval(0.5, None, None, 1), "500 ms"),
        ("hit_ratio", Interval(0.5, 0.4, 0.6, 8), "50.0 % ± 10.0 %"),
        ("speed_up", Interval(2.0, 1.6, 2.5, 8), "2.00 (1.60 to 2.50)"),
    ],
)
def test_cells_carry_the_unit_of_their_name(name, value, text):
    assert format_cell(name, value) == text
