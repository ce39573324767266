"""Acting on a GPU without a word from the host: every step enqueues the same kernels on the same memory.

What the policy sees and remembers, the number of the step and everything that is kept of it stand in one place for the
whole run, so that policy, sampling and worlds can be one CUDA graph. Nothing is asked of the device during a rollout.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from memexp.envs.base import VecEnv
from memexp.graphs import Replayed
from memexp.policy.model import Policy, State
from memexp.ppo.rollout import ActionNoise, Actor, Segments
from memexp.ppo.timing import Stopwatch


class Acting:
    """The steps of one policy in one VecEnv, written into the same segments again and again."""

    def __init__(
        self, policy: Policy, env: VecEnv, actor: Actor, noise: ActionNoise, out: Segments, graph: bool
    ) -> None:
        """`graph`: replay a step as a CUDA graph, where the worlds allow it."""
        self.policy, self.env, self.noise, self.out = policy, env, noise, out
        self.obs = actor.obs if env.graphable else actor.obs.clone()
        self.state = {name: leaf.clone() for name, leaf in actor.state.items()}
        self.resets = actor.resets.clone()
        self.t = torch.zeros(1, dtype=torch.int64, device=actor.obs.device)
        self.late = Truncations.room(env, actor, out.obs.shape[1])
        self.replayed = Replayed(self.step, actor.obs.device, [noise.generator]) if graph and env.graphable else None

    def collect(self, actor: Actor, gamma: float, cast: AbstractContextManager, clock: Stopwatch) -> Tensor:
        """As rollout.collect."""
        self.out.start = {name: leaf.clone() for name, leaf in self.state.items()}
        self.t.zero_()
        with cast:
            for _ in range(self.out.obs.shape[1]):
                if self.replayed:
                    self.env.ready()
                    self.replayed()
                else:
                    self.step(clock)
            if self.late:
                self.late.bootstrap(self.policy, self.out.rewards, gamma)
            _, last_values, _ = self.policy(self.obs, self.state, self.resets)
        actor.obs, actor.state, actor.resets = self.obs, self.state, self.resets
        return last_values

    def step(self, clock: Stopwatch | None = None) -> None:
        """One step of all agents, as the `t`-th of the segments; within a graph there is no clock."""
        torch.clear_autocast_cache()  # a graph must cast the weights as they are when it is replayed
        logits, values, state = self.policy(self.obs, self.state, self.resets)
        actions = self.policy.actions.sample(logits, self.noise.sample())
        self._keep(obs=self.obs, resets=self.resets, actions=actions, values=values)
        self._keep(log_probs=self.policy.actions.log_prob(logits, actions))
        if clock:
            with clock.part("engine"):
                obs, reward, terminated, truncated = self.env.step(actions)
        else:
            obs, reward, terminated, truncated = self.env.launch(actions)
        for name, leaf in self.state.items():
            leaf.copy_(state[name])
        if self.late:
            self.late.record(self.env.final_obs, self.state, truncated, self.t)
        torch.logical_or(terminated, truncated, out=self.resets)
        self._keep(rewards=reward, dones=self.resets)
        if obs is not self.obs:
            self.obs.copy_(obs)
        self.t += 1
        torch.clear_autocast_cache()

    def _keep(self, **columns: Tensor) -> None:
        for name, column in columns.items():
            room = getattr(self.out, name)
            room.index_copy_(1, self.t, column.to(room.dtype)[:, None])


class Truncations:
    """The true last observations of truncated episodes and what was remembered then, evaluated after the rollout.

    A step adds its truncated rows behind those of the steps before, by a count that stays on the device; all other rows
    go to one row that nobody reads.
    """

    def __init__(self, obs: Tensor, state: State, num_rows: int) -> None:
        def room(like: Tensor) -> Tensor:
            return torch.zeros(num_rows + 1, *like.shape[1:], dtype=like.dtype, device=like.device)

        self.num_rows = num_rows
        self.obs = room(obs)
        self.state = {name: room(leaf) for name, leaf in state.items()}
        self.owner = torch.zeros(num_rows + 1, 2, dtype=torch.int64, device=obs.device)
        """Agent and step of each row."""
        self.count = torch.zeros((), dtype=torch.int64, device=obs.device)
        self._agents = torch.arange(len(obs), device=obs.device)

    @classmethod
    def room(cls, env: VecEnv, actor: Actor, horizon: int) -> "Truncations | None":
        """Room for all that can be truncated in a rollout; None where nothing ever is."""
        if env.shortest_truncation is None:
            return None
        each = 1 + (horizon - 1) // env.shortest_truncation
        return cls(actor.obs, actor.state, env.num_agents * each)

    def record(self, last_obs: Tensor, state: State, truncated: Tensor, t: Tensor) -> None:
        """Keep the rows of `truncated` `[N]`; last_obs and state are those of all agents after step `t` `[1]`."""
        place = torch.where(truncated, self.count + truncated.cumsum(0) - 1, self.num_rows)
        self.obs.index_copy_(0, place, last_obs)
        for name, leaf in state.items():
            self.state[name].index_copy_(0, place, leaf)
        self.owner.index_copy_(0, place, torch.stack([self._agents, t.expand_as(self._agents)], dim=1))
        self.count += truncated.sum()

    def bootstrap(self, policy: Policy, rewards: Tensor, gamma: float) -> None:
        """Add gamma times the value of the kept observations to rewards `[N, T]`, and forget them.

        This asks the device for their number, once a rollout.
        """
        count, size = int(self.count), len(self._agents)
        for begin in range(0, count, size):
            rows = slice(begin, min(begin + size, count))
            memory = {name: leaf[rows] for name, leaf in self.state.items()}
            resets = torch.zeros(rows.stop - begin, dtype=torch.bool, device=rewards.device)
            _, values, _ = policy(self.obs[rows], memory, resets)
            rewards.index_put_(tuple(self.owner[rows].T), gamma * values, accumulate=True)
        self.count.zero_()
