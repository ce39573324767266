"""Pattern strings name the cells of a column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexp.pattern import TOKENS, parse_pattern, remembers


@pytest.mark.parametrize(
    ("pattern", "tokens"),
    [
        ("X", ["X"]),
        ("AgSA", ["Ag", "S", "A"]),
        ("AAg", ["A", "Ag"]),
        ("X^S", ["X^", "S"]),
        ("M^M,  C", ["M^", "M", "C"]),
    ],
)
def test_the_longest_token_that_fits_is_read_first(pattern: str, tokens: list[str]) -> None:
    assert parse_pattern(pattern) == tokens


@given(st.lists(st.sampled_from(sorted(TOKENS)), min_size=1, max_size=6), st.sampled_from(["", ",", " ", ", "]))
def test_tokens_written_one_after_the_other_are_read_back(tokens: list[str], separator: str) -> None:
    assert parse_pattern(separator.join(tokens)) == tokens


@pytest.mark.parametrize(
    ("pattern", "place"), [("AgZA", "'Z' (character 3)"), ("x", "'x' (character 1)"), ("S^^", "'^'")]
)
def test_a_character_that_begins_no_token_is_pointed_at(pattern: str, place: str) -> None:
    with pytest.raises(ValueError, match="has no token at") as error:
        parse_pattern(pattern)
    assert place in str(error.value)


def test_an_empty_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        parse_pattern(" ,")


@pytest.mark.parametrize(
    ("pattern", "mem_len", "answer"),
    [("X", 0, False), ("X^", 0, False), ("X", 1, True), ("XS", 0, True), ("C", 0, True), (["X", "L"], 0, True)],
)
def test_attention_over_no_steps_is_all_that_remembers_nothing(pattern, mem_len: int, answer: bool) -> None:
    assert remembers(pattern, mem_len) is answer
