"""Recipes are found by any unique tail of their names, without being imported, and take words as typed arguments."""

import inspect

import pytest

from memexp.config import UsageError
from memexp.launch.plan.recipe import all_recipes, find_recipe, split_target
from memexp.launch.plan.run_spec import resolve
from memexp.ppo.config import TrainConfig
from memexp.project import ProjectFinder

CVC = "recipes.experiment.cortex_paper.2_memory_needed.cvc_random_maps_train.train"
LINES = "recipes.experiment.cortex_paper.2_memory_needed.assembly_lines_train.train"


def test_the_founding_recipes_have_the_names_the_founding_note_types():
    assert {CVC, LINES, "recipes.controls.tmaze"} <= {recipe.name for recipe in all_recipes()}


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_gives_a_config_from_its_defaults_and_has_typed_arguments(recipe):
    config = resolve(recipe, {})
    assert isinstance(config, TrainConfig)
    assert config.recipe == recipe.name
    assert recipe.summary
    for parameter in inspect.signature(recipe.load()).parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_every_tail_of_a_name_finds_the_recipe_or_is_ambiguous(recipe):
    parts = recipe.name.split(".")
    for at in range(len(parts)):
        tail = ".".join(parts[at:])
        fitting = [other for other in all_recipes() if f".{other.name}".endswith(f".{tail}")]
        if len(fitting) == 1:
            assert find_recipe(tail) == recipe
        else:
            with pytest.raises(UsageError, match="ambiguous") as caught:
                find_recipe(tail)
            assert all(other.name in str(caught.value) for other in fitting)


def test_copies_of_recipes_in_folders_that_are_no_packages_are_no_recipes(tmp_path, monkeypatch):
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])
    own = set(all_recipes())
    for folder in (".", "inner", ".ipynb_checkpoints", "old", "old/inner"):
        (tmp_path / "recipes" / folder).mkdir(exist_ok=True)
        (tmp_path / "recipes" / folder / "mine.py").write_text("def train() -> TrainConfig: ...\n")
    for package in (".", "inner", "old/inner"):
        (tmp_path / "recipes" / package / "__init__.py").touch()
    monkeypatch.setattr(ProjectFinder, "folders", [f"{tmp_path}/"])
    names = {recipe.name for recipe in all_recipes()} - {recipe.name for recipe in own}
    assert names == {"recipes.inner.mine.train", "recipes.mine.train"}


def test_two_words_name_a_recipe():
    recipe, pairs = split_target(["train", "cvc_random_maps_train", "pattern=S"])
    assert recipe.name == CVC
    assert pairs == ["pattern=S"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tmase"], "did you mean 'recipes.controls.tmaze'"),
        ([CVC.replace("random", "randon")], f"did you mean '{CVC}'"),
        (["train", "cvc_random_map_train"], f"did you mean '{CVC}'"),
        (["qqqq"], "memexp list recipes"),
        (["tmaze", "S"], "'S' is not KEY=VALUE"),
        (["train", "tmaze", "S"], "'S' is not KEY=VALUE"),
        (["pattern=S"], "no recipe is named"),
    ],
)
def test_a_wrong_target_is_answered_with_what_to_type(words: list[str], named: str):
    with pytest.raises(UsageError, match=named):
        split_target(words)


def test_undotted_words_are_arguments_and_dotted_ones_reach_into_the_config():
    config = resolve(
        find_recipe(CVC),
        {"pattern": "AgSA", "num_cogs": "4", "trainer.total_timesteps": "2b", "run": "a.run", "seed": "3"},
    )
    assert (config.cortex.pattern, config.env.num_cogs) == ("AgSA", 4)  # type: ignore[union-attr]
    assert (config.trainer.total_timesteps, config.run, config.seed) == (2 * 10**9, "a.run", 3)


@pytest.mark.parametrize(
    ("word", "value", "named"),
    [
        ("patern", "S", "unknown argument 'patern' of recipes.controls.tmaze; did you mean 'pattern'"),
        ("sed", "1", "did you mean 'seed'"),
        ("total_timesteps", "1", "did you mean 'trainer.total_timesteps'"),
        ("recipe", "x", "unknown argument 'recipe'"),
        ("pattern", "AgZA", "no token at 'Z'"),
        ("length", "0", "length: .*greater than or equal to 1"),
        ("length", "long", "length: .*whole number"),
        ("run", "a/b", "did you mean 'a-b'"),
        ("n_heads", "3", "does not divide"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(word: str, value: str, named: str):
    with pytest.raises(UsageError, match=named):
        resolve(find_recipe("tmaze"), {word: value})
