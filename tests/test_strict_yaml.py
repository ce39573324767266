"""One YAML reader: YAML 1.2, nothing that YAML 1.1 read as something else, and an end to what costs time or memory."""

import math
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from memexp.config import Count, UsageError, parse_value
from memexp.launch.plan.run_spec import override_text
from memexp.strict_yaml import MAX_DIGITS, MAX_LEVELS, MAX_VALUES, problem, read

scalars = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
trees = st.recursive(scalars | text, lambda one: st.lists(one, max_size=3) | st.dictionaries(text, one, max_size=3))


@given(st.lists(trees) | st.dictionaries(text, trees))
def test_a_value_of_a_matrix_file_survives_the_command_line_of_a_node(value: Any):
    assert read(override_text(value)) == value


@pytest.mark.parametrize("value", [{"x": math.inf}, {"a": {0: "x"}}, [{None: 1}]])
def test_a_value_that_the_command_line_would_change_is_refused(value: Any):
    with pytest.raises(UsageError, match="cannot be passed on: keys are text, and numbers are finite"):
        override_text(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-1", 0.1), ("1e1", 10.0), ("2e9", 2e9), (".5", 0.5), ("-1.", -1.0), ("0", 0), ("-7", -7), ("0o17", 15),
        ("0x1F", 31), ("2_000_000", 2_000_000), ("1_000.5", 1000.5), (".inf", math.inf), ("true", True), ("~", None),
        ("", None), ("2b", "2b"), ("x1", "x1"), ("1.2.3", "1.2.3"), ("a:b", "a:b"), ("y", "y"), ("=", "="),
        ("'010'", "010"), ('"off"', "off"), ("! x", "x"), ("memory: off", {"memory": "off"}),
        ("cortex.memory: on", {"cortex.memory": "on"}), ("{memory: [on, off]}", {"memory": ["on", "off"]}),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text: str, value: Any):
    found = read(text)
    assert (found, type(found)) == (value, type(value))


AMBIGUOUS = [
    *("yes", "No", "ON", "off"),
    *("010", "001", "08", "0100_000", "-010", "007.5", "0b11"),
    *("1:30", "1:30:00", "190:20:30.15", "-1:05"),
    *("2020-01-31", "2020-99-99", "2020-02-30", "2020-01-01T25:61:00Z", "2020-01-01 10:00:00"),
]


@pytest.mark.parametrize("text", AMBIGUOUS)
@pytest.mark.parametrize("place", ["{}", "a: {}", "- {}", "{{a: [1, {}]}}", "{}: a", "on_memory: {}"])
def test_what_yaml_1_1_read_otherwise_is_refused_with_what_to_write(place: str, text: str):
    with pytest.raises(yaml.YAMLError) as caught:
        read(place.format(text))
    assert f"'{text}' is ambiguous" in problem(caught.value)
    assert "write " in problem(caught.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a: 1\nb: {pattern: Ag,cells:X}", "cells:X"),
        ("{pattern: Ag, cells:X, mem_len: 3}", "cells:X"),
        ("{pattern: S, mem_len:3}", "mem_len:3"),
        ("- {recipe:tmaze}", "recipe:tmaze"),
        ("{env: module:mine:Env,length}", "length"),
    ],
)
def test_a_key_in_braces_without_a_colon_is_refused_with_the_advice_to_quote(text: str, key: str):
    with pytest.raises(yaml.YAMLError) as caught:
        read(text)
    assert f"'{key}' has no value: put a text with a comma in quotes" in problem(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: , b: }", {"a": None, "b": None}),
        ("a:\nb: {}", {"a": None, "b": {}}),
        ("{x: &q '', y: *q, z: *q }", {"x": "", "y": "", "z": ""}),
        ('{pattern: "Ag,cells:X"}', {"pattern": "Ag,cells:X"}),
        ('{"a":1}', {"a": 1}),
    ],
)
def test_a_key_with_a_colon_may_have_an_empty_value(text: str, value: Any):
    assert read(text) == value


@pytest.mark.parametrize("text", ["010", "1:30", "yes", "[1, 010]", "2020-01-01"])
@pytest.mark.parametrize("annotation", [int, Count, float | None, list[int], Any])
def test_values_on_the_command_line_follow_the_same_rule(annotation: Any, text: str):
    with pytest.raises(UsageError, match="length: "):
        parse_value(text, annotation, "length")


TENFOLD = "a: &a [x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefg"))
ENDLESS = {
    "deep lists": ("[" * 5000 + "]" * 5000, f"more than {MAX_LEVELS} levels"),
    "deep mappings": ("{a: " * 5000 + "1" + "}" * 5000, f"more than {MAX_LEVELS} levels"),
    "deep blocks": ("- " * 5000, f"more than {MAX_LEVELS} levels"),
    "a deep list that does not end": ("[" * 50_000, f"more than {MAX_LEVELS} levels"),
    "an alias bomb": (TENFOLD, f"line 5: there are more than {MAX_VALUES:,} values"),
    "a bomb of merges": ("a: &a {x: 1}\nb: {<<: [" + "*a," * MAX_VALUES + "]}", f"more than {MAX_VALUES:,} values"),
    "many values": ("[" + "1," * 20_000 + "]", f"more than {MAX_VALUES:,} values"),
    "a list in itself": ("a: &a [*a]", "an alias stands inside the value that it names"),
    "a mapping in itself": ("a: &a {b: {c: *a}}", "an alias stands inside the value that it names"),
    "a merge of itself": ("a: &a {<<: *a}", "an alias stands inside the value that it names"),
    "a long number": ("a: " + "9" * 5000, f"5,000 digits; {MAX_DIGITS} is the most"),
    "a long hexadecimal number": ("a: 0x" + "f" * 5000, f"digits; {MAX_DIGITS} is the most"),
    "a number beyond floats": ("a: 1e400", "too large"),
    "a tag": ("a: !!set {x}", "leave out the tag '!!set'"),
    "a call": ("a: !!python/object/apply:os.getcwd []", "leave out the tag"),
    "a tag of a number": ("a: !!int x", "leave out the tag '!!int'"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "named"), ENDLESS.values(), ids=ENDLESS.keys())
def test_what_costs_time_or_memory_is_refused_with_the_limit(text: str, named: str):
    with pytest.raises(yaml.YAMLError) as caught:
        read(text)
    assert named in problem(caught.value)
    assert "\n" not in problem(caught.value)
