"""Rollouts: the policy acts for `horizon` steps in all environments, and every step is kept for the update.

Shapes: N agents of this rank, T = `horizon` steps. cuda_rollout.py does on a GPU what `collect` does on a CPU.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from memexp.envs.base import VecEnv
from memexp.policy.model import Policy, State
from memexp.ppo.timing import Stopwatch
from memexp.spaces import ContinuousActions


@dataclass
class Segments:
    """The steps of one rollout; each of the N rows is one agent's segment. Shapes `[N, T, ...]`."""

    obs: Tensor
    resets: Tensor  # bool: a new episode begins with this step
    actions: Tensor  # int64; float32 for continuous actions
    log_probs: Tensor  # of the action taken, under the policy that took it
    values: Tensor
    rewards: Tensor
    dones: Tensor  # bool: the episode ended with this step
    start: State  # recurrent state before the first step, [N, ...]

    @classmethod
    def empty(cls, env: VecEnv, obs: Tensor, horizon: int) -> "Segments":
        """Zeros, of the right size for rollouts in `env`, whose observations look like `obs` `[N, ...]`."""
        n, device = env.num_agents, obs.device
        action_dtype = torch.float32 if isinstance(env.actions, ContinuousActions) else torch.int64

        def zeros(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.zeros(n, horizon, *shape, dtype=dtype, device=device)

        return cls(
            obs=zeros(obs.dtype, *obs.shape[1:]),
            resets=zeros(torch.bool),
            actions=zeros(action_dtype, *env.actions.shape),
            log_probs=zeros(torch.float32),
            values=zeros(torch.float32),
            rewards=zeros(torch.float32),
            dones=zeros(torch.bool),
            start={},
        )


@dataclass
class Actor:
    """What the next step of acting starts from: observations, recurrent state and resets, each `[N, ...]`."""

    obs: Tensor
    state: State
    resets: Tensor


class ActionNoise:
    """Uniform random numbers that actions are sampled with, for the N agents of this rank out of `total` of all ranks.

    Every rank draws the numbers of all agents, so an agent's numbers do not depend on the number of ranks. An agent
    gets one number, or as many as an action of `shape` has. first: number of this rank's first agent.
    """

    def __init__(
        self, seed: int, num_agents: int, first: int, total: int, device: torch.device, shape: tuple[int, ...] = ()
    ):
        self.generator = torch.Generator(device).manual_seed(seed)
        self._mine = slice(first, first + num_agents)
        self._size = (total, *shape)
        self._device = device

    def sample(self) -> Tensor:
        """Uniform numbers in [0, 1), `[N, *shape]`."""
        return torch.rand(self._size, generator=self.generator, device=self._device)[self._mine]

    def restore(self, state: Tensor, seed: int) -> None:
        """Continue from a generator's `state`; if another kind of device (CPU, GPU) wrote it, start from `seed`."""
        if state.shape == self.generator.get_state().shape:
            self.generator.set_state(state)
        else:
            self.generator.manual_seed(seed)


@torch.no_grad()
def collect(
    policy: Policy,
    env: VecEnv,
    actor: Actor,
    noise: ActionNoise,
    out: Segments,
    gamma: float,
    cast: AbstractContextManager,
    clock: Stopwatch,
) -> Tensor:
    """Fill `out` with the next rollout and move `actor` on; returns the value of the observation after it, `[N]`.

    If an episode is truncated, gamma V(true last observation) is added to its last reward (partial-episode
    bootstrapping, Pardo et al. 2018, arXiv:1712.00378). `clock` measures the environments' steps as "engine".
    """
    out.start = actor.state
    with cast:
        for t in range(out.obs.shape[1]):
            out.obs[:, t] = actor.obs
            out.resets[:, t] = actor.resets
            logits, out.values[:, t], actor.state = policy(actor.obs, actor.state, actor.resets)
            actions = policy.actions.sample(logits, noise.sample())
            out.actions[:, t] = actions
            out.log_probs[:, t] = policy.actions.log_prob(logits, actions)
            with clock.part("engine"):
                actor.obs, reward, terminated, truncated = env.step(actions)
            if env.shortest_truncation is not None and truncated.any():
                reward = reward + gamma * _last_values(policy, env, actor.state, truncated)
            out.rewards[:, t] = reward
            actor.resets = terminated | truncated
            out.dones[:, t] = actor.resets
        _, last_values, _ = policy(actor.obs, actor.state, actor.resets)
    return last_values


def _last_values(policy: Policy, env: VecEnv, state: State, truncated: Tensor) -> Tensor:
    """Value of the true last observation in the truncated rows, 0 in the others, `[N]`."""
    rows = truncated.nonzero().squeeze(1)
    memory = {name: leaf[rows] for name, leaf in state.items()}
    _, values, _ = policy(env.final_obs[rows], memory, torch.zeros_like(rows, dtype=torch.bool))
    return torch.zeros(len(truncated), device=values.device).index_copy(0, rows, values)
