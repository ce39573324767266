"""Batches of other libraries: gymnax (JAX) and EnvPool. Skipped, with the reason, where they are not installed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from memexp import envs
from memexp.config import UsageError

WORLDS = {
    "gymnax:CartPole-v1": {"max_steps_in_episode": 20},
    "gymnax:Pendulum-v1": {"max_steps_in_episode": 20},
    "gymnax:MemoryChain-bsuite": {},
    "envpool:CartPole-v1": {"max_episode_steps": 20},
    "envpool:MiniGrid-MemoryS7-v0": {"max_episode_steps": 20},
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_batch_of_another_library_keeps_what_is_promised_of_environments(name):
    library = name.partition(":")[0]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed (extra {'jax' if library == 'gymnax' else library})")
    command = [sys.executable, "-m", "helpers.other_batches", name, json.dumps(WORLDS[name])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout.splitlines()[-1])
    for promise in ("repeats", "seeds differ", "length of the first", "cut at 3", "finite", "restored anew"):
        assert found[promise], (promise, found)
    assert found["episodes"] >= 4
    assert found["return of the first"] == pytest.approx(found["sum of its rewards"], rel=1e-5)
    if WORLDS[name]:
        assert (found["worlds"], found["longest"]) == (4, 20)
        assert found["truncated"]


@pytest.mark.parametrize("library", ["gymnax", "envpool"])
def test_a_library_that_is_not_installed_is_named(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=f"{library}:CartPole-v1: there is no module '{library}' here: install its"):
        envs.make(f"{library}:CartPole-v1", 2)
