"""A run directory from somebody else is data: playing it imports nothing that is not known on this machine."""

import json
import sys

import pytest
import yaml
from helpers.commands import type_command

from memexp.config import UsageError
from memexp.ppo.config import TrainConfig
from memexp.ppo.received import check_received
from memexp.project import ProjectFinder
from memexp.recipes.any import train as any_recipe
from memexp.runs import Run

ENV = "import gymnasium\nopen('CANARY', 'w')\nclass Maze(gymnasium.Env): ...\ndef make(**options): return Maze()\n"
PROJECT = {
    "maze.py": ENV,
    "parts/maze.py": ENV,
    "helped.py": "from minigrid.envs import MemoryEnv\nfrom setuptools import setup\nfrom os import system\n",
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """The working directory: a project with some modules; its $MEMEXP_HOME, and a folder beside it, have one each."""
    folder = tmp_path / "project"
    here = {**PROJECT, "home/runs/r/inside.py": ENV, "../beside/foreign.py": ENV}
    for name, text in here.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MEMEXP_HOME", str(folder / "home"))
    monkeypatch.setattr(ProjectFinder, "folders", [str(folder)])
    monkeypatch.syspath_prepend(tmp_path / "beside")
    yield folder
    for name in ("maze", "parts", "parts.maze", "helped", "foreign", "home", "cells"):
        sys.modules.pop(name, None)


def received(env: str, wrappers: tuple[str, ...] = ()) -> TrainConfig:
    config = any_recipe().model_dump() | {"run": "r"}
    return TrainConfig.parse(config | {"env": {"name": "any", "id": env, "wrappers": list(wrappers)}})


@pytest.mark.parametrize(
    "env",
    [
        "gym:CartPole-v1",
        "gym:minigrid:MiniGrid-MemoryS7-v0",
        "gym:maze:Maze-v0",
        "module:minigrid.envs:MemoryEnv",
        "module:maze:Maze",
        "module:maze:make",
        "module:parts.maze:make",
        "module:helped:MemoryEnv",
        "pettingzoo:mpe.simple_tag_v3",
        "module:nowhere:Env",
        "vec:CartPole-v1",
        "vec:maze:Maze-v0",
        "envpool:CartPole-v1",
        "gymnax:CartPole-v1",
        "module:gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv",
    ],
)
@pytest.mark.parametrize(
    "wrapper",
    [
        "gymnasium.wrappers:FlattenObservation",
        "minigrid.wrappers:FullyObsWrapper",
        "memexp.envs.wrappers:hide(columns=[1])",
    ],
)
def test_what_is_installed_or_of_this_project_is_known(env, wrapper):
    check_received("r", received(env, (wrapper,)))


FOREIGN = [
    "foreign:Maze",  # on the import path, but neither installed nor of this project
    "home.runs.r.inside:Maze",  # came with the run
    "home:Maze",
    "setuptools:setup",  # installed, but no environment
    "numpy:save",
    "torch:load",
    "gymnasium:make",  # imports what its options name
    "gymnasium.utils.env_checker:check_env",
    "pettingzoo.utils.deprecated_module:deprecated_handler",  # imports what its arguments name
    "pettingzoo.utils.conversions:parallel_to_aec",
    "memexp.runs.scribe:replace",
    "memexp.cli:main",
    "memexp.project:import_named",
    "memexp.recipes.any:train",
    "pufferlib.pufferl:main",
    "helped:setup",  # of this project, but defined elsewhere
]


@pytest.mark.parametrize("place", FOREIGN)
@pytest.mark.parametrize("where", ["environment", "wrapper"])
def test_anything_else_is_imported_only_if_it_is_trusted(place, where, project):
    config = received(f"module:{place}") if where == "environment" else received("gym:CartPole-v1", (f"{place}(a=1)",))
    with pytest.raises(UsageError, match=rf"run 'r' wants to import '{place}'.*--trust"):
        check_received("r", config)
    assert not (project / "CANARY").exists()
    check_received("r", config, trust=True)


@pytest.mark.parametrize(
    "env", ["gym:foreign:M-v0", "vec:foreign:M-v0", "pettingzoo:foreign", "module:foreign", "module:foreign:a:b"]
)
def test_a_module_that_registers_or_makes_environments_is_no_exception(env, project):
    with pytest.raises(UsageError, match="run 'r' wants to import 'foreign"):
        check_received("r", received(env))
    assert not (project / "CANARY").exists()


CELL = "from torch import nn\nclass Cell(nn.Module):\n    def init_state(self): ...\nopen('CANARY', 'w')\n"


@pytest.mark.parametrize("place", [*FOREIGN, "foreign:Cell"])
def test_so_is_a_cell(place, project):
    (project.parent / "beside" / "foreign.py").write_text(CELL)
    config = cell(f"X,{place}")
    with pytest.raises(UsageError, match=rf"run 'r' wants to import '{place}', which is neither a cell.*--trust"):
        check_received("r", config)
    assert not (project / "CANARY").exists()
    check_received("r", config, trust=True)


def test_a_cell_of_this_project_or_of_our_tokens_is_known(project):
    (project / "cells.py").write_text(CELL)
    for pattern in ("cells:Cell", "Ag,cells:Cell", "AgSA", ["X", "S"]):
        check_received("r", cell(pattern))


def cell(pattern):
    layers = len(pattern) if isinstance(pattern, list) else 1
    return TrainConfig.parse({"cortex": {"pattern": pattern, "num_layers": layers}})


@pytest.mark.parametrize("place", ["os:system", "__main__:main", "test:x"])
def test_the_standard_library_has_no_cells_trusted_or_not(place):
    with pytest.raises(UsageError, match="belongs to Python itself, which has no cells"):
        cell(place)


STANDARD = ["os:system", "subprocess:run", "shutil:rmtree", "os.path:join", "__main__:main", "test:x", "builtins:exec"]


@pytest.mark.parametrize("place", STANDARD)
def test_the_standard_library_is_no_source_of_environments_or_wrappers_trusted_or_not(place):
    for env, wrappers in ((f"module:{place}", ()), ("gym:CartPole-v1", (place, f"{place}(a=1)"))):
        with pytest.raises(UsageError, match="belongs to Python itself"):
            received(env, wrappers)
    with pytest.raises(UsageError, match="belongs to Python itself"):
        received(f"gym:{place.partition(':')[0]}:Maze-v0")


def test_playing_a_run_that_names_a_command_runs_nothing(capsys, project):
    run, config = Run.named("received"), received("gym:CartPole-v1").model_dump()
    run.write_config(config)
    (run.path / "run.json").write_text(json.dumps({}))
    for id, options, told in (
        ("module:os:system", {"command": "touch CANARY"}, "'os' belongs to Python itself"),
        ("module:setuptools._distutils.spawn:spawn", {"cmd": ["touch", "CANARY"]}, "add --trust"),
        ("module:helped:system", {"command": "touch CANARY"}, "run 'received' wants to import 'helped:system'"),
    ):
        config["env"] = {"name": "any", "id": id, "options": options, "wrappers": []}
        (run.path / "config.yaml").write_text(yaml.safe_dump(config))
        typed = type_command(capsys, "play", "received", "--ascii")
        assert typed.code == 2
        assert told in typed.err
        assert len(typed.err.splitlines()) == 1
        assert not (project / "CANARY").exists()
