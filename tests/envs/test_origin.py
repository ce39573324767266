"""Which code an environment comes from, and what happens to a run when that code changes."""

import importlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers.commands import files_below, type_command
from helpers.training import stop_after, tiny

import memexp
from memexp import envs
from memexp.envs.origin import origin_of
from memexp.ppo.train import train
from memexp.runs import Run

WORLD = """
import gymnasium, numpy as np
from {package}.rewards import FACTOR

class World(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {{}}

    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), FACTOR * float(action), self.t == 4, False, {{}}

def wrap(env):
    return gymnasium.wrappers.TransformReward(env, lambda reward: reward)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package of the user with a world, its rewards, and an agent that the world does not import."""
    folder = tmp_path / "project" / "worlds_of_mine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "world.py").write_text(WORLD.format(package="worlds_of_mine"))
    (folder / "rewards.py").write_text("FACTOR = 1.0\n")
    (folder / "agent.py").write_text("from worlds_of_mine import world\n")
    monkeypatch.syspath_prepend(folder.parent)
    importlib.import_module("worlds_of_mine.agent")
    yield folder
    for name in [name for name in sys.modules if name.startswith("worlds_of_mine")]:
        del sys.modules[name]


def config(**changes):
    env = {"name": "any", "id": "module:worlds_of_mine.world:World", "backend": "serial"}
    return tiny(run="r", **changes).model_validate({**tiny(run="r", **changes).model_dump(), "env": env})


def origin(**knobs) -> dict[str, str]:
    made = envs.make("module:worlds_of_mine.world:World", 2, backend="serial", **knobs)
    made.close()
    return origin_of(made.modules)


