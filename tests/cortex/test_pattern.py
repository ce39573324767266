"""Pattern strings name the cells of a column."""

from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexp.pattern import NAMES, TOKENS, cell_modules, parse_pattern, remembers
from memexp.project import entries


@pytest.mark.parametrize(
    ("pattern", "tokens"),
    [
        ("X", ["X"]),
        ("AgSA", ["Ag", "S", "A"]),
        ("AAg", ["A", "Ag"]),
        ("X^S", ["X^", "S"]),
        ("M^M,  C", ["M^", "M", "C"]),
        ("cells:MinGRU", ["cells:MinGRU"]),
        ("Ag,cells:MinGRU,A", ["Ag", "cells:MinGRU", "A"]),
        ("my.cells:S2 XS", ["my.cells:S2", "X", "S"]),
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


@pytest.mark.parametrize(("word", "name"), [("gruu", "gru"), ("Mlstmm", "mlstm"), ("transformer", "transformer-xl")])
def test_a_misspelt_name_gets_the_nearest_one(word: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"did you mean '{name}'\?$"):
        parse_pattern(f"S,{word}")


def test_unknown_letters_get_all_tokens_and_names() -> None:
    with pytest.raises(ValueError, match="has no token at 'q'") as error:
        parse_pattern("q")
    _, tokens, _, names = str(error.value).split("; ")
    assert tokens == f"tokens: {', '.join(TOKENS)}"
    assert names == f"names: {', '.join(sorted(NAMES))}"


@pytest.mark.parametrize("pattern", ["cells:", ":MinGRU", "S,cells:Min-GRU", "a:b:c", "cells:MinGRU(width=2)"])
def test_a_word_with_a_colon_is_module_and_class(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not MODULE:CLASS"):
        parse_pattern(pattern)


def test_names_of_papers_stand_for_tokens() -> None:
    assert parse_pattern("gru") == parse_pattern("GRU") == ["G"]
    assert parse_pattern("mingru,S lru") == ["G-", "S", "R"]
    assert parse_pattern("G-GSR") == ["G-", "G", "S", "R"]


def test_installed_packages_name_cells_unless_the_name_consists_of_our_tokens(monkeypatch) -> None:
    offered = [EntryPoint("mingru", "their.cells:MinGRU", "memexp.cells"), EntryPoint("SA", "their:SA", "memexp.cells")]
    monkeypatch.setattr("memexp.project.entry_points", lambda group: offered)
    entries.cache_clear()
    try:
        assert parse_pattern("X,mingru SA") == ["X", "mingru", "S", "A"]
        assert cell_modules(["X,mingru", "mine:Cell"]) == [("mine", "Cell"), ("their.cells", "MinGRU")]
        with pytest.raises(ValueError, match=r"'i' .*mingru"):
            parse_pattern("Mingru")
    finally:
        entries.cache_clear()


def test_an_empty_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        parse_pattern(" ,")


@pytest.mark.parametrize(
    ("pattern", "mem_len", "answer"),
    [
        ("X", 0, False),
        ("X^", 0, False),
        ("X", 1, True),
        ("XS", 0, True),
        ("C", 0, True),
        (["X", "L"], 0, True),
        ("m:C", 0, True),
    ],
)
def test_attention_over_no_steps_is_all_that_remembers_nothing(pattern, mem_len: int, answer: bool) -> None:
    assert remembers(pattern, mem_len) is answer
