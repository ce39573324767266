"""A plan makes every environment and stack once: what cannot be made costs one line, not a job for each run."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from helpers import own_cells
from helpers.commands import type_command

from memexp.config import UsageError
from memexp.launch import build as building
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.run_spec import recipe_specs
from memexp.project import ProjectFinder

ENV = """
import os, sys, time
import gymnasium
open("IMPORTED", "w")

class Colour(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Discrete(3), gymnasium.spaces.Discrete(2)

    def __init__(self, how="well", token=""):
        self.how = how
        if token:
            raise RuntimeError(f"{token} is refused")
        if how == "raises":
            raise RuntimeError("no level is called 'blue'")
        if how == "exits":
            sys.exit(3)
        if how == "dies":
            os._exit(9)
        if how == "waits":
            time.sleep(1000)

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        if self.how == "steps":
            raise RuntimeError("a wall")
        print("a line that must not stand among the answers")
        return 1, 1.0, True, False, {}
"""


@pytest.fixture
def builds():
    """Plans of this test do build."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "colours.py").write_text(ENV)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])
    yield tmp_path
    sys.modules.pop("colours", None)


def specs(recipe: str = "any", **words: str):
    return recipe_specs(find_recipe(recipe), words)


TERMINAL = SimpleNamespace(note=lambda line: None)


def test_every_environment_and_every_stack_is_chosen_once_and_a_twin_is_no_other_stack():
    runs = [
        spec
        for env in ("gym:CartPole-v1", "gym:Pendulum-v1")
        for pattern in ("S", "X")
        for memory in ("on", "off")
        for spec in specs(env=env, pattern=pattern, **{"cortex.memory": memory})
    ]
    chosen = building._distinct(runs)
    assert [(one.env, one.config.cortex.pattern) for one in chosen] == [
        ("CartPole-v1", "S"),
        ("CartPole-v1", "X"),
        ("Pendulum-v1", "S"),
    ]


@pytest.mark.slow
def test_what_cannot_be_made_is_named_with_one_line_each(folder):
    hows = {"raises": "no level is called 'blue'", "exits": "SystemExit: 3", "steps": "a wall"}
    runs = [one for how in hows for one in specs(env="colours:Colour", options=f"{{how: {how}}}")]
    runs += [*specs(env="colours:Colours"), *specs(env="colour:Colour"), *specs(env="colours:Colour")]
    with pytest.raises(UsageError) as caught:
        building.build(runs, TERMINAL)  # type: ignore[arg-type]
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    for line, what in zip(lines, [*hows.values(), "did you mean 'Colour'", "no module 'colour'"], strict=True):
        assert re.search(what, line), line


@pytest.mark.slow
def test_a_wrong_environment_does_not_hide_a_wrong_cell(folder):
    (folder / "hues.py").write_text(Path(own_cells.__file__).read_text())
    env, name, shape = "did you mean 'Colour'", "did you mean 'Leaky'", "forward returns y as"
    wanted = {
        ("Colours", "Leeky"): [env, name],
        ("Colours", "ReturnsOtherShape"): [env, shape],
        ("Colours", "Leaky"): [env],
        ("Colour", "Leeky"): [name],
    }
    runs = [one for env, cell in wanted for one in specs(env=f"colours:{env}", pattern=f"hues:{cell}")]
    with pytest.raises(UsageError) as caught:
        building.build(runs, TERMINAL)  # type: ignore[arg-type]
    for line, words in zip(str(caught.value).splitlines(), wanted.values(), strict=True):
        assert [word for word in (env, name, shape) if word in line] == words, line


@pytest.mark.slow
def test_a_secret_of_the_options_is_not_said(folder, builds, capsys):
    args = {"env": "colours:Colour", "options": {"token": "CANARYx7Q2"}}
    matrix = {"name": "m", "environments": {"c": {"recipe": "any", "args": args}}, "steps": "1k", "seeds": 1}
    (folder / "m.yaml").write_text(yaml.safe_dump({**matrix, "architectures": {"S": {"pattern": "S"}}}))
    typed = type_command(capsys, "launch", "m.yaml", "--local", "--dry-run")
    assert "RuntimeError: *** is refused" in typed.err
    assert "CANARY" not in typed.out + typed.err


@pytest.mark.slow
@pytest.mark.parametrize(("how", "told"), [("dies", "exit code 9"), ("waits", "not built after 20 s")])
def test_an_environment_that_ends_its_process_or_never_returns_is_named(folder, how, told, monkeypatch):
    monkeypatch.setattr(building, "LIMIT_S", 20.0)
    with pytest.raises(UsageError, match=f"Colour with S: .*{told}"):
        building.build(specs(env="colours:Colour", options=f"{{how: {how}}}"), TERMINAL)  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_is_memexps_own_is_built_once_until_memexp_changes(folder, monkeypatch):
    told: list[str] = []
    terminal = SimpleNamespace(note=told.append)
    for _ in range(2):
        assert building.build(specs("tmaze"), terminal) in (["memexp.envs.controls"], [])  # type: ignore[arg-type]
    assert len(told) == 1
    monkeypatch.setattr(building, "_sources", lambda: "other")
    mark = building._mark(specs("tmaze")[0])
    assert mark is not None
    assert not mark.exists()


@pytest.mark.slow
def test_a_dry_run_imports_what_a_matrix_names_and_without_building_it_only_says_what(folder, builds, capsys):
    args = {"env": "colours:Colour"}
    matrix = {"name": "m", "environments": {"c": {"recipe": "any", "args": args}}, "steps": "1k", "seeds": 1}
    (folder / "m.yaml").write_text(yaml.safe_dump({**matrix, "architectures": {"S": {"pattern": "S"}}}))
    typed = type_command(capsys, "launch", "m.yaml", "--local", "--dry-run", "--no-build")
    assert (typed.code, typed.err) == (0, "")
    assert "they import colours" in typed.out
    assert not (folder / "IMPORTED").exists()
    typed = type_command(capsys, "launch", "m.yaml", "--local", "--dry-run")
    assert typed.code == 0, typed.err
    assert "building c with S (--no-build skips this)" in typed.err
    assert (folder / "IMPORTED").exists()
    args["env"] = "colours:Colours"
    (folder / "m.yaml").write_text(yaml.safe_dump({**matrix, "architectures": {"S": {"pattern": "S"}}}))
    typed = type_command(capsys, "launch", "m.yaml", "--local", "--dry-run")
    assert typed.code == 2
    assert "c with S: module:colours:Colours: colours has no 'Colours'; did you mean 'Colour'?" in typed.err