def test_the_users_files_that_the_world_imports_count_and_no_others(project):
    before = origin()
    assert before.keys() == {"worlds_of_mine", "worlds_of_mine.rewards", "worlds_of_mine.world"}
    (project / "agent.py").write_text("changed = True\n")
    (project / "__pycache__").mkdir(exist_ok=True)
    (project / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert origin() == before
    for file in ("world.py", "rewards.py", "__init__.py"):
        (project / file).write_text((project / file).read_text() + "\n# changed\n")
        changed = origin()
        name = f"worlds_of_mine.{file.removesuffix('.py')}".removesuffix(".__init__")
        assert [key for key in before if before[key] != changed[key]] == [name]
        before = changed


@pytest.mark.parametrize(
    "line",
    [
        "from .rewards import FACTOR",
        "from . import rewards as r, agent",
        "import worlds_of_mine.rewards as r",
        "import os, worlds_of_mine.rewards",
        "if True:\n    from worlds_of_mine import (  # both\n        agent,\n        rewards,\n    )",
        "from worlds_of_mine.rewards \\\n    import *",
        "from worlds_of_mine import agent, \\\n    rewards",
        '"""Text:\nfrom .... import nothing"""\nfrom .rewards import FACTOR',
    ],
)
def test_every_way_to_import_a_file_makes_it_count(project, line):
    (project / "world.py").write_text(line + "\n")
    assert "worlds_of_mine.rewards" in origin()


@pytest.mark.parametrize("line", ["import worlds_of_mine.later", "from .later import FACTOR", "from . import later"])
def test_what_was_imported_before_makes_no_difference(project, line):
    """A function may import a module later: a process that did and one that did not play the same environment."""
    (project / "later.py").write_text("FACTOR = 1.0\n")
    (project / "world.py").write_text((project / "world.py").read_text() + f"\ndef use():\n    {line}\n")
    before = origin()
    assert "worlds_of_mine.later" in before
    assert "worlds_of_mine.later" not in sys.modules
    importlib.import_module("worlds_of_mine.later")
    assert origin() == before
    (project / "later.py").write_text("FACTOR = 2.0\n")
    assert origin() != before


def test_a_world_of_memexp_is_the_same_before_and_after_its_kernels_are_loaded():
    """On a GPU a run imports the kernels; a run that starts on a CPU and goes on there must not be refused."""
    code = "from memexp import envs; from memexp.envs.origin import origin_of; import json;"
    code += "print(json.dumps(origin_of(envs.make('cvc_random_maps', 1).modules)))"
    fresh = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    importlib.import_module("memexp.envs.grid.cuda")
    assert origin_of(envs.make("cvc_random_maps", 1).modules) == fresh


def test_contents_count_and_not_places(project, tmp_path, monkeypatch):
    before = origin()
    moved = tmp_path / "elsewhere"
    project.parent.rename(moved)
    for name in [name for name in sys.modules if name.startswith("worlds_of_mine")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    monkeypatch.syspath_prepend(moved)
    assert origin() == before


def test_wrappers_and_installed_packages_count(project):
    wrapped = origin(wrappers=["worlds_of_mine.world:wrap"])
    assert wrapped["gymnasium"] == version("gymnasium")
    pole = envs.make("gym:CartPole-v1", 2, backend="serial", wrappers=["memexp.envs.wrappers:hide_velocities"])
    pole.close()
    assert origin_of(pole.modules).keys() == {"gymnasium", "memexp.envs.wrappers"}


@pytest.mark.parametrize("name", ["helpers.third_party:Masked", "helpers.third_party:MaskedPair", "batch"])
def test_what_memexp_puts_around_an_environment_with_masks_does_not_count(name, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    knobs = {"mode": "DISABLED"} if name == "batch" else {}
    id = "module:test_masks:masked_batch" if knobs else f"module:{name}"
    in_info, in_part = (envs.make(id, 2, options={"where": where, **knobs}) for where in ("info", "part"))
    in_info.close()
    in_part.close()
    assert set(in_info.modules) == set(in_part.modules)
    assert not any(module.startswith("memexp.") for module in in_info.modules)


@pytest.mark.parametrize(
    ("name", "module"),
    [("tmaze", "controls"), ("cvc_random_maps", "grid.step"), ("assembly_lines", "assembly_lines")],
)
def test_worlds_of_memexp_are_known_by_their_sources(name, module):
    knobs = {"curriculum_style": "level_0"} if name == "assembly_lines" else {}
    found = origin_of(envs.make(name, 1, **knobs).modules)
    assert f"memexp.envs.{module}" in found
    assert all(key.startswith("memexp.envs.") for key in found)
    assert not any(key.startswith(("memexp.envs.scripted", "memexp.envs.puffer")) for key in found)


@pytest.mark.parametrize(
    ("part", "field", "words"),
    [("rewards", "environment", "in another environment"), ("cells", "cells", "with other cells")],
)
def test_a_run_whose_code_changed_is_resumed_with_force_alone_and_says_so(
    part, field, words, project, monkeypatch, home
):
    (project / "cells.py").write_bytes((Path(memexp.__file__).parent / "template" / "cells.py").read_bytes())
    settings: dict = {"cortex": {"pattern": "worlds_of_mine.cells:MinGRU"}} if field == "cells" else {}
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        assert train(config(**settings)).status == "preempted"
    run, module = Run.named("r"), f"worlds_of_mine.{part}"
    old = getattr(run.info, field)[module]
    before = files_below(run.path)
    with (project / f"{part}.py").open("a") as file:
        file.write("FACTOR = 2.0\n")
    with pytest.raises(ValueError, match=rf"trained {words}: {module} {old}, now \w+; --force goes on"):
        train(config(**settings))
    assert files_below(run.path) == before
    with monkeypatch.context() as patch:
        stop_after(4, patch)
        assert train(config(force=True, **settings)).status == "preempted"
    recorded = getattr(run.info, field)[module]
    assert recorded.startswith(f"{old}, then ")
    starts = [run.provenance[field], *(start[field] for start in run.provenance["resumes"])]
    assert len({start[module] for start in starts}) == 2
    assert train(config(**settings)).status == "completed"  # it is the last one now
    assert getattr(run.info, field)[module] == recorded


def test_force_is_an_option_of_launch_that_reaches_the_run(capsys):
    words = ["tmaze", "--run=a", "--dry-run", "--json", "--local"]
    for option, expected in ([], False), (["--force"], True), (["force=true"], True):
        (run,) = json.loads(type_command(capsys, "launch", *words, *option).out)["runs"]
        assert ("force=true" in run["arguments"]) == expected
