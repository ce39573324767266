"""Numbers as text: what each function writes, stated value by value."""

import math

import pytest

from memexp.formatting import (
    counted,
    dollars,
    duration,
    hours_text,
    number,
    percent,
    ranges,
    short_count,
    shortened,
    with_prefix,
)


@pytest.mark.parametrize(
    ("hours", "decimals", "text"),
    [
        (2.153, 2, "2.15"),
        (0.0, 2, "0s"),
        (0.1, 2, "0.10"),
        (0.004, 2, "14s"),
        (0.05, 1, "3m00s"),
        (1234.56, 1, "1,234.6"),
    ],
)
def test_hours_are_minutes_where_they_would_be_nothing(hours, decimals, text):
    assert hours_text(hours, decimals) == text


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (duration, {None: "–", 0: "0s", 59.4: "59s", 60: "1m00s", 75: "1m15s", 4000: "1h06m", 359_999: "99h59m",
                    360_000: "100h", 4.5e6: "1,250h"}),
        (dollars, {None: "–", math.nan: "–", 0.0: "$0.00", 0.123: "$0.12", 11.5: "$11.50", 1234.5: "$1,234"}),
        (percent, {None: "–", math.inf: "–", 0.0: "0 %", 0.0003: "0.03 %", 0.0994: "9.9 %", 0.0995: "10 %",
                   0.624: "62 %", 1.0: "100 %"}),
        (number, {None: "–", 0.0: "0.00", 0.93456: "0.93", 13.44: "13.4", 1234.5: "1,234", -2.5: "-2.50"}),
        (short_count, {0: "0", 950: "950", 999.6: "1k", 12_345: "12.3k", 1_500_000: "1.5m", 2e9: "2b", -3000: "-3k"}),
        (with_prefix, {40: "40 ", 999: "999 ", 4096: "4.10 k", 16_384: "16.4 k", 2_228_224: "2.23 M", 3e15: "3,000 T"}),
        (lambda n: counted(n, "run"), {0: "0 runs", 1: "1 run", 1200: "1,200 runs"}),
    ],
)  # fmt: skip
def test_a_number_is_written_as_people_write_it(function, texts):
    assert {value: function(value) for value in texts} == texts


def test_numbers_in_a_row_are_a_range():
    assert ranges([5, 2, 0, 1]) == "0-2, 5"
    assert ranges([3, 4]) == "3-4"
    assert ranges([1, 2, 3, 7, 8], shortest=3) == "1-3, 7, 8"
    assert ranges([]) == ""


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", ""),
        ("a\nb\nc\nd", "a\nb\nc\nd"),
        ("a\nb\nc\nd\ne", "a\nb\n... 1 more line ...\nd\ne"),
        ("a\nb\nc\nd\ne\nf", "a\nb\n... 2 more lines ...\ne\nf"),
        ("123456", "123456"),
        ("1234567", "123 ... 567"),
    ],
)
def test_a_text_that_is_too_long_keeps_its_start_and_its_end(text, short):
    assert shortened(text, most_lines=4, most_characters=6) == short
