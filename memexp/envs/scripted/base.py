"""`make_scripted_policy`: scripted policies, whose returns are reference levels for trained agents."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from memexp.config import UsageError, did_you_mean
from memexp.envs.assembly_lines import AssemblyLinesEnv
from memexp.envs.base import VecEnv, mix64, random_actions
from memexp.envs.config import SCRIPTED
from memexp.envs.grid.state import State
from memexp.envs.grid.vec_env import GridEnv
from memexp.envs.scripted import assembly, cvc, cvc_blind
from memexp.envs.scripted.belief_map import BeliefMap, empty_belief_map

POLICY_KINDS = ("random", *SCRIPTED)
"""random: uniformly random actions. memoryless: decides from the current observation alone. memory: from all
observations of the agent. full: from the whole state of the environment, for all its agents together."""
_MEMORYLESS_SIDE = 16
"""Side of a map for one window."""


class ScriptedPolicy(Protocol):
    """Chooses the actions of all agents."""

    def act(self, obs: Tensor, resets: Tensor) -> Tensor:
        """Observations `[N, 200, 3]` uint8 and resets `[N]` bool (True at the first observation of an episode) ->
        actions `[N]` int64. The next call overwrites them."""
        ...


class RandomPolicy:
    def __init__(self, env: VecEnv, seed: int) -> None:
        self._env = env
        self._generator = torch.Generator().manual_seed(seed)

    def act(self, obs: Tensor, resets: Tensor) -> Tensor:
        return random_actions(self._env, obs, self._generator)


class CompiledPolicy:
    """A compiled entry point with the belief maps of N agents."""

    def __init__(self, decide: Callable[..., None], belief: BeliefMap, seed: int, state: State | None = None) -> None:
        """`decide(belief, [state,] obs, resets, seed, step, actions)` writes `actions`."""
        self.belief = belief
        self._decide, self._seed, self._step = decide, np.int64(seed), 0
        self._knowledge = (belief,) if state is None else (belief, state)
        self._actions = np.zeros(len(belief.me), np.int64)

    def act(self, obs: Tensor, resets: Tensor) -> Tensor:
        seen = obs.cpu().numpy(), resets.cpu().numpy()
        self._decide(*self._knowledge, *seen, self._seed, np.int64(self._step), self._actions)
        self._step += 1
        return torch.from_numpy(self._actions)


def make_scripted_policy(env: VecEnv, kind: str, seed: int = 0) -> ScriptedPolicy:
    """The policy of this kind for the environment. Its random numbers depend on the seed alone.

    Raises UsageError for an unknown kind, and for an environment without scripted policies.
    """
    if kind not in POLICY_KINDS:
        raise UsageError(f"unknown player '{kind}'{did_you_mean(kind, POLICY_KINDS)}")
    stream = mix64(seed) >> 2
    if kind == "random":
        return RandomPolicy(env, stream)
    if not isinstance(env, GridEnv):
        raise UsageError(f"'{kind}': only assembly_lines and cvc_random_maps have scripted policies")
    if isinstance(env, AssemblyLinesEnv):
        entries = (assembly.act_without_memory, assembly.act_with_memory, assembly.act_with_full_sight)
    else:
        entries = (cvc_blind.act_without_memory, cvc.act_with_memory, cvc.act_with_full_sight)
    decide = entries[POLICY_KINDS.index(kind) - 1]
    if kind == "memoryless":
        return CompiledPolicy(decide, empty_belief_map(env.num_agents, env.num_agents, _MEMORYLESS_SIDE), stream)
    state = env.state
    stride = int(state.window[4, 0])
    side = 1 << (max(stride, state.grid.shape[1] // stride) - 1).bit_length()  # the next power of two
    if kind == "memory":
        return CompiledPolicy(decide, empty_belief_map(env.num_agents, env.num_agents, side), stream)
    return CompiledPolicy(decide, empty_belief_map(env.num_agents, env.num_envs, side), stream, state)
