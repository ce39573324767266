"""Acting in one place of memory, as GPUs do it, fills the segments that the plain loop fills."""

from contextlib import nullcontext

import pytest
import torch

from memexp import envs
from memexp.cortex.config import CortexConfig
from memexp.envs.base import VecEnv
from memexp.policy.config import PolicyConfig
from memexp.policy.model import Policy
from memexp.ppo.rollout import ActionNoise, Actor, CudaRollout, Segments, collect
from memexp.ppo.timing import Stopwatch

FIELDS = ("obs", "resets", "actions", "log_probs", "values", "rewards", "dones")
WORLDS = {
    "chain_recall": {"k": 2, "episode_length": 7, "num_symbols": 4},  # truncates twice in a rollout
    "tmaze": {"length": 1},  # terminates and, now and then, truncates
    "assembly_lines": {"curriculum_style": "level_0"},
}
HORIZON, GAMMA = 16, 0.9
CLOCK = Stopwatch(torch.device("cpu"))


def fresh(name: str, seed: int = 3) -> tuple[Policy, VecEnv, Actor, ActionNoise, Segments]:
    """A policy with memory in 6 worlds, before its first rollout."""
    torch.manual_seed(seed)
    env = envs.make(name, 6, seed=seed, **WORLDS[name])
    cortex = CortexConfig(pattern="XS", mem_len=4, d_hidden=16, num_layers=1, n_heads=2)
    policy = Policy(env.observation, env.num_actions, cortex, PolicyConfig())
    obs, n, device = env.desync(), env.num_agents, torch.device("cpu")
    actor = Actor(obs, policy.init_state(n, device), torch.ones(n, dtype=torch.bool))
    return policy, env, actor, ActionNoise(seed, n, 0, n, device), Segments.empty(env, obs, HORIZON)


@pytest.mark.parametrize(
    ("name", "graphable"),
    [("chain_recall", False), ("tmaze", False), ("assembly_lines", False), ("assembly_lines", True)],
)
def test_acting_in_one_place_of_memory_is_the_plain_loop(name, graphable):
    plain, placed = fresh(name), fresh(name)
    placed[1].graphable = graphable
    rollout = CudaRollout(*placed, graph=True)
    assert (rollout.replayed is not None) == graphable
    ends = 0
    for _ in range(3):
        start = {leaf: tensor.clone() for leaf, tensor in plain[2].state.items()}
        with torch.no_grad():
            last = collect(*plain, GAMMA, nullcontext(), CLOCK)
            torch.testing.assert_close(rollout.collect(placed[2], GAMMA, nullcontext(), CLOCK), last)
        for field in FIELDS:
            torch.testing.assert_close(getattr(placed[4], field), getattr(plain[4], field), msg=field)
        for leaf, tensor in start.items():
            torch.testing.assert_close(placed[4].start[leaf], tensor)
            torch.testing.assert_close(placed[2].state[leaf], plain[2].state[leaf])
        assert torch.equal(placed[2].resets, plain[2].resets)
        ends += int(plain[4].dones.sum())
    assert ends >= 12 or name == "assembly_lines"


def test_what_is_kept_of_a_rollout_stays_when_the_next_one_is_acted():
    policy, env, actor, noise, out = fresh("chain_recall")
    rollout = CudaRollout(policy, env, actor, noise, out, graph=True)
    with torch.no_grad():
        rollout.collect(actor, GAMMA, nullcontext(), CLOCK)
        start = {name: leaf.clone() for name, leaf in out.start.items()}
        kept = out.start
        rollout.collect(actor, GAMMA, nullcontext(), CLOCK)
    for name, leaf in start.items():
        assert torch.equal(kept[name], leaf)
        assert not torch.equal(out.start[name], leaf)


def test_worlds_that_truncate_every_step_find_room_for_all_their_last_observations():
    policy, env, actor, noise, out = fresh("chain_recall")
    env.shortest_truncation = 1
    rollout = CudaRollout(policy, env, actor, noise, out, graph=False)
    assert rollout.truncations is not None
    n, always = env.num_agents, torch.ones(env.num_agents, dtype=torch.bool)
    with torch.no_grad():
        for t in range(HORIZON):
            rollout.truncations.record(actor.obs, actor.state, always, torch.tensor([t]))
        assert int(rollout.truncations.count) == n * HORIZON
        rollout.truncations.bootstrap(policy, out.rewards, GAMMA)
        values = policy(actor.obs, actor.state, torch.zeros(n, dtype=torch.bool))[1]
    torch.testing.assert_close(out.rewards, GAMMA * values[:, None].expand(n, HORIZON))
