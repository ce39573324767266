"""Knobs of environments: explained in one place, typed anywhere, and a wrong one is one clear line."""

import json
import re
from pathlib import Path

import pytest
import yaml
from helpers.commands import type_command

from memexp.cli.listing import field_docstrings, knob_rows
from memexp.config import UsageError
from memexp.envs.config import ENVIRONMENTS
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import Matrix
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.run_spec import resolve

CVC, LINES = "cvc_random_maps_train.train", "assembly_lines_train.train"
KNOBS = [(env, knob) for env, config in ENVIRONMENTS.items() for knob in config.model_fields if knob != "name"]
FEW = {f"num_{name}s": 2 for name in ("assembler", "charger", "chest")}
FEW |= {f"num_{name}_extractors": 2 for name in ("carbon", "oxygen", "germanium", "silicon")}


@pytest.mark.parametrize(("env", "knob"), KNOBS, ids=lambda word: word)
def test_every_knob_says_what_it_does_and_what_values_it_takes(env, knob):
    (row,) = [row for row in knob_rows() if (row["env"], row["knob"]) == (env, knob)]
    assert row["effect"] == field_docstrings(ENVIRONMENTS[env])[knob]
    assert row["effect"].endswith(".")
    assert len(row["effect"].split()) > 2
    words = set(row["range"].split())
    assert words
    assert not words & {"array", "object", "None"}
    assert ("number" in row["range"] and not re.search(r"\d", row["range"])) == (knob in UNBOUNDED)
    assert row["default"] == ENVIRONMENTS[env].model_fields[knob].default


UNBOUNDED = ("deposit_reward", "heart_rewards", "resource_rewards", "ceiling_return")
"""Knobs that take any number."""


@pytest.mark.parametrize(
    ("env", "knob", "allowed"),
    [
        ("tmaze", "length", "whole number, 1 to 10,000"),
        ("chain_recall", "episode_length", "whole number, 1 or more"),
        ("assembly_lines", "chain_lengths", "list of: whole number, 1 to 9 or none"),
        ("cvc_random_maps", "map_width", "from, to: whole number, 0 to 200"),
        ("cvc_random_maps", "heart_buckets", "true, false"),
        ("cvc_random_maps", "assembler_protocols", "list of: hard, medium, easy, all"),
        ("cvc_random_maps", "deposit_reward", "list of: number"),
        ("cvc_random_maps", "resource_reward_caps", "list of: number above 0"),
    ],
)
def test_a_range_is_said_in_words(env, knob, allowed):
    (row,) = [row for row in knob_rows() if (row["env"], row["knob"]) == (env, knob)]
    assert row["range"] == allowed


def test_the_list_of_knobs_names_every_one(capsys):
    typed = type_command(capsys, "list", "envs", "--knobs")
    assert (typed.code, typed.err) == (0, "")
    text = " ".join(typed.out.split())
    for row in knob_rows():
        assert f"{row['knob']} = " in text
        assert row["effect"] in text
    assert json.loads(type_command(capsys, "list", "envs", "--knobs", "--json").out) == knob_rows()
    assert [(row["env"], row["knob"]) for row in knob_rows()] == KNOBS


WRONG = {
    "unknown knob": (CVC, "map_widht=12", "unknown argument 'map_widht' of recipes.*did you mean 'map_width'"),
    "out of range": (CVC, "map_width=300", "env.map_width: .*less than or equal to 200 .got 300"),
    "list with one value out of range": (LINES, "chain_lengths=1,10", "env.chain_lengths: .*equal to 9 .got 10"),
    "span reversed": (CVC, "num_chests=20,10", r"env.num_chests: .*did you mean \[10, 20\]"),
    "span of three": (CVC, "num_chests=1,2,3", "env.num_chests: .*at most 2"),
    "empty span": (CVC, "num_chests=[]", "env.num_chests: .*at least 1 item"),
    "no number": (CVC, "num_chests=many", "env.num_chests: .*whole number.*many"),
    "no such value": (CVC, "assembler_protocols=hrd", "env.assembler_protocols: .*'hard', 'medium', 'easy' or 'all'"),
    "not true or false": (CVC, "heart_buckets=maybe", "heart_buckets: .*true or false"),
    "map too small": (CVC, "map_width=5", "a map of 5 x 30 has 150 cells, too few for 20 agents .* up to 300 objects"),
    "too few vibes": (CVC, "num_vibes=11", "num_vibes=11 leaves out heart_b, .*at least 12"),
    "too many stations": (LINES, "chain_lengths=9 num_sinks=3", "chains of 9 resources and 3 sinks take 13 stations"),
    "endless reward": (CVC, "deposit_reward=inf", "deposit_reward.*finite"),
    "given twice": (CVC, "map_width=40 env.map_width=50", "'map_width' is given twice: 40, and 50 as 'env.map_width'"),
    "an argument twice": (CVC, "num_cogs=4 env.num_cogs=6", "'num_cogs' is given twice: 4, and 6 as 'env.num_cogs'"),
    "a memory twice": (CVC, "mem_len=0 cortex.mem_len=128", "'mem_len' is given twice: 0, and 128 as 'cortex.mem_len'"),
    "suite that does not fit": (
        CVC,
        "evaluation.suite_episodes=1 map_width=80 num_chests=200 num_chargers=200 num_assemblers=200 "
        "num_carbon_extractors=200 num_cogs=64",
        "evaluation.suite_episodes: 30x30_hard: a map of 30 x 30 has 900 cells, too few for 64 agents",
    ),
}


