"""Our own PPO learns: trained from nothing by the command that a user types, to a return that is known beforehand."""

import pytest
from helpers.commands import type_command

from memexp.runs import Run

TMAZE = {
    "length": 4, "d_hidden": 16, "trainer.total_timesteps": 25_000, "trainer.num_envs": 32, "trainer.horizon": 16,
    "trainer.update_epochs": 4, "trainer.learning_rate": 3e-3, "trainer.target_kl": 0.05, "evaluation.episodes": 400,
}  # fmt: skip
CARTPOLE = {
    "env": "gym:CartPole-v1", "pattern": "X", "mem_len": 0, "d_hidden": 32, "n_heads": 1, "trainer.num_envs": 8,
    "trainer.total_timesteps": 30_000, "trainer.num_minibatches": 1, "trainer.update_epochs": 10,
    "trainer.learning_rate_end": 0, "trainer.gamma": 0.98, "trainer.gae_lambda": 0.8, "trainer.target_kl": "none",
    "trainer.entropy_coefficient": 0, "evaluation.episodes": 64,
}  # fmt: skip
QUICK = {"evaluation.random_episodes": 0, "trainer.threads": 1, "wandb.mode": "disabled"}


def final_return(capsys, recipe, **overrides):
    """Return of the trained policy in episodes that it has not seen, after `memexp train RECIPE`."""
    run = f"learns-{overrides['seed']}"
    typed = type_command(capsys, "train", recipe, f"run={run}", *(f"{key}={value}" for key, value in overrides.items()))
    assert typed.code == 0, typed.err
    last = Run.named(run).metrics()[-1]
    assert last["consistency/max_logprob_gap"] < 1e-4
    return last["eval/return"]


@pytest.mark.parametrize("seed", [0, 1])
def test_with_memory_the_tmaze_is_learnt(seed, capsys):
    assert final_return(capsys, "tmaze", pattern="S", seed=seed, **TMAZE, **QUICK) >= 0.95


@pytest.mark.parametrize("seed", [0, 1])
def test_the_twin_without_memory_only_guesses_in_the_tmaze(seed, capsys):
    """It finds the junction, and then the right side in half of the episodes."""
    twin = {"pattern": "S", "cortex.memory": "off", "seed": seed}
    assert 0.4 <= final_return(capsys, "tmaze", **twin, **TMAZE, **QUICK) <= 0.6


def test_what_a_text_says_is_learnt(capsys):
    """The best return is 8; one action always gives 8 / 3."""
    told = {
        "env": "module:helpers.third_party:Told",
        "pattern": "X",
        "mem_len": 0,
        "seed": 0,
        "evaluation.episodes": 64,
    }
    small = TMAZE | {"n_heads": 1, "trainer.total_timesteps": 8000}
    del small["length"]
    assert final_return(capsys, "any", **small | told, **QUICK) >= 7.5


def test_cartpole_is_solved_without_memory(capsys):
    """To the mean return that Gymnasium's registry calls solved.

    Six of the seeds 0 to 6 reach it, seed 0 among them. A processor that rounds differently may make one fail, so a
    second one may try.
    """
    assert any(final_return(capsys, "any", seed=seed, **CARTPOLE, **QUICK) >= 475 for seed in (0, 2))
