"""The worlds of cvc_random_maps as a VecEnv: many agents a world."""

import numpy as np
import pytest
import torch
from helpers.cvc import RICH, SMALL, act, scene, world
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.envs import make
from memexp.envs.cvc_tasks import CARGO, sample_task
from memexp.envs.grid import columns as col
from memexp.envs.grid import step as engine
from memexp.envs.grid.vec_env import GridEnv

AGENTS = SMALL["num_cogs"]


def play(env: GridEnv, actions: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Step through actions [T, N]; copies of (obs, reward, terminated, truncated) of each step."""
    return [tuple(tensor.clone() for tensor in env.step(row)) for row in actions]


def random_actions(steps: int, env: GridEnv, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(env.num_actions, (steps, env.num_agents), generator=generator)


def same(left: list[tuple[torch.Tensor, ...]], right: list[tuple[torch.Tensor, ...]]) -> bool:
    return all(torch.equal(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True))


def same_episodes(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k], equal_nan=True) for k in left)


def test_a_world_depends_on_the_seed_and_its_global_number_alone():
    whole, part = world(6, seed=5, **RICH), world(2, seed=5, first_env=4, **RICH)
    mine = slice(4 * AGENTS, None)
    assert torch.equal(whole.reset()[mine], part.reset())
    assert torch.equal(whole.desync()[mine], part.desync())
    actions = random_actions(300, whole)
    steps = [tuple(tensor[mine] for tensor in step) for step in play(whole, actions)]
    assert same(steps, play(part, actions[:, mine]))
    ours, theirs = whole.pop_episodes(), part.pop_episodes()
    here = ours["world"] >= 4
    assert len(theirs["return"]) >= 4
    assert same_episodes({key: column[here] for key, column in ours.items()}, theirs)


def test_another_seed_gives_other_worlds():
    first, other = (world(4, seed=seed).reset() for seed in (1, 2))
    assert not torch.equal(first, other)


def test_a_reset_begins_anew_whatever_was_played_before():
    env, fresh = world(3, num_cogs=30), world(3, num_cogs=30)
    env.desync()
    play(env, random_actions(70, env))
    assert torch.equal(env.reset(), fresh.reset())
    actions = random_actions(130, env, 1) % 4 + 1  # agents crowd each other: who comes first matters
    assert same(play(env, actions), play(fresh, actions))
    assert same_episodes(env.pop_episodes(), fresh.pop_episodes())


def test_a_saved_env_continues_exactly():
    env = world(3, **RICH)
    env.desync()
    actions = random_actions(250, env)
    play(env, actions[:110])
    state = env.state_dict()
    shown = env.state.obs.copy()
    after, episodes = play(env, actions[110:]), env.pop_episodes()
    restored = world(3, **RICH)
    play(restored, actions[:7])
    assert np.array_equal(restored.load_state_dict(state).numpy().reshape(shown.shape), shown)
    assert same(play(restored, actions[110:]), after)
    assert same_episodes(restored.pop_episodes(), episodes)
    assert len(episodes["return"]) >= 3


@pytest.mark.slow
def test_several_cores_play_the_worlds_as_one_core_does(monkeypatch):
    played, episodes, last_seen = [], [], []
    for agents_for_more_cores in (1, 10**9):
        monkeypatch.setattr(engine, "num_cores", lambda: 2)
        monkeypatch.setattr(engine, "AGENTS_FOR_MORE_CORES", agents_for_more_cores)
        env = world(40, seed=3, **RICH)
        begun = env.desync().clone()
        played.append([(begun,), *play(env, random_actions(200, env))])
        episodes.append(env.pop_episodes())
        last_seen.append(env.final_obs.clone())
    assert same(*played)
    assert torch.equal(*last_seen)
    assert len(episodes[0]["return"]) > 10
    assert same_episodes(*episodes)


def test_all_agents_of_a_world_end_their_episode_together_and_nothing_is_truncated():
    env = world(3)
    env.reset()
    completion, ends = 2, 0  # 2: the feature id of episode_completion_pct, the first token
    for row in random_actions(260, env):
        obs, _, terminated, truncated = env.step(row)
        assert not truncated.any()
        for w in range(3):
            agents = slice(w * AGENTS, (w + 1) * AGENTS)
            over = bool(env.state.terminated[w])
            assert terminated[agents].tolist() == [over] * AGENTS
            assert (env.state.world[w, col.STEP] == 0) == over
            if over:
                ends += 1
                assert (obs[agents, 0] == torch.tensor([col.HERE, completion, 0])).all()
                assert (env.final_obs[agents, 0] == torch.tensor([col.HERE, completion, 255])).all()
    episodes = env.pop_episodes()
    assert len(episodes["length"]) == ends >= 6
    assert (episodes["length"] == episodes["env/max_steps"]).all()


def test_the_tensors_are_the_memory_that_the_engine_writes():
    env = world(2)
    obs = env.reset()
    stepped, reward, terminated, truncated = env.step(torch.zeros(2 * AGENTS, dtype=torch.int64))
    assert obs.data_ptr() == stepped.data_ptr() == env.state.obs.ctypes.data
    assert reward.data_ptr() == env.state.rewards.ctypes.data
    assert env.final_obs.data_ptr() == env.state.final_obs.ctypes.data
    assert tuple(obs.shape) == (2 * AGENTS, col.NUM_TOKENS, 3)
    for tensor, dtype in ((reward, torch.float32), (terminated, torch.bool), (truncated, torch.bool)):
        assert (tuple(tensor.shape), tensor.dtype) == ((2 * AGENTS,), dtype)


def test_actions_of_another_number_of_agents_are_refused():
    env = world(2)
    env.reset()
    with pytest.raises(ValueError, match=rf"\[{2 * AGENTS}\], not \[2\]"):
        env.step(torch.zeros(2, dtype=torch.int64))


def test_desync_spreads_episode_ends_and_leaves_the_cut_episodes_out():
    env = world(60)
    env.desync()
    begun = env.state.world[:, col.STEP] / env.state.world[:, col.MAX_STEPS]
    assert begun.min() < 0.1 < 0.9 < begun.max() < 1
    ends = [int(env.step(row)[2].sum()) // AGENTS for row in random_actions(130, env)]
    assert np.count_nonzero(ends) > 40
    assert len(env.pop_episodes()["return"]) == sum(ends) - 60


def test_returns_add_up_from_rewards_and_are_three_for_each_heart_deposited():
    env = world(16, **RICH)
    env.reset()
    total, rewarded = torch.zeros(16, AGENTS), {w: [] for w in range(16)}
    for row in random_actions(250, env):
        _, reward, _, _ = env.step(row)
        total += reward.reshape(16, AGENTS)
        for w in np.flatnonzero(env.state.terminated):
            rewarded[w].append(total[w].mean().item())
            total[w] = 0
    episodes = env.pop_episodes()
    assert episodes["return"].sum() > 0
    for w in range(16):
        assert episodes["return"][episodes["world"] == w] == pytest.approx(rewarded[w])
    assert episodes["return"] == pytest.approx(3 * episodes["env/hearts_deposited"] / AGENTS)


def test_with_buckets_holding_a_heart_and_gathering_are_paid_too():
    env = scene(
        "A@H", heart_buckets=True, heart_rewards=0.5, resource_buckets=True, resource_rewards=0.001,
        initial_inventory_buckets=True, initial_resources=30, initial_hearts=0,
    )  # fmt: skip
    gathered = 4 * 30 * 0.001  # what they start with counts
    rewards = [act(env, step).item() for step in ("noop", "heart_a", "west", "heart_b", "east")]
    assert rewards == pytest.approx([gathered, 0, 0.5, 0, 3 - 0.5], abs=1e-6)


def test_goal_tokens_name_the_rewarded_resources_in_the_order_of_summation():
    def goals(**buckets: bool) -> list[int]:
        seen = scene("@.", **buckets).state.obs[0, 0]
        return seen[seen[:, 1] == col.F_GOAL, 2].tolist()

    carbon, oxygen, germanium, silicon, heart = (col.F_INVENTORY + 2 * number for number in range(1, 6))
    assert goals() == []
    assert goals(heart_buckets=True) == [heart]
    assert goals(resource_buckets=True) == [silicon, germanium, oxygen, carbon]
    assert goals(heart_buckets=True, resource_buckets=True) == [heart, silicon, oxygen, germanium, carbon]


def test_statistics_say_what_agents_did():
    env = scene(
        "A@H", "Eco", max_steps=8, initial_inventory_buckets=True, initial_resources=30, initial_hearts=0,
    )  # fmt: skip
    steps = ("heart_a", "west", "heart_b", "east", "south", "north", "noop", "default")
    for step in steps:
        act(env, step)
    (episode,) = [{name: column.item() for name, column in env.pop_episodes().items()}]
    expected = {
        "return": 3, "length": 8, "env/max_steps": 8, "env/alone": 1, "env/hearts_made": 1, "env/hearts_deposited": 1,
        "env/room_cells": 6, "env/longest_still": 8, "env/tokens_dropped": 0,
        "env/noop_share": 1 / 8, "env/vibe_share": 3 / 8, "env/move_share": 3 / 8, "env/move_failed_share": 1 / 8,
        "env/invalid_share": 0, "env/carbon_gained": 2, "env/oxygen_gained": 0,
    }  # fmt: skip
    assert {name: episode[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_shares_of_all_kinds_of_action_add_up_to_one_and_gains_leave_out_the_start(seed):
    env = world(4, seed, max_steps=50, **RICH)
    env.reset()
    s = env.state
    start = [sample_task(env.task_id(w), env.config).initial for w in range(4)]
    play(env, random_actions(49, env, seed))
    gained = s.agent_stats[:, :, col.GAINED + 1 : col.GAINED + 5].mean(1)
    env.step(torch.full((env.num_agents,), env.num_actions))  # an action that does not exist
    episodes = env.pop_episodes()
    shares = [episodes[f"env/{name}_share"] for name in ("noop", "move", "move_failed", "vibe", "invalid")]
    np.testing.assert_allclose(sum(shares), 1, rtol=1e-6)
    np.testing.assert_allclose(episodes["env/invalid_share"], 1 / 50)
    for i, name in enumerate(CARGO):
        np.testing.assert_allclose(episodes[f"env/{name}_gained"], gained[:, i] - [initial[i] for initial in start])


def test_quiet_steps_do_the_same_without_showing_it():
    env, quiet = (world(3, max_steps=100, **RICH) for _ in range(2))
    env.reset()
    first = quiet.reset().clone()
    for row in random_actions(80, env):
        env.step(row)
        actions = row.numpy().reshape(3, AGENTS)
        engine.step_worlds(quiet.state, actions, np.ones(3, np.int64), engine.QUIET)
    for name in ("grid", "inventory", "objects", "agent_stats", "milestones", "rewards", "occupied"):
        assert np.array_equal(getattr(env.state, name), getattr(quiet.state, name)), name
    assert np.array_equal(quiet.state.obs.reshape(first.shape), first)


def test_a_task_source_decides_every_episodes_task():
    env = world(2, first_env=7, tasks=lambda world, episode: 100 * world + episode)
    env.reset()
    assert [env.task_id(w) for w in range(2)] == [700, 800]
    play(env, random_actions(260, env))
    episodes = env.pop_episodes()
    seen = set(zip(episodes["world"].tolist(), episodes["task"].tolist(), strict=True))
    assert seen >= {(7, 700), (8, 800), (7, 701), (8, 801)}
    for task, steps in zip(episodes["task"].tolist(), episodes["length"].tolist(), strict=True):
        assert steps == sample_task(task, env.config).max_steps


@given(st.integers(0, 2**32), st.sampled_from([5, 30]))
@settings(max_examples=12)
def test_an_observation_shows_what_stands_in_the_window_nearest_first(seed, num_cogs):
    env = world(2, seed, num_cogs=num_cogs, map_width=[11, 50], num_vibes=16, max_steps=30, **RICH)
    env.reset()
    s = env.state
    stride = int(s.window[4, 0])
    for row in random_actions(40, env, seed):
        env.step(torch.where(row > 10, row % 4 + 1, row))
    for w in range(2):
        grid = s.grid[w].reshape(-1, stride)
        for agent in range(num_cogs):
            obs, cell = s.obs[w, agent], int(s.agents[w, agent, col.CELL])
            written = np.count_nonzero(obs[:, 0] != col.UNUSED)
            assert (obs[:written, 0] != col.UNUSED).all()
            assert (obs[written:] == col.UNUSED).all()
            r, c = divmod(cell, stride)
            assert grid[r, c] == col.AGENTS + agent
            window = grid[r - 5 : r + 6, c - 5 : c + 6]
            seen = obs[:written][obs[:written, 1] == col.F_TAG, 0].tolist()
            nearest_first = sorted(
                np.argwhere(window != col.EMPTY).tolist(), key=lambda rc: (abs(rc[0] - 5) + abs(rc[1] - 5), *rc)
            )
            expected = [16 * row + column for row, column in nearest_first]
            assert seen == expected[: len(seen)]
            assert written == col.NUM_TOKENS or len(seen) == len(expected)


def test_an_env_has_as_many_actions_as_its_vibes_and_the_default_map_is_the_originals():
    env = make("cvc_random_maps", 1)
    assert (env.num_agents, env.num_actions) == (20, 5 + 16)
    assert world(num_vibes=152).num_actions == 157
