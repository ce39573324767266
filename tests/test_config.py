"""Overrides become typed values and reach exactly the key they name; mistakes name the nearest right word."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from memexp.config import (
    MAX_NAME,
    Count,
    UsageError,
    bind_arguments,
    check_run_name,
    count_name,
    did_you_mean,
    override,
    parse_count,
    parse_overrides,
    parse_value,
    path_in,
    read_yaml,
)
from memexp.ppo.config import TrainConfig

counts = st.integers(min_value=0, max_value=10**13)


@given(counts)
def test_a_count_written_as_people_do_reads_back_as_the_same_count(count: int):
    assert parse_count(count_name(count)) == count
    assert parse_count(f"{count:_}") == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2b", 2 * 10**9),
        ("500m", 5 * 10**8),
        ("64k", 64_000),
        ("2_000_000", 2 * 10**6),
        ("2e9", 2 * 10**9),
        ("1.5M", 1_500_000),
        ("1.005m", 1_005_000),
    ],
)
def test_counts_may_be_written_with_a_magnitude(text: str, count: int):
    assert parse_value(text, Count, "steps") == count


@given(st.text(max_size=8))
def test_text_that_is_no_count_is_never_taken_for_one(text: str):
    value = parse_count(text)
    assert value is text or isinstance(value, (int, float))


@given(st.one_of(st.integers(-(10**12), 10**12), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_value_typed_as_text_is_the_value(value: Any):
    assert parse_value(str(value), type(value), "x") == value


@given(st.lists(st.integers(-1000, 1000), min_size=1))
def test_lists_may_be_typed_with_and_without_brackets(values: list[int]):
    assert parse_value(str(values), list[int], "x") == values
    assert parse_value(",".join(map(str, values)), list[int], "x") == values


@pytest.mark.parametrize(("text", "value"), [("none", None), ("null", None), ("3", 3)])
@pytest.mark.parametrize("annotation", [int | None, Annotated[int | None, Field(gt=0)], Count | None])
def test_an_optional_value_may_be_none(text: str, value: int | None, annotation: Any):
    assert parse_value(text, annotation, "x") == value


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("two", int),
        ("1.5", int),
        ("1e400", int),
        ("maybe", bool),
        ("x", float),
        ("[S", str | list[str]),
        ("{a", Any),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(text: str, annotation: type):
    with pytest.raises(UsageError, match="length: "):
        parse_value(text, annotation, "length")


def test_a_value_that_fits_no_type_of_a_union_is_one_mistake():
    with pytest.raises(UsageError) as caught:
        parse_value("{a: 1}", str | list[str], "pattern")
    assert re.fullmatch("pattern: .*text, in quotes or .*a list.*", str(caught.value))
    with pytest.raises(UsageError) as caught:
        TrainConfig.parse({"seed": -1, "trainer": {"gamma": 2, "clip": 2, "gae_lambda": 2}, "cortex": {"pattern": 1}})
    places = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert places == ["seed", "cortex.pattern", "trainer.gamma", "trainer.gae_lambda"]


def _leaves(data: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _leaves(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat


NEW_VALUES = {
    "trainer.total_timesteps": "3m",
    "trainer.gamma": "0.5",
    "trainer.value_clip": "0.2",
    "trainer.precision": "bf16",
    "cortex.memory": "off",
    "cortex.pattern": "AgSA",
    "env.length": "9",
    "evaluation.every": "64k",
    "labels.arm": "X16~",
    "seed": "7",
    "run": "a-run",
}


@given(st.sets(st.sampled_from(sorted(NEW_VALUES)), min_size=1))
def test_an_override_changes_the_keys_it_names_and_no_other(keys: set[str]):
    before = TrainConfig()
    after = override(before, {key: NEW_VALUES[key] for key in keys})
    old, new = _leaves(before.model_dump()), _leaves(after.model_dump())
    assert {key for key in new if new[key] != old[key]} == keys
    assert before == TrainConfig()


@given(st.sets(st.sampled_from(sorted(NEW_VALUES)), min_size=1))
def test_the_order_of_overrides_does_not_matter(keys: set[str]):
    ordered = sorted(keys)
    forwards = override(TrainConfig(), {key: NEW_VALUES[key] for key in ordered})
    one_by_one = TrainConfig()
    for key in reversed(ordered):
        one_by_one = override(one_by_one, {key: NEW_VALUES[key]})
    assert forwards == one_by_one


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("trainer.total_timestep", "1", "did you mean 'total_timesteps'"),
        ("trainr.gamma", "1", "did you mean 'trainer'"),
        ("trainer.gamma.x", "1", "'trainer.gamma' in 'trainer.gamma.x' has no keys of its own"),
        ("trainer", "1", "is a group of keys: trainer.total_timesteps"),
        ("trainer.learning_rate", "inf", "trainer.learning_rate: .*finite"),
        ("trainer.gamma", "2", "trainer.gamma: .*less than or equal to 1"),
        ("trainer.total_timesteps", "-1", "trainer.total_timesteps: .*greater than 0"),
        ("env.lenght", "4", "did you mean 'length'"),
        ("cortex.pattern", "AgZA", "no token at 'Z'"),
        ("trainer.num_minibatches", "7", "does not divide"),
    ],
)
def test_a_wrong_override_names_what_is_wrong(key: str, value: str, named: str):
    with pytest.raises(UsageError, match=named):
        override(TrainConfig(), {key: value})


def test_overrides_are_pairs_and_may_not_contradict_each_other():
    assert parse_overrides(["a=1", "b=x=y", "a=1"]) == {"a": "1", "b": "x=y"}
    for words, named in ((["a"], "'a' is not KEY=VALUE"), (["=1"], "'=1' is not"), (["a=1", "a=2"], "given twice")):
        with pytest.raises(UsageError, match=named):
            parse_overrides(words)


def test_arguments_are_typed_by_the_functions_annotations():
    def recipe(length: int = 1, patterns: list[str] | None = None, on: bool = False, steps: Count = 1) -> None: ...

    words = {"length": "4", "patterns": "[S, X]", "on": "true", "steps": "2b"}
    assert bind_arguments(recipe, words) == {"length": 4, "patterns": ["S", "X"], "on": True, "steps": 2 * 10**9}
    with pytest.raises(UsageError, match="unknown argument 'lenght'; did you mean 'length'"):
        bind_arguments(recipe, {"lenght": "4"})


@given(st.text(max_size=MAX_NAME + 5))
def test_a_run_name_that_is_accepted_is_one_path_component_of_plain_characters(name: str):
    try:
        accepted = check_run_name(name)
    except UsageError:
        return
    assert accepted == name
    assert name.isascii()
    assert not set(name) & set("/\\ ~\n:")
    assert name[0].isalpha()


@pytest.mark.parametrize(("name", "near"), [("a/b", "'a-b'"), ("my run", "'my-run'"), ("x~", "'x'")])
def test_a_wrong_run_name_is_answered_with_a_right_one(name: str, near: str):
    with pytest.raises(UsageError, match=f"did you mean {near}"):
        check_run_name(name)


def test_far_off_words_get_the_list_instead_of_a_guess():
    assert did_you_mean("qqq", ["yaml", "json"]) == "; known: json, yaml"
    assert did_you_mean("jsn", ["yaml", "json"]) == "; did you mean 'json'?"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: 1\na: 2\n", "'a' stands twice"),
        ("a: [1\n", "line 2: expected"),
        ("a: 1\n b: 2\n", "line 2"),
        ("? [a, b]\n: 1\n", "cannot be a key"),
    ],
)
def test_broken_yaml_is_refused_with_its_file(tmp_path, text: str, named: str):
    file = tmp_path / "matrix.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=named) as caught:
        read_yaml(file)
    assert str(file) in str(caught.value)


def test_yaml_may_merge_what_an_anchor_names(tmp_path):
    file = tmp_path / "matrix.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read_yaml(file)["b"] == {"x": 1, "y": 3}


def test_a_list_of_what_is_known_ends_before_it_is_tiresome():
    text = did_you_mean("qqq", [f"{number:03}" for number in range(100)])
    assert text.startswith("; known: 000, 001")
    assert text.endswith(", 029 and 70 more")


def test_an_installed_copy_has_every_file_that_the_package_reads():
    root = Path(__file__).parent.parent
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = root / "memexp"
    taken = {file for pattern in settings["package-data"]["memexp"] for file in package.glob(pattern)}
    others = {file for file in package.rglob("*.*") if file.suffix not in (".py", ".pyc", ".nbi", ".nbc")}
    assert others - taken == set()
    assert others


def test_paths_in_environment_variables_are_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path / "x"))
    for typed, path in {"~/a": "a", "$PLACE/a": "x/a", "${PLACE}": "x"}.items():
        monkeypatch.setenv("SOME_FOLDER", typed)
        assert path_in("SOME_FOLDER", "b") == tmp_path / path
    monkeypatch.setenv("SOME_FOLDER", "")
    assert path_in("SOME_FOLDER", "~/b") == tmp_path / "b"
    for typed in ("$NOT_SET/a", "~nobody-of-this-name/a"):
        monkeypatch.setenv("SOME_FOLDER", typed)
        with pytest.raises(UsageError, match=r"SOME_FOLDER=.* is not known on this machine"):
            path_in("SOME_FOLDER", "b")


@pytest.mark.parametrize("key", ["seed", "trainer.gamma", "trainer.horizon"])
def test_a_yes_in_the_place_of_a_number_is_called_no_number(key):
    from memexp.config import override
    from memexp.ppo.config import TrainConfig

    with pytest.raises(UsageError, match=f"{key}: .*'yes' is not a number"):
        override(TrainConfig(), {key: "yes"})


@pytest.mark.parametrize(
    "key", ["cortex.d_hidden", "cortex.num_layers", "cortex.mem_len", "trainer.num_envs", "trainer.horizon"]
)
def test_an_absurd_size_is_refused_with_the_limit(key):
    from memexp.config import override
    from memexp.ppo.config import TrainConfig

    with pytest.raises(UsageError, match=f"{key}: must be less than or equal to"):
        override(TrainConfig(), {key: str(10**12)})
