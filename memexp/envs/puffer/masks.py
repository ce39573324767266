"""Action masks: which discrete actions an environment allows now.

An environment tells them in `info["action_mask"]`, or as the part "action_mask" of a Dict observation. A mask in `info`
becomes a part of the observation, so that acting and learning see the same one.
"""

import math
from collections import defaultdict
from collections.abc import Container, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper

from memexp.config import UsageError
from memexp.envs.config import ThirdParty
from memexp.envs.puffer.api_checks import PARALLEL_STEP, STEP, ApiError, unpacked
from memexp.envs.puffer.spaces import action_space, observation_space
from memexp.spaces import Part, StructSpace

MASK, REST = "action_mask", "observation"
"""Names of the mask, and of an observation without parts beside it."""


def number_of_bits(actions: spaces.Space, name: str) -> int:
    """Numbers of a mask. Raises UsageError, which starts with `name`, for actions that cannot be counted."""
    if isinstance(actions, spaces.Discrete):
        return int(actions.n)
    if isinstance(actions, spaces.MultiDiscrete):
        return int(actions.nvec.sum())
    raise UsageError(f"{name}: there is an action_mask, but actions are {actions}; only discrete actions can be masked "
                     "(env.action_mask=off makes it a part of the observation like others)")  # fmt: skip


def is_masked(config: ThirdParty, observation: spaces.Space) -> bool:
    """Whether a part of these observations is a mask."""
    return config.action_mask == "auto" and isinstance(observation, spaces.Dict) and MASK in observation.spaces


def mask_of(config: ThirdParty, observation: spaces.Space, actions: spaces.Space) -> Part | None:
    """The mask in encoded observations. Raises UsageError for spaces that cannot be used."""
    name, mask = config.id, MASK if is_masked(config, observation) else None
    encoded = observation_space(observation, name, defaultdict(lambda: "numbers"), mask)  # any word: only for errors
    action_space(actions, name)
    part = encoded.mask if isinstance(encoded, StructSpace) else None
    if part and (asked := number_of_bits(actions, name)) != math.prod(part.shape):
        raise UsageError(f"{name}: action_mask has {math.prod(part.shape)} numbers for {asked} actions")
    return part


def with_mask(env: Any, config: ThirdParty, parallel: bool) -> Any:
    """The environment; if its infos tell masks, with the mask as a part of its observations."""
    if config.action_mask == "off" or not _tells(repr(config), env, parallel):
        return env
    agent = (env.possible_agents[0],) if parallel else ()
    observation = env.observation_space(*agent) if parallel else env.observation_space
    if is_masked(config, observation):
        return env
    join = Join(observation, env.action_space(*agent) if parallel else env.action_space, config.id)
    return MaskedParallelEnv(env, join) if parallel else MaskedEnv(env, join)


_TELLS: dict[str, bool] = {}  # config -> its infos tell masks; an environment is reset to find out once in a process


def _tells(config: str, env: Any, parallel: bool) -> bool:
    if config not in _TELLS:
        try:
            _, info = env.reset(seed=0)
            _TELLS[config] = any(MASK in one for one in (info.values() if parallel else [info]))
        except (Exception, SystemExit):  # training says what is wrong
            return False
    return _TELLS[config]


class Join:
    """Adds the mask of an info to an observation."""

    def __init__(self, observation: spaces.Space, actions: spaces.Space, name: str):
        self.given, self.bits = observation, number_of_bits(actions, name)
        parts = observation.spaces if isinstance(observation, spaces.Dict) else {REST: observation}
        self.space = spaces.Dict({**parts, MASK: spaces.MultiBinary(self.bits)})

    def __call__(self, obs: Any, info: Any, is_last: bool, where: str) -> dict[str, Any]:
        """Raises ApiError if the info has no mask; nobody acts on the last observation of an episode."""
        mask = info.get(MASK) if isinstance(info, dict) else None
        if mask is None:
            if not is_last:
                raise ApiError(f"{where} no action_mask in info, as the first reset() did")
            mask = np.zeros(self.bits, np.int8)
        flat = np.concatenate([*map(np.ravel, mask)]) if isinstance(mask, tuple | list) and np.ndim(mask[0]) else mask
        return {**(obs if isinstance(self.given, spaces.Dict) else {REST: obs}), MASK: np.asarray(flat)}


