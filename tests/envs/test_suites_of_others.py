"""The matrices of other people's suites: every environment in them is made, shown and played to its end."""

from pathlib import Path

import pytest
import torch

from memexp import envs
from memexp.envs.base import random_actions
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import load_matrix

ROOT = Path(__file__).resolve().parents[2]
WORLDS = {
    f"{name}-{cell.env}": cell.config.env
    for name in ("popgym", "minigrid", "cartpole")
    for cell in expand(load_matrix(ROOT / "experiments" / f"{name}.yaml"))
}


@pytest.mark.parametrize("config", WORLDS.values(), ids=WORLDS)
def test_an_environment_of_a_suite_plays_to_its_end_and_pays_within_its_scale(config):
    env = envs.build(config, 2, seed=1)
    generator = torch.Generator().manual_seed(0)
    shown = env.reset()
    for _ in range(1000):
        shown, *_ = env.step(random_actions(env, shown, generator))
    episodes = env.pop_episodes()
    env.close()
    assert env.num_actions >= 2
    assert shown.shape[0] == 2
    assert len(episodes["return"]) >= 2
    assert episodes["return"].max() <= env.ceiling_return
