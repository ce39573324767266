"""Rollouts: the policy acts for `horizon` steps in all environments, and every step is kept for the update.

`collect` is the readable form, for CPUs. `CudaRollout` does the same on a GPU, where each step enqueues the same
kernels on the same memory, so that one CUDA graph can hold it: observations, recurrent state, the step number and the
segments keep their addresses for the whole run. Policy, sampling and environment then run as one graph, and the CPU
reads nothing from the GPU during a rollout.

Shapes: N agents of this rank, T = `horizon` steps.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from memexp.envs.base import VecEnv
from memexp.graphs import Replayed
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
        if env.resetting is not None:
            return _collect_played(policy, env, actor, noise, out, gamma, clock)
        for t in range(out.obs.shape[1]):
            _act(policy, env, actor, noise, out, t, gamma, clock)
        _, last_values, _ = policy(actor.obs, actor.state, actor.resets)
    return last_values


def _act(
    policy: Policy, env: VecEnv, actor: Actor, noise: ActionNoise, out: Segments, t: int, gamma: float, clock: Stopwatch
) -> None:
    """One step of all agents, into column `t` of the segments."""
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


def _collect_played(
    policy: Policy, env: VecEnv, actor: Actor, noise: ActionNoise, out: Segments, gamma: float, clock: Stopwatch
) -> Tensor:
    """As `collect`, where some steps only reset a row (`env.resetting`): these are left out of the segments.

    Rows that are full wait for the others: what they do meanwhile is not learnt from either.
    """
    horizon, one = out.obs.shape[1], Segments.empty(env, actor.obs, 1)
    filled = torch.zeros(env.num_agents, dtype=torch.int64, device=actor.obs.device)
    last_values = torch.zeros_like(one.values[:, 0])
    while bool((filled < horizon).any()):
        rows = ((filled < horizon) & ~env.resetting).nonzero().squeeze(1)  # type: ignore[operator]
        _act(policy, env, actor, noise, one, 0, gamma, clock)
        just_full = filled == horizon
        last_values[just_full] = one.values[just_full, 0]
        filled[just_full] += 1
        for field in fields(one):
            if field.name != "start":
                getattr(out, field.name)[rows, filled[rows]] = getattr(one, field.name)[rows, 0]
        filled[rows] += 1
    _, values, _ = policy(actor.obs, actor.state, actor.resets)
    return torch.where(filled > horizon, last_values, values)


def _last_values(policy: Policy, env: VecEnv, state: State, truncated: Tensor) -> Tensor:
    """Value of the true last observation in the truncated rows, 0 in the others, `[N]`."""
    rows = truncated.nonzero().squeeze(1)
    memory = {name: leaf[rows] for name, leaf in state.items()}
    _, values, _ = policy(env.final_obs[rows], memory, torch.zeros_like(rows, dtype=torch.bool))
    return torch.zeros(len(truncated), device=values.device).index_copy(0, rows, values)


class CudaRollout:
    """Fills the same segments again and again; `graph`: as replays of a CUDA graph, if `env` allows it."""

    def __init__(
        self, policy: Policy, env: VecEnv, actor: Actor, noise: ActionNoise, out: Segments, graph: bool
    ) -> None:
        self.policy, self.env, self.noise, self.out = policy, env, noise, out
        self.obs = actor.obs if env.graphable else actor.obs.clone()
        self.state = {name: leaf.clone() for name, leaf in actor.state.items()}
        self.resets = actor.resets.clone()
        self.t = torch.zeros(1, dtype=torch.int64, device=actor.obs.device)
        self.truncations = Truncations.of(env, actor, out.obs.shape[1])
        self.replayed = Replayed(self.step, actor.obs.device, [noise.generator]) if graph and env.graphable else None

    @torch.no_grad()
    def collect(self, actor: Actor, gamma: float, cast: AbstractContextManager, clock: Stopwatch) -> Tensor:
        """As `collect`; within a graph `clock` measures nothing."""
        self.out.start = {name: leaf.clone() for name, leaf in self.state.items()}
        self.t.zero_()
        with cast:
            for _ in range(self.out.obs.shape[1]):
                if self.replayed:
                    self.env.ready()
                    self.replayed()
                else:
                    self.step(clock)
            if self.truncations:
                self.truncations.bootstrap(self.policy, self.out.rewards, gamma)
            _, last_values, _ = self.policy(self.obs, self.state, self.resets)
        actor.obs, actor.state, actor.resets = self.obs, self.state, self.resets
        return last_values

    def step(self, clock: Stopwatch | None = None) -> None:
        """Step `t` of all agents; without `clock` as a CUDA graph captures it."""
        torch.clear_autocast_cache()  # a replay must cast the weights as they are then
        logits, values, state = self.policy(self.obs, self.state, self.resets)
        actions = self.policy.actions.sample(logits, self.noise.sample())
        self._write(obs=self.obs, resets=self.resets, actions=actions, values=values)
        self._write(log_probs=self.policy.actions.log_prob(logits, actions))
        if clock:
            with clock.part("engine"):
                obs, reward, terminated, truncated = self.env.step(actions)
        else:
            obs, reward, terminated, truncated = self.env.launch(actions)
        for name, leaf in self.state.items():
            leaf.copy_(state[name])
        if self.truncations:
            self.truncations.record(self.env.final_obs, self.state, truncated, self.t)
        torch.logical_or(terminated, truncated, out=self.resets)
        self._write(rewards=reward, dones=self.resets)
        if obs is not self.obs:
            self.obs.copy_(obs)
        self.t += 1
        torch.clear_autocast_cache()

    def _write(self, **columns: Tensor) -> None:
        """Column `t` of these fields of the segments."""
        for name, column in columns.items():
            field = getattr(self.out, name)
            field.index_copy_(1, self.t, column.to(field.dtype)[:, None])


class Truncations:
    """True last observations and recurrent states of truncated episodes, whose values are computed after the rollout.

    Each step adds its truncated rows after those of earlier steps, at a position that is counted on the device. The
    rows that are not truncated all go to one spare row at the end, which nothing reads.
    """

    def __init__(self, obs: Tensor, state: State, num_rows: int) -> None:
        def rows_like(leaf: Tensor) -> Tensor:
            return torch.zeros(num_rows + 1, *leaf.shape[1:], dtype=leaf.dtype, device=leaf.device)

        self.num_rows = num_rows
        self.obs = rows_like(obs)
        self.state = {name: rows_like(leaf) for name, leaf in state.items()}
        self.owner = torch.zeros(num_rows + 1, 2, dtype=torch.int64, device=obs.device)
        """Agent and step of each row."""
        self.count = torch.zeros((), dtype=torch.int64, device=obs.device)
        self._agents = torch.arange(len(obs), device=obs.device)

    @classmethod
    def of(cls, env: VecEnv, actor: Actor, horizon: int) -> "Truncations | None":
        """With enough rows for every truncation of a rollout; None if no episode is ever truncated."""
        if env.shortest_truncation is None:
            return None
        each = 1 + (horizon - 1) // env.shortest_truncation
        return cls(actor.obs, actor.state, env.num_agents * each)

    def record(self, last_obs: Tensor, state: State, truncated: Tensor, t: Tensor) -> None:
        """Keep the rows in which `truncated` `[N]` is True of all agents' last_obs and state after step `t` `[1]`."""
        place = torch.where(truncated, self.count + truncated.cumsum(0) - 1, self.num_rows)
        self.obs.index_copy_(0, place, last_obs)
        for name, leaf in state.items():
            self.state[name].index_copy_(0, place, leaf)
        self.owner.index_copy_(0, place, torch.stack([self._agents, t.expand_as(self._agents)], dim=1))
        self.count += truncated.sum()

    def bootstrap(self, policy: Policy, rewards: Tensor, gamma: float) -> None:
        """Add gamma V(last observation) to the rewards `[N, T]` of the recorded steps, and forget them.

        The CPU reads their number from the GPU, once a rollout.
        """
        count, size = int(self.count), len(self._agents)
        for begin in range(0, count, size):
            rows = slice(begin, min(begin + size, count))
            memory = {name: leaf[rows] for name, leaf in self.state.items()}
            resets = torch.zeros(rows.stop - begin, dtype=torch.bool, device=rewards.device)
            _, values, _ = policy(self.obs[rows], memory, resets)
            rewards.index_put_(tuple(self.owner[rows].T), gamma * values, accumulate=True)
        self.count.zero_()