class MaskedEnv(gymnasium.Wrapper):
    """A Gymnasium environment whose mask is a part of its observations."""

    def __init__(self, env: gymnasium.Env, join: Join):
        super().__init__(env)
        self.join, self.observation_space = join, join.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = unpacked(self.env.reset(seed=seed), "reset()", "observation, info")
        return self.join(obs, info, False, "reset() returned"), info

    def step(self, action: Any) -> Any:
        obs, reward, *over, info = unpacked(self.env.step(action), "step()", STEP)
        return self.join(obs, info, any(map(np.any, over)), "step() returned"), reward, *over, info


class MaskedParallelEnv:
    """A PettingZoo parallel environment whose masks are a part of its observations."""

    def __init__(self, env: Any, join: Join):
        self.env, self.join = env, join

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def observation_space(self, agent: Any) -> spaces.Space:
        return self.join.space

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        obs, infos = unpacked(self.env.reset(seed=seed), "reset()", "observations, infos")
        return self._joined(obs, infos, {}, "reset()"), infos

    def step(self, actions: dict[Any, Any]) -> Any:
        obs, rewards, terminated, truncated, infos = unpacked(self.env.step(actions), "step()", PARALLEL_STEP)
        over = {agent for ended in (terminated, truncated) for agent in ended if ended[agent]}
        return self._joined(obs, infos, over, "step()"), rewards, terminated, truncated, infos

    def _joined(self, obs: Any, infos: Any, over: Container[Any], where: str) -> Any:
        if not isinstance(obs, dict):
            return obs  # the check of the interface says what is wrong
        infos = infos if isinstance(infos, dict) else {}
        return {
            agent: self.join(one, infos.get(agent), agent in over, f"{where} returned for {agent}")
            for agent, one in obs.items()
        }


class MaskedBatch(VectorWrapper):
    """A vector environment whose masks are a part of its observations."""

    def __init__(self, env: VectorEnv, join: Join):
        super().__init__(env)
        self.join, self.single_observation_space = join, join.space

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        obs, infos = unpacked(self.env.reset(seed=seed, options=options), "reset()", "observations, infos")
        return self._joined(obs, infos), infos

    def step(self, actions: Any) -> Any:
        obs, rewards, *over, infos = unpacked(self.env.step(actions), "step()", STEP)
        if "final_obs" in infos:
            infos = {**infos, "final_obs": self._joined(infos["final_obs"], {})}
        return self._joined(obs, infos), rewards, *over, infos

    def _joined(self, obs: Any, infos: Any) -> dict[str, Any]:
        """Masks that infos do not tell are 0: those of the last observations, on which nobody acts."""
        masks = infos.get(MASK, np.zeros((self.num_envs, self.join.bits), np.int8))
        return {**(obs if isinstance(self.join.given, spaces.Dict) else {REST: obs}), MASK: np.asarray(masks)}


def with_masks(env: VectorEnv, config: ThirdParty) -> VectorEnv:
    """The vector environment; if its infos tell masks, with the masks as a part of its observations."""
    given = getattr(env, "single_observation_space", None)
    if config.action_mask == "off" or given is None or is_masked(config, given) or not _tells(repr(config), env, False):
        return env
    return MaskedBatch(env, Join(given, env.single_action_space, config.id))


def mask_in(obs: Any) -> np.ndarray | None:
    """The mask that an observation holds."""
    return np.asarray(obs[MASK]) if isinstance(obs, Mapping) and MASK in obs else None


def sample(space: spaces.Space, mask: np.ndarray | None) -> Any:
    """A random action, of those that the mask allows."""
    if mask is None or not mask.any():
        return space.sample()
    bits = (mask != 0).astype(np.int8)
    if isinstance(space, spaces.MultiDiscrete):
        return space.sample(mask=tuple(np.split(bits, np.cumsum(space.nvec)[:-1])))
    return space.sample(mask=bits)
