"""Rollouts on a GPU: each step enqueues the same kernels on the same memory, so that one CUDA graph can hold it.

Observations, recurrent state, the step number and the segments keep their addresses for the whole run. Policy, sampling
and environment then run as one graph, and the CPU reads nothing from the GPU during a rollout.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from memexp.envs.base import VecEnv
from memexp.graphs import Replayed
from memexp.policy.model import Policy, State
from memexp.ppo.rollout import ActionNoise, Actor, Segments
from memexp.ppo.timing import Stopwatch


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
        """As `rollout.collect`; within a graph `clock` measures nothing."""
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
