"""Rollouts: the policy acts for `horizon` steps in all worlds, and every step is kept for the update."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memexp.envs.base import VecEnv
from memexp.policy.model import Policy, State
from memexp.ppo.timing import Stopwatch
from memexp.spaces import ContinuousActions

if TYPE_CHECKING:
    from memexp.ppo.cuda_rollout import Acting


@dataclass
class Segments:
    """`horizon` steps of N agents; N rows are segments. Shapes `[N, T, ...]`."""

    obs: Tensor
    resets: Tensor  # bool: the step begins a new episode
    actions: Tensor  # int64, or float32 where they are continuous
    log_probs: Tensor  # of the action taken, under the policy that took it
    values: Tensor
    rewards: Tensor
    dones: Tensor  # bool: the episode ended with the step
    start: State  # memory before the first step, [N, ...]

    @classmethod
    def empty(cls, env: VecEnv, obs: Tensor, horizon: int) -> "Segments":
        """Room for segments of worlds whose observations look like `obs` `[N, ...]`."""
        n, device = env.num_agents, obs.device
        action_dtype = torch.float32 if isinstance(env.actions, ContinuousActions) else torch.int64

        def room(dtype: torch.dtype) -> Tensor:
            return torch.zeros(n, horizon, dtype=dtype, device=device)

        return cls(
            obs=torch.zeros(n, horizon, *obs.shape[1:], dtype=obs.dtype, device=device),
            resets=room(torch.bool),
            actions=torch.zeros(n, horizon, *env.actions.shape, dtype=action_dtype, device=device),
            log_probs=room(torch.float32),
            values=room(torch.float32),
            rewards=room(torch.float32),
            dones=room(torch.bool),
            start={},
        )


@dataclass
class Actor:
    """Where acting stands between two rollouts: what the policy sees next and what it remembers."""

    obs: Tensor
    state: State
    resets: Tensor
    acting: "Acting | None" = None
    """On a GPU: the step in one place of memory."""


class ActionNoise:
    """Uniform numbers for each agent of all ranks and step: which rank rolls for an agent does not matter.

    One number for an agent, or as many as an action of this `shape` has.
    """

    def __init__(
        self, seed: int, num_agents: int, first: int, total: int, device: torch.device, shape: tuple[int, ...] = ()
    ):
        self.generator = torch.Generator(device).manual_seed(seed)
        self._mine = slice(first, first + num_agents)
        self._size = (total, *shape)
        self._device = device

    def sample(self) -> Tensor:
        """Uniform numbers in [0, 1), `[N, *shape]` for this rank's agents."""
        return torch.rand(self._size, generator=self.generator, device=self._device)[self._mine]

    def restore(self, state: Tensor, seed: int) -> None:
        """Carry on from a generator's `state`; one of another kind of device (CPU, GPU) means nothing here: `seed`."""
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
    graph: bool = False,
) -> Tensor:
    """Fill `out` with the next segments and carry `actor` on; returns the value of the observation after them `[N]`.

    Where an episode is truncated, gamma times the value of its true last observation is added to the reward. On a GPU
    the host asks nothing of the device meanwhile; `graph` makes each step the replay of one CUDA graph there. `clock`
    is told how long the worlds take: "engine" (not within a graph).
    """
    if actor.obs.is_cuda:
        from memexp.ppo.cuda_rollout import Acting

        actor.acting = actor.acting or Acting(policy, env, actor, noise, out, graph)
        return actor.acting.collect(actor, gamma, cast, clock)
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
    """Value of the true last observation in the truncated rows, 0 elsewhere, `[N]`."""
    rows = truncated.nonzero().squeeze(1)
    memory = {name: leaf[rows] for name, leaf in state.items()}
    _, values, _ = policy(env.final_obs[rows], memory, torch.zeros_like(rows, dtype=torch.bool))
    return torch.zeros(len(truncated), device=values.device).index_copy(0, rows, values)
