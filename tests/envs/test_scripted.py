"""Scripted players: what they may know, and that nothing else decides."""

import numpy as np
import pytest
import torch
from torch import Tensor

from memexp.config import UsageError
from memexp.envs import make
from memexp.envs.grid import columns as col
from memexp.envs.grid.vec_env import GridEnv
from memexp.envs.scripted import POLICY_KINDS, ScriptedPolicy, make_scripted_policy
from memexp.envs.scripted.base import CompiledPolicy
from memexp.envs.scripted.belief_map import CELL
from memexp.envs.scripted.view import FREE, THING, UNKNOWN, WALL

SMALL = {
    "map_width": [30, 30], "map_height": [30, 30], "max_steps": [120],
    "num_cogs": 8, "num_assemblers": [5, 5], "num_chargers": [8, 8], "num_chests": [5, 5],
    "num_carbon_extractors": [10, 10], "num_oxygen_extractors": [10, 10],
    "num_germanium_extractors": [10, 10], "num_silicon_extractors": [10, 10],
}  # fmt: skip
GAMES = {"assembly_lines": {"curriculum_style": "terrain_2"}, "cvc_random_maps": SMALL}


def world(game: str, seed: int, num_envs: int = 3) -> GridEnv:
    env = make(game, num_envs, seed=seed, **GAMES[game])
    assert isinstance(env, GridEnv)
    return env


def record(env: GridEnv, player: ScriptedPolicy, steps: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Play; the observations, resets and actions of every step."""
    obs, resets = env.reset(), torch.ones(env.num_agents, dtype=torch.bool)
    seen, begun, chosen = [], [], []
    for _ in range(steps):
        seen.append(obs.clone())
        begun.append(resets.clone())
        chosen.append(player.act(obs, resets).clone())
        obs, _, terminated, truncated = env.step(chosen[-1])
        resets = terminated | truncated
    return seen, begun, chosen


def replay(player: ScriptedPolicy, seen: list[Tensor], begun: list[Tensor]) -> list[Tensor]:
    return [player.act(obs, resets).clone() for obs, resets in zip(seen, begun, strict=True)]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_an_unknown_player_is_answered_with_the_nearest_known_one():
    with pytest.raises(UsageError, match="did you mean 'memory'"):
        make_scripted_policy(world("assembly_lines", 0), "memry")


def test_an_environment_without_players_says_which_have_some():
    with pytest.raises(UsageError, match="assembly_lines and cvc_random_maps"):
        make_scripted_policy(make("tmaze", 2), "memory")


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("kind", POLICY_KINDS)
def test_a_player_plays_the_same_again_from_the_same_seed(game: str, kind: str):
    first, again = (
        record(env, make_scripted_policy(env, kind, seed=4), 150) for env in (world(game, 1), world(game, 1))
    )
    assert equal(first[2], again[2])


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("kind", ["memory", "memoryless"])
def test_observations_alone_decide(game: str, kind: str):
    env = world(game, 1)
    seen, begun, chosen = record(env, make_scripted_policy(env, kind), 150)
    elsewhere = make_scripted_policy(world(game, 2), kind)
    assert equal(replay(elsewhere, seen, begun), chosen)


@pytest.mark.parametrize("kind", ["memory", "memoryless"])
def test_no_agent_knows_what_another_sees(kind: str):
    env = world("cvc_random_maps", 1)
    seen, begun, chosen = record(env, make_scripted_policy(env, kind), 150)
    others = [obs.roll(5, 0) for obs in seen]
    for obs, own in zip(others, seen, strict=True):
        obs[7] = own[7]
    assert equal(
        [actions[7] for actions in replay(make_scripted_policy(env, kind), others, begun)], [a[7] for a in chosen]
    )


@pytest.mark.parametrize("game", GAMES)
def test_what_came_before_is_nothing_to_a_player_without_memory(game: str):
    env = world(game, 1)
    seen, begun, _ = record(env, make_scripted_policy(env, "memory"), 60)
    one, other = make_scripted_policy(env, "memoryless"), make_scripted_policy(env, "memoryless")
    shuffled = [seen[int(t)] for t in np.random.default_rng(0).permutation(59)] + seen[59:]
    assert torch.equal(replay(one, seen, begun)[-1], replay(other, shuffled, begun)[-1])


@pytest.mark.parametrize("game", GAMES)
def test_a_player_with_memory_draws_a_true_map(game: str):
    env = world(game, 3, num_envs=2)
    player = make_scripted_policy(env, "memory")
    assert isinstance(player, CompiledPolicy)
    env.reset()
    starts = env.state.agents[:, :, col.CELL].copy()
    record(env, player, 110)
    latest = torch.from_numpy(env.state.obs).view(env.num_agents, col.NUM_TOKENS, 3)
    player.act(latest, torch.zeros(env.num_agents, dtype=torch.bool))
    stride, agents = int(env.state.window[4, 0]), starts.shape[1]
    side = int(player.belief.kind.shape[1] ** 0.5)
    for n in range(env.num_agents):
        w, a = divmod(n, agents)
        rows, columns = np.divmod(np.arange(env.state.grid.shape[1]), stride)
        own = (rows - starts[w, a] // stride) % side * side + (columns - starts[w, a] % stride) % side
        drawn = player.belief.kind[n, own]
        known = drawn != UNKNOWN
        assert player.belief.me[n, CELL] == own[env.state.agents[w, a, col.CELL]]
        assert known.sum() > 150
        assert np.array_equal(drawn[known], true_kinds(env, w)[known])


def true_kinds(env: GridEnv, w: int) -> np.ndarray:
    """What stands in each cell of world w, as players call it."""
    s = env.state
    tags = s.types[w, s.objects[w, :, col.TYPE], col.TAG]
    things = s.grid[w] - col.AGENTS - s.agents.shape[1]
    return np.where(s.grid[w] == col.WALL, WALL, np.where(things >= 0, THING + tags[things], FREE))