@pytest.mark.parametrize(("recipe", "words", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_knob_is_one_clear_line(capsys, recipe: str, words: str, named: str):
    typed = type_command(capsys, "launch", recipe, *words.split(), "--run=a", "--dry-run", "--local")
    assert (typed.code, typed.out) == (2, "")
    assert len(typed.err.splitlines()) == 1
    with pytest.raises(UsageError, match=named):
        resolve(find_recipe(recipe), dict(word.split("=", 1) for word in words.split()))


def test_a_knob_is_an_argument_of_a_recipe_for_its_environment(capsys):
    few = {**FEW, "map_width": 14, "map_height": [9, 12], "max_steps": 40, "num_cogs": 2}
    config = resolve(find_recipe(CVC), few)
    assert config == resolve(find_recipe(CVC), {f"env.{knob}": value for knob, value in few.items()})
    assert (config.env.map_width, config.env.map_height) == ([14, 14], [9, 12])
    assert (config.env.num_chests, config.env.max_steps, config.env.num_cogs) == ([2, 2], [40], 2)
    words = [f"{knob}={json.dumps(value)}" for knob, value in few.items()]
    assert type_command(capsys, "launch", CVC, *words, "--run=a", "--dry-run", "--local").code == 0
    typed = resolve(find_recipe(CVC), dict(word.split("=", 1) for word in words))
    assert typed == config


def test_an_argument_of_the_recipe_comes_before_a_knob_of_its_name():
    """The recipe may do more with it than set the knob."""
    assert resolve(find_recipe("tmaze"), {"length": "9"}).env.length == 9
    config = resolve(find_recipe(CVC), {"num_cogs": "7", "num_vibes": "12"})
    assert (config.env.num_cogs, config.env.num_vibes) == (7, 12)
    with pytest.raises(UsageError, match=r"^num_cogs: "):  # bound by the recipe's own signature
        resolve(find_recipe(CVC), {"num_cogs": "few"})


MATRIX = {
    "name": "small",
    "environments": {"maps": {"recipe": CVC, "args": {**FEW, "map_width": [9, 12], "map_height": 10, "num_cogs": 2}}},
    "architectures": {"S": {"pattern": "S", "n_heads": 2, "d_hidden": 16}},
    "steps": ["1k"],
    "seeds": 1,
    "overrides": {"max_steps": [30, 40]},
}


def test_a_matrix_file_takes_knobs_as_arguments(capsys, tmp_path: Path):
    for spec in expand(Matrix.parse(MATRIX)):
        world = spec.config.env
        assert (world.map_width, world.map_height, world.max_steps) == ([9, 12], [10, 10], [30, 40])
        assert resolve(find_recipe(spec.recipe), spec.overrides) == spec.config
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(MATRIX))
    assert type_command(capsys, "launch", str(file), "--dry-run", "--local").code == 0


@pytest.mark.parametrize(
    ("knob", "value", "named"),
    [
        ("map_widht", 12, "did you mean 'map_width'"),
        ("num_chests", [3, 2], r"env.num_chests: .*did you mean \[2, 3\]"),
        ("map_width", 1, "a map of 1 x 10 has 10 cells"),
    ],
)
def test_a_wrong_knob_in_a_matrix_file_is_named_with_its_run(knob, value, named):
    broken = {**MATRIX, "overrides": {knob: value}}
    with pytest.raises(UsageError, match=named) as caught:
        expand(Matrix.parse(broken))
    assert "env=maps" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
