"""The user's project: its modules, recipes and environments are found, after everything that is installed."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import type_command

from memexp import envs, project
from memexp.config import UsageError
from memexp.envs.config import ThirdParty
from memexp.launch.plan.recipe import all_recipes, find_recipe
from memexp.launch.plan.run_spec import resolve
from memexp.project import ProjectFinder, enter, entries, find_project

ROOT = Path(__file__).parents[1]
MARKED, RECIPE = "[tool.memexp]\n", "from memexp.ppo.config import TrainConfig\n\ndef {}() -> TrainConfig:\n"
BODY = '    """Mine."""\n    return TrainConfig()\n'
ENV = """
import gymnasium

class Colour(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Discrete(3), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 1, 1.0, True, False, {}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty project, in which commands are typed."""
    place = tmp_path / "mine"
    (place / "below").mkdir(parents=True)
    (place / "pyproject.toml").write_text(MARKED)
    monkeypatch.chdir(place)
    monkeypatch.setattr(ProjectFinder, "folders", [str(place)])
    entries.cache_clear()
    yield place
    for name in [name for name in sys.modules if name.partition(".")[0] in ("recipes", "colours", "suite")]:
        del sys.modules[name]
    entries.cache_clear()


def install(folder: Path, monkeypatch, points: str, **modules: str) -> None:
    """A package `suite` with entry points, as an installer leaves it."""
    site = folder / "site-packages"
    (site / "suite").mkdir(parents=True)
    for name, text in {"__init__": "", **modules}.items():
        (site / "suite" / f"{name}.py").write_text(text)
    (site / "suite-1.0.dist-info").mkdir()
    (site / "suite-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: suite\nVersion: 1.0\n")
    (site / "suite-1.0.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(site)


@pytest.mark.parametrize(
    ("files", "start", "found"),
    [
        ({"a/pyproject.toml": MARKED}, "a", "a"),
        ({"a/pyproject.toml": MARKED}, "a/b/c", "a"),
        ({"a/pyproject.toml": MARKED, "a/b/pyproject.toml": MARKED}, "a/b/c", "a/b"),
        ({"a/pyproject.toml": MARKED, "a/b/pyproject.toml": "[tool.other]\n"}, "a/b", "a"),
        ({"a/pyproject.toml": "[project]\nname = 'memexp'\n"}, "a", None),
        ({"a/pyproject.toml": "no toml at all"}, "a", None),
        ({}, "a", None),
    ],
)
def test_a_project_is_the_nearest_folder_upwards_with_a_table_of_its_own(tmp_path, files, start, found):
    (tmp_path / start).mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert find_project(tmp_path / start) == (found and tmp_path / found)


def test_a_folder_of_everybody_makes_no_project_of_the_folders_in_it(folder):
    folder.chmod(0o777)
    assert find_project(folder / "below") is None
    assert find_project(folder) == folder


def test_a_table_that_cannot_be_read_is_one_line(folder):
    (folder / "pyproject.toml").write_text("[tool.memexp\n")
    with pytest.raises(UsageError, match=r"pyproject.toml: .*line 1"):
        find_project(folder)


def test_without_a_project_the_folders_of_matrix_and_command_are_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(ProjectFinder, "folders", [])
    enter(tmp_path / "a", tmp_path)
    assert ProjectFinder.folders == [str(tmp_path / "a"), str(tmp_path)]
    assert project.variables() == {"MEMEXP_PROJECT": f"{tmp_path / 'a'}:{tmp_path}"}


@pytest.mark.parametrize("file", ["recipes.py", "recipes/__init__.py", "recipes/one.py", "recipes/two/__init__.py"])
def test_recipes_of_a_project_are_found_and_run_from_any_folder_in_it(folder, file, monkeypatch, capsys):
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(RECIPE.format("colour") + BODY)
    monkeypatch.chdir(folder / "below")
    typed = type_command(capsys, "launch", "colour", "--local", "--dry-run", "length=4")
    assert typed.code == 0, typed.err
    name = ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")
    assert find_recipe("colour").name == f"{name}.colour"
    assert "recipes.controls.tmaze  " in type_command(capsys, "list", "recipes").out


def test_a_recipe_of_a_project_takes_the_name_of_one_of_memexps_which_keeps_its_long_name(folder):
    (folder / "recipes").mkdir()
    (folder / "recipes" / "controls.py").write_text(RECIPE.format("tmaze") + BODY)
    assert find_recipe("recipes.controls.tmaze").file == folder / "recipes" / "controls.py"
    assert find_recipe("memexp.recipes.controls.tmaze").file == ROOT / "memexp" / "recipes" / "controls.py"
    with pytest.raises(UsageError, match=r"ambiguous: memexp.recipes.controls.tmaze, recipes.controls.tmaze"):
        find_recipe("tmaze")


def test_recipes_that_cannot_be_read_are_named_and_hide_no_others(folder):
    (folder / "recipes.py").write_text("def colour(:\n")
    assert find_recipe("tmaze").name == "recipes.controls.tmaze"
    with pytest.raises(UsageError, match=r"unknown recipe 'colour'; .*mine/recipes.py cannot be read: .*line 1"):
        find_recipe("colour")


def test_a_package_that_hides_the_recipes_of_a_project_is_named(folder, tmp_path, monkeypatch):
    (folder / "recipes.py").write_text(RECIPE.format("colour") + BODY)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "recipes.py").write_text(RECIPE.format("colour") + BODY)
    monkeypatch.syspath_prepend(tmp_path / "other")
    with pytest.raises(UsageError, match=r"recipe 'recipes.colour': .*other/recipes.py hides .*mine/recipes.py"):
        resolve(find_recipe("colour"), {})


@pytest.mark.parametrize(
    ("value", "names"),
    [("suite.made", ["suite.made.colour", "suite.made.shape"]), ("suite.made:shape", ["suite.made.shape"])],
)
def test_recipes_of_installed_packages_are_found_through_entry_points(folder, tmp_path, monkeypatch, value, names):
    made = RECIPE.format("colour") + BODY + RECIPE.format("shape") + BODY
    install(tmp_path, monkeypatch, f"[memexp.recipes]\nours = {value}\n", made=made)
    monkeypatch.setattr(ProjectFinder, "folders", [f"{folder}/."])
    assert [recipe.name for recipe in all_recipes() if recipe.module == "suite.made"] == names
    assert "suite" not in sys.modules
    assert resolve(find_recipe("shape"), {}).recipe == "suite.made.shape"


def test_the_names_of_recipes_are_modules_of_the_checkout_too():
    names = "recipes.controls", "recipes.experiment.cortex_paper.2_memory_needed.cvc_random_maps_train"
    code = f"from importlib import import_module\nfor name in {names}: import_module(name)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("typed", "id"),
    [
        ("colours:Colour", "module:colours:Colour"),
        ("module:colours:Colour", "module:colours:Colour"),
        ("parts.colours:Colour", "module:parts.colours:Colour"),
        ("colour", "module:suite.worlds:Colour"),
        ("gym:CartPole-v1", "gym:CartPole-v1"),
    ],
)
def test_an_environment_is_named_by_place_by_entry_point_or_by_kind(folder, tmp_path, monkeypatch, typed, id):
    install(tmp_path, monkeypatch, "[memexp.envs]\ncolour = suite.worlds:Colour\n")
    assert ThirdParty(id=typed).id == id
    assert resolve(find_recipe("any"), {"env": typed}).env.id == id  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("gymm:CartPole", "did you mean 'gym'"),
        ("CartPole-v1", "did you mean 'gym:CartPole-v1'"),
        ("color", "did you mean 'colour'"),
        ("colours:", "is not gym:ID"),
        ("colours:a b", "is not gym:ID"),
        ("os:system", "belongs to Python itself"),
    ],
)
def test_a_name_of_no_environment_is_answered_with_the_nearest(folder, tmp_path, monkeypatch, typed, told):
    install(tmp_path, monkeypatch, "[memexp.envs]\ncolour = suite.worlds:Colour\n")
    with pytest.raises(ValueError, match=told):
        ThirdParty(id=typed)


@pytest.mark.parametrize("word", ["colours", "colours.py", "below.colours"])
@pytest.mark.parametrize(
    "command", ["play {}", "funnel {}", "doctor any env={}", "doctor tmaze pattern=S,{}", "check {}"]
)
def test_the_name_of_a_module_is_answered_with_how_to_name_what_is_in_it(folder, capsys, command, word):
    for place in (folder, folder / "below"):
        (place / "colours.py").write_text(ENV)
    typed = type_command(capsys, *command.format(word).split())
    assert (typed.code, typed.err.count("\n")) == (2, 1)
    assert f"'{word}' is a module; write {word.removesuffix('.py')}:CLASS for a" in typed.err


def test_environments_of_project_and_packages_are_made_listed_and_played(folder, tmp_path, monkeypatch, capsys):
    (folder / "colours.py").write_text(ENV)
    install(tmp_path, monkeypatch, "[memexp.envs]\ncolour = suite.worlds:Colour\n", worlds=ENV)
    for name in ("colours:Colour", "colour"):
        assert envs.make(name, 2).num_agents == 2
        assert type_command(capsys, "play", name, "--ascii", "--max-steps", "2").code == 0
    assert "\ncolour  any id=module:suite.worlds:Colour" in type_command(capsys, "list", "envs").out


def test_no_file_of_a_project_takes_the_place_of_an_installed_package(folder):
    (folder / "yaml.py").write_text("raise SystemExit('hijacked')\n")
    code = "from memexp.project import import_named as i; print(i('yaml', 'test').__file__)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert "site-packages" in done.stdout
