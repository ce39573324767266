"""The rules are ordinary Python: without compilation they do the same, which is how they are debugged."""

import os
import subprocess
import sys

import pytest
from helpers.golden import GOLDEN

REPLAY = """
import warnings; warnings.simplefilter("error")
import sys; from pathlib import Path; from helpers.replay import replay
print(replay(Path(sys.argv[1]), max_steps=40))
"""


@pytest.mark.parametrize(
    "name", ["assembly_lines/level_0_a", "cvc_random_maps/n10_crowded"], ids=lambda name: f"golden-{name}"
)
def test_a_recorded_episode_replays_without_compilation(name):
    path = GOLDEN / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no golden data in {GOLDEN} (set MEMEXP_GOLDEN)")
    env = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", REPLAY, path], env=env, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "40"), run.stderr
