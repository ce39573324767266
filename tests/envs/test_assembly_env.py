"""The worlds of assembly_lines as a VecEnv."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.envs import make
from memexp.envs.assembly_lines import AssemblyLinesEnv
from memexp.envs.grid import columns as col
from memexp.envs.grid import step as engine

TINY = {"curriculum_style": "level_0", "num_vibes": 0}


def play(env: AssemblyLinesEnv, actions: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Step through actions [T, N]; copies of (obs, reward, terminated, truncated) of each step."""
    return [tuple(tensor.clone() for tensor in env.step(row)) for row in actions]


def random_actions(steps: int, num_agents: int, num_actions: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randint(num_actions, (steps, num_agents), generator=torch.Generator().manual_seed(seed))


def same(left: list[tuple[torch.Tensor, ...]], right: list[tuple[torch.Tensor, ...]]) -> bool:
    return all(torch.equal(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True))


def test_an_env_depends_on_the_seed_and_its_global_number_alone():
    whole = make("assembly_lines", 8, seed=5, **TINY)
    part = make("assembly_lines", 4, seed=5, first_env=4, **TINY)
    assert torch.equal(whole.reset()[4:], part.reset())
    assert torch.equal(whole.desync()[4:], part.desync())
    actions = random_actions(1300, 8)
    steps = [tuple(tensor[4:] for tensor in step) for step in play(whole, actions)]
    assert same(steps, play(part, actions[:, 4:]))
    ours, theirs = whole.pop_episodes(), part.pop_episodes()
    mine = ours["world"] >= 4
    assert len(theirs["return"]) >= 4
    assert all(np.array_equal(np.sort(ours[key][mine]), np.sort(theirs[key]), equal_nan=True) for key in ours)


@pytest.mark.slow
def test_several_cores_play_the_envs_as_one_core_does(monkeypatch):
    actions = random_actions(900, 40, 6)
    played, episodes, last_seen = [], [], []
    for agents_for_more_cores in (1, 10**9):
        monkeypatch.setattr(engine, "num_cores", lambda: 2)
        monkeypatch.setattr(engine, "AGENTS_FOR_MORE_CORES", agents_for_more_cores)
        env = make("assembly_lines", 40, seed=3, **TINY)
        begun = env.desync().clone()
        played.append([(begun,), *play(env, actions)])
        episodes.append(env.pop_episodes())
        last_seen.append(env.final_obs.clone())
    assert same(*played)
    assert torch.equal(*last_seen)
    assert len(episodes[0]["return"]) > 10
    assert all(np.array_equal(episodes[0][key], episodes[1][key], equal_nan=True) for key in episodes[0])


def test_another_seed_gives_other_envs():
    first, other = (make("assembly_lines", 4, seed=seed, **TINY).reset() for seed in (1, 2))
    assert not torch.equal(first, other)


def test_a_saved_env_continues_exactly():
    env = make("assembly_lines", 6, **TINY)
    env.reset()
    env.desync()
    actions = random_actions(900, 6)
    play(env, actions[:300])
    state = env.state_dict()
    after = play(env, actions[300:])
    episodes = env.pop_episodes()
    restored = make("assembly_lines", 6, **TINY)
    restored.load_state_dict(state)
    assert same(play(restored, actions[300:]), after)
    again = restored.pop_episodes()
    assert all(np.array_equal(episodes[key], again[key], equal_nan=True) for key in episodes)
    assert len(episodes["return"]) > 0


def test_the_step_that_ends_an_episode_returns_the_next_ones_first_observation():
    env = make("assembly_lines", 2, **TINY)
    env.reset()
    completion = 2  # the feature id of episode_completion_pct, the first token
    for row in random_actions(2000, 2):
        obs, _, terminated, truncated = env.step(row)
        for w in range(2):
            assert obs[w, 0, 1] == completion
            if terminated[w]:
                assert obs[w, 0, 2] == 0
                assert env.final_obs[w, 0].tolist() == [col.HERE, completion, 255]
                assert env.state.world[w, col.STEP] == 0
            else:
                assert env.state.world[w, col.STEP] > 0
        assert not truncated.any()
    episodes = env.pop_episodes()
    assert (episodes["length"] == episodes["env/max_steps"]).all()


def test_the_tensors_are_the_memory_that_the_engine_writes():
    env = make("assembly_lines", 3, **TINY)
    obs = env.reset()
    stepped, reward, terminated, _ = env.step(torch.zeros(3, dtype=torch.int64))
    assert obs.data_ptr() == stepped.data_ptr() == env.state.obs.ctypes.data
    assert reward.data_ptr() == env.state.rewards.ctypes.data
    assert terminated.data_ptr() == env.state.terminated.ctypes.data
    assert (obs.dtype, tuple(obs.shape)) == (torch.uint8, (3, col.NUM_TOKENS, 3))
    assert len(env.observation.normalization) == 52


def test_returns_add_up_from_rewards_and_equal_the_hearts_held():
    env = make("assembly_lines", 64, **TINY)
    env.reset()
    total = torch.zeros(64)
    rewarded: dict[int, list[float]] = {w: [] for w in range(64)}
    for row in random_actions(1300, 64):
        _, reward, terminated, _ = env.step(row)
        total += reward
        for w in terminated.nonzero()[:, 0].tolist():
            rewarded[w].append(total[w].item())
            total[w] = 0
    episodes = env.pop_episodes()
    assert episodes["return"].sum() > 0
    for w in range(64):
        assert episodes["return"][episodes["world"] == w].tolist() == rewarded[w]
    assert (episodes["return"] == episodes["env/hearts"]).all()
    shares = [episodes[f"env/{name}_share"] for name in ("noop", "move", "use", "move_failed", "vibe", "invalid")]
    np.testing.assert_allclose(sum(shares), 1)


def test_desync_spreads_episode_ends_and_leaves_the_cut_episodes_out():
    env = make("assembly_lines", 64, **TINY)
    env.reset()
    env.desync()
    begun = env.state.world[:, col.STEP] / env.state.world[:, col.MAX_STEPS]
    assert begun.min() < 0.1 < 0.9 < begun.max() < 1
    assert env.random_steps == env.state.world[:, col.STEP].sum() * env.num_agents // env.num_envs
    first_ends = []
    for t, row in enumerate(random_actions(700, 64)):
        first_ends += [t] * int(env.step(row)[2].sum())
    assert len(first_ends) > len(env.pop_episodes()["return"])
    assert len(set(first_ends)) > 40


@pytest.mark.parametrize("num_vibes", [0, 16, 152])
def test_vibe_actions_change_the_vibe_and_indices_beyond_do_nothing(num_vibes):
    env = make("assembly_lines", 1, num_vibes=num_vibes, curriculum_style="level_0")
    assert env.num_actions == 5 + num_vibes
    env.reset()
    for vibe in range(num_vibes):
        env.step(torch.tensor([5 + vibe]))
        assert env.state.agents[0, 0, col.VIBE] == vibe
        assert env.state.agents[0, 0, col.SUCCESS] == 1
    env.step(torch.tensor([env.num_actions]))
    assert env.state.agents[0, 0, col.VIBE] == max(0, num_vibes - 1)
    assert env.state.agents[0, 0, col.SUCCESS] == 0


def test_a_task_source_decides_every_episodes_task():
    asked = []

    def tasks(world: int, episode: int) -> int:
        asked.append((world, episode))
        return 100 * world + episode

    env = make("assembly_lines", 2, first_env=7, tasks=tasks, **TINY)
    env.reset()
    assert asked == [(7, 0), (8, 0)]
    for row in random_actions(1300, 2):
        env.step(row)
    episodes = env.pop_episodes()
    assert set(zip(episodes["world"].tolist(), episodes["task"].tolist(), strict=True)) >= {
        (7, 700),
        (8, 800),
        (7, 701),
    }


@given(st.integers(0, 2**32), st.sampled_from(["tiny", "terrain_2", "longer_chains"]))
@settings(deadline=None, max_examples=15)
def test_an_observation_shows_just_what_stands_in_the_window(seed, style):
    env = make("assembly_lines", 3, seed=seed, curriculum_style=style, num_vibes=3)
    env.reset()
    s = env.state
    for row in random_actions(40, 3, env.num_actions, seed):
        obs = env.step(row)[0].numpy()
        for w in range(3):
            used = obs[w, :, 0] != col.UNUSED
            written = int(used.sum())
            assert used[:written].all()
            assert (obs[w, written:] == col.UNUSED).all()
            stride = s.window[4, 0]
            grid, cell = s.grid[w].reshape(-1, stride), s.agents[w, 0, col.CELL]
            assert np.count_nonzero(grid == col.AGENTS) == 1
            assert s.grid[w, cell] == col.AGENTS
            r, c = divmod(int(cell), int(stride))
            shown = np.argwhere(grid[r - 5 : r + 6, c - 5 : c + 6] != col.EMPTY) @ [16, 1]
            tags = obs[w, :written][obs[w, :written, 1] == col.F_TAG]
            assert sorted(tags[:, 0].tolist()) == sorted(shown.tolist())
            distance = np.abs(tags[:, 0] // 16 - 5.0) + np.abs(tags[:, 0] % 16 - 5.0)
            assert (np.diff(distance) >= 0).all()
