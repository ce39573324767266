"""`make_player`: scripted players of the grid games, whose returns are levels to measure agents by."""

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
from memexp.envs.scripted.belief_map import Mind, empty_mind
from memexp.spaces import ActionSpace

PLAYERS = ("random", *SCRIPTED)
"""random: uniformly random actions; memoryless: the best known choice from the current observation alone; memory: from
all observations of this agent; full: from the whole state of the world, for all its agents together."""


_MEMORYLESS_SIDE = 16
"""A map that holds one window."""


class Player(Protocol):
    """Chooses actions for every agent of an environment."""

    def act(self, obs: Tensor, resets: Tensor) -> Tensor:
        """Observations `[N, 200, 3]` uint8 and `[N]` bool, True where an observation is the first of an episode ->
        actions `[N]` int64, in memory that the next call overwrites."""
        ...


class RandomPlayer:
    """Uniformly random actions."""

    def __init__(self, space: ActionSpace, seed: int) -> None:
        self._space = space
        self._generator = torch.Generator().manual_seed(seed)

    def act(self, obs: Tensor, resets: Tensor) -> Tensor:
        return random_actions(self._space, len(resets), self._generator)


class ScriptedPlayer:
    """A compiled entry point with the minds of N players."""

    def __init__(self, decide: Callable[..., None], mind: Mind, seed: int, state: State | None = None) -> None:
        """`decide(mind, [state,] obs, resets, seed, step, actions)` fills in actions."""
        self.mind = mind
        self._decide, self._seed, self._step = decide, np.int64(seed), 0
        self._knowledge = (mind,) if state is None else (mind, state)
        self._actions = np.zeros(len(mind.me), np.int64)

    def act(self, obs: Tensor, resets: Tensor) -> Tensor:
        seen = obs.cpu().numpy(), resets.cpu().numpy()
        self._decide(*self._knowledge, *seen, self._seed, np.int64(self._step), self._actions)
        self._step += 1
        return torch.from_numpy(self._actions)


def make_player(env: VecEnv, kind: str, seed: int = 0) -> Player:
    """The player of this kind for the environment; its random numbers are functions of the seed.

    Raises UsageError for an unknown kind and for an environment that has no scripted players.
    """
    if kind not in PLAYERS:
        raise UsageError(f"unknown player '{kind}'{did_you_mean(kind, PLAYERS)}")
    stream = mix64(seed) >> 2
    if kind == "random":
        return RandomPlayer(env.actions, stream)
    if not isinstance(env, GridEnv):
        raise UsageError(f"player '{kind}': there are scripted players for assembly_lines and cvc_random_maps only")
    if isinstance(env, AssemblyLinesEnv):
        entries = (assembly.act_without_memory, assembly.act_with_memory, assembly.act_with_full_sight)
    else:
        entries = (cvc_blind.act_without_memory, cvc.act_with_memory, cvc.act_with_full_sight)
    decide = entries[PLAYERS.index(kind) - 1]
    if kind == "memoryless":
        return ScriptedPlayer(decide, empty_mind(env.num_agents, env.num_agents, _MEMORYLESS_SIDE), stream)
    state = env.state
    stride = int(state.window[4, 0])
    side = power_of_two(max(stride, state.grid.shape[1] // stride))
    if kind == "memory":
        return ScriptedPlayer(decide, empty_mind(env.num_agents, env.num_agents, side), stream)
    return ScriptedPlayer(decide, empty_mind(env.num_agents, env.num_envs, side), stream, state)


def power_of_two(least: int) -> int:
    """The smallest power of two that is at least `least`."""
    return 1 << (least - 1).bit_length()
