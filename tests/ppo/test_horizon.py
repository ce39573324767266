"""How far back a policy looks: its memory is cut to exactly k steps, and what that costs it is measured."""

import pytest
import torch
from helpers.commands import type_command
from helpers.training import tiny

from memexp.config import override
from memexp.cortex.check import shake
from memexp.ppo import horizon, train
from memexp.ppo.distributed import Ranks
from memexp.ppo.horizon import measure_horizon, remembers
from memexp.ppo.trainer import Trainer
from memexp.recipes import any as any_recipe
from memexp.runs import Run, runs_dir

CPU = torch.device("cpu")


def shaken(config):
    policy = Trainer(config, Ranks(0, 1, CPU)).policy
    shake(policy, 0.5)
    return policy


@pytest.mark.parametrize("pattern", ["X", "AgSA"])
@pytest.mark.parametrize("k", [0, 3])
def test_a_cut_policy_sees_the_last_k_steps_and_nothing_before(pattern, k):
    policy, rows = shaken(tiny("chain_recall", cortex__pattern=pattern)), 3
    obs = torch.randn(rows, 8, policy.encoder[0].in_features)

    def last(obs, resets):
        acts = horizon._cut(policy, rows, k)
        with torch.no_grad():
            return [acts(obs[:, t], resets[:, t]) for t in range(obs.shape[1])][-1]

    resets = torch.zeros(rows, 8, dtype=torch.bool)
    resets[:, 0] = True
    expected, older, oldest_seen = last(obs, resets), obs.clone(), obs.clone()
    older[:, 7 - k - 1] += 1
    oldest_seen[:, 7 - k] += 1
    torch.testing.assert_close(last(older, resets), expected, rtol=0, atol=0)
    assert not torch.allclose(last(oldest_seen, resets), expected)
    resets[:, 7] = True  # a new episode: nothing before it is seen, however long the window is
    older[:, :7] += 1
    torch.testing.assert_close(last(older, resets), last(obs, resets))


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("tmaze", {}),
        ("tmaze", {"cortex__pattern": "X", "cortex__mem_len": 2, "cortex__num_layers": 2}),
        ("chain_recall", {"env__episode_length": 5}),
        ("tmaze", {"trainer__precision": "bf16"}),
    ],
)
def test_a_cut_that_leaves_all_that_the_policy_could_see_changes_nothing(recipe, changes):
    config = tiny(recipe, **changes)
    found = measure_horizon(config, shaken(config), 7, episodes=30)
    assert found is not None
    assert found.episodes == 30
    longest = max(found.returns)
    assert longest + 1 >= min(found.longest, config.cortex.mem_len * 2 if config.cortex.pattern == "X" else 999)
    assert list(found.returns) == [0, *(2**i for i in range(len(found.returns) - 1))]
    assert found.returns[longest] == pytest.approx(
        found.whole, abs=1e-6 if not changes.get("trainer__precision") else 0.1
    )


@pytest.mark.parametrize("env", ["gym:Pendulum-v1", "gym:CartPole-v1"])
def test_any_environment_and_any_actions_can_be_measured(env):
    config = override(any_recipe.train(env=env, max_steps=12), {"cortex.d_hidden": 16})
    found = measure_horizon(config, shaken(config), 0, episodes=3)
    assert found is not None
    assert found.longest >= 8
    assert all(value == value for value in found.returns.values())


def test_the_number_of_episodes_keeps_to_what_it_may_cost():
    config = tiny("chain_recall", env__episode_length=8)
    policy, passes = shaken(config), 8 * (1 + 2 + 3 + 5 + 9)
    found = measure_horizon(config, policy, 0, 200, most_passes=40.5 * passes)
    assert found is not None
    assert found.episodes == 40
    assert measure_horizon(config, policy, 0, 200, most_passes=19 * passes) is None


@pytest.mark.parametrize(("memory", "mem_len", "expected"), [("on", 4, True), ("off", 4, False), ("on", 0, False)])
def test_twins_have_no_horizon(memory, mem_len, expected):
    assert remembers(tiny(cortex__pattern="X", cortex__memory=memory, cortex__mem_len=mem_len)) is expected


def test_a_run_measures_it_at_its_end_if_that_is_cheap_and_a_command_measures_it_later(monkeypatch, capsys):
    train.train(tiny(run="short"))
    run = Run(runs_dir() / "short")
    assert run.exit
    assert run.exit.status == "completed"
    assert run.horizon is None
    monkeypatch.setattr(horizon, "COST", 100.0)
    train.train(tiny(run="long", evaluation__horizon_episodes=25))
    found = Run(runs_dir() / "long").horizon
    assert found is not None
    assert found.episodes == 25
    assert found.agent_steps == 768
    typed = type_command(capsys, "horizon", "short", "--episodes", "30")
    assert typed.code == 0
    assert "\nshort  30 episodes  0: " in typed.out
    assert run.horizon
    assert run.horizon.episodes == 30
    run.write_info(run.info.model_copy(update={"environment": {"memexp.envs.controls": "older"}}))
    assert "--force goes on in spite of it" in type_command(capsys, "horizon", "short").err
    assert type_command(capsys, "horizon", "short", "--episodes", "30", "--force").code == 0


def test_an_environment_that_fails_in_the_measurement_leaves_the_run_completed(monkeypatch, capsys):
    def fails(*_):
        raise RuntimeError("out of order")

    monkeypatch.setattr(train, "measure_horizon", fails)
    assert train.train(tiny(run="done")).status == "completed"
    assert "done: how far back it looks was not measured: RuntimeError: out of order" in capsys.readouterr().err


def test_a_twin_is_refused_by_name(capsys):
    train.train(tiny(run="twin", cortex__memory="off"))
    typed = type_command(capsys, "horizon", "twin")
    assert typed.code == 2
    assert "run 'twin' has no memory to cut" in typed.err


def test_of_a_matrix_only_the_runs_that_are_judged_are_measured(capsys):
    """Neither twins nor trials of settings, whose training does not measure it either."""
    trial = {"arm": "S", "kind": "tune", "values": {"trainer.learning_rate": 1e-3}}
    small = {"labels__matrix": "tuned", "evaluation__horizon_episodes": 20, "trainer__total_timesteps": 256}
    train.train(tiny(run="tried", labels__tuning=trial, **small))
    train.train(tiny(run="twin", cortex__memory="off", **small))
    nothing = type_command(capsys, "horizon", "tuned")
    assert (nothing.code, nothing.err) == (2, "memexp: tuned: no run that is judged has a memory to cut\n")
    train.train(tiny(run="judged", **small))
    typed = type_command(capsys, "horizon", "tuned", "--episodes", "20")
    assert typed.code == 0
    assert [line.split()[0] for line in typed.out.splitlines()][-1:] == ["judged"]
    measured = [run.horizon is not None for run in map(Run.named, ("tried", "twin", "judged"))]
    assert measured == [False, False, True]


def test_an_environment_whose_episodes_do_not_end_is_given_up():
    config = tiny("chain_recall", env__episode_length=10**6)
    assert measure_horizon(config, shaken(config), 0, most_passes=2000) is None
