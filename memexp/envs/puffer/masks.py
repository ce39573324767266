"""Action masks: which discrete actions an environment allows now.

An environment tells them in `info["action_mask"]`, or as the part "action_mask" of a Dict observation. A mask in `info`
becomes a part of the observation, so that acting and learning see the same one.
"""

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper

from memexp.config import UsageError
from memexp.envs.config import ThirdParty
from memexp.envs.puffer.api_checks import PARALLEL_STEP, STEP, ApiError, unpacked
from memexp.envs.puffer.spaces import action_space, leaves, observation_space, short
from memexp.spaces import Part, StructSpace

MASK, REST = "action_mask", "observation"
"""Names of the mask, and of an observation without parts beside it."""


def counts_of(actions: spaces.Space, name: str) -> tuple[int, ...]:
    """The number of actions of each choice. Raises UsageError, which starts with `name`, if they cannot be counted."""
    if isinstance(actions, spaces.Discrete):
        return (int(actions.n),)
    if isinstance(actions, spaces.MultiDiscrete):
        return tuple(int(n) for n in actions.nvec.ravel())
    raise UsageError(f"{name}: there is an action_mask, but actions are {actions}; only discrete actions can be masked "
                     "(env.action_mask=off makes it a part of the observation like others)")  # fmt: skip


def is_masked(config: ThirdParty, observation: spaces.Space) -> bool:
    """Whether a part of these observations is a mask."""
    return config.action_mask == "auto" and isinstance(observation, spaces.Dict) and MASK in observation.spaces


@dataclass(frozen=True)
class ActionMask:
    """Where an encoded observation holds the mask, and the number of actions of each choice."""

    part: Part
    counts: tuple[int, ...]

    def read(self, obs: np.ndarray) -> np.ndarray:
        """Whether each action is allowed, bool `[..., A]`, from bytes `[..., num_bytes]`."""
        dtype, offset = np.dtype(self.part.dtype), self.part.offset
        own = obs[..., offset : offset + dtype.itemsize * math.prod(self.part.shape)]
        return np.ascontiguousarray(own).view(dtype) != 0

    @cached_property
    def _starts(self) -> np.ndarray:
        """Index of each choice's first action."""
        return np.cumsum((0, *self.counts[:-1]))

    def refuse_empty(self, obs: np.ndarray, where: str, in_turns: bool = False) -> None:
        """Raise ApiError if a choice has no allowed action in one of the observations `[N, num_bytes]`.

        in_turns: a mask without any allowed action is that of an agent whose turn it is not.
        """
        allowed = self.read(obs)
        empty = ~np.logical_or.reduceat(allowed, self._starts, axis=1)
        if in_turns:
            empty &= allowed.any(1, keepdims=True)
        if empty.any():
            several = len(self.counts) > 1
            which = f" of choice {empty.any(0).argmax() + 1} of {len(self.counts)}" if several else ""
            raise EmptyMaskError(
                f"{where} returned no action_mask that allows an action{which}", int(empty.any(1).argmax())
            )


class EmptyMaskError(ApiError):
    """Nothing is allowed in observation `row`."""

    def __init__(self, text: str, row: int):
        super().__init__(text)
        self.row = row


def mask_of(config: ThirdParty, observation: spaces.Space, actions: spaces.Space) -> ActionMask | None:
    """The mask in encoded observations. Raises UsageError for spaces that cannot be used."""
    name, mask = config.id, MASK if is_masked(config, observation) else None
    encoded = observation_space(observation, name, defaultdict(lambda: "numbers"), mask)  # any word: only for errors
    action_space(actions, name)
    part = encoded.mask if isinstance(encoded, StructSpace) else None
    return ActionMask(part, counts_of(actions, name)) if part else None


def with_mask(env: Any, config: ThirdParty, parallel: bool) -> Any:
    """The environment, whose observations have a part for the mask if it tells masks."""
    agent = (env.possible_agents[0],) if parallel else ()
    observation = env.observation_space(*agent) if parallel else env.observation_space
    actions = env.action_space(*agent) if parallel else env.action_space
    join = _join(config, observation, actions, env, parallel)
    if join is None:
        return env
    return MaskedParallelEnv(env, join) if parallel else MaskedEnv(env, join)


def with_masks(env: VectorEnv, config: ThirdParty) -> VectorEnv:
    """The vector environment, whose observations have a part for the masks if it tells masks."""
    given = getattr(env, "single_observation_space", None)
    join = given and _join(config, given, env.single_action_space, env, False)
    return MaskedBatch(env, join) if join else env


def _join(config: ThirdParty, observation: Any, actions: Any, env: Any, parallel: bool) -> "Join | None":
    """What makes the mask a part of 0 and 1; None: there is no mask, or it is one."""
    if is_masked(config, observation):
        part, count = observation[MASK], sum(counts_of(actions, config.id))
        if not isinstance(part, spaces.MultiBinary | spaces.Tuple | spaces.Box | spaces.MultiDiscrete):
            raise UsageError(f"{config.id}: action_mask is {part}; only MultiBinary, Box, MultiDiscrete and a Tuple of "
                             "them are masks (env.action_mask=off makes it an ordinary part)")  # fmt: skip
        if count != (size := sum(math.prod(one.shape or ()) for _, one in leaves(part))):
            raise UsageError(f"{config.id}: action_mask has {size} numbers for {count} actions")
        return None if isinstance(part, spaces.MultiBinary) else Join(observation, actions, config.id)
    if config.action_mask == "off" or not _tells(repr(config), env, parallel):
        return None
    return Join(observation, actions, config.id)


_TELLS: dict[str, bool] = {}  # config -> its infos tell masks; an environment is reset to find out once in a process


def _tells(config: str, env: Any, parallel: bool) -> bool:
    if config not in _TELLS:
        try:
            _, info = env.reset(seed=0)
            _TELLS[config] = any(MASK in one for one in (info.values() if parallel else [info]))
        except (Exception, SystemExit):  # training says what is wrong
            return False
    return _TELLS[config]


def refuse_late(config: ThirdParty, infos: Iterable[Any], where: str) -> None:
    """Raise ApiError if an info tells a mask although those of the first reset() did not."""
    if config.action_mask == "auto" and any(isinstance(info, Mapping) and MASK in info for info in infos):
        raise ApiError(f"{where} returned an action_mask in info, but the first reset() did not: return one there, "
                       "too, or ignore it with env.action_mask=off")  # fmt: skip


class Join:
    """Makes the mask of an info, or of a part that is no MultiBinary, a part of 0 and 1 of the observation."""

    def __init__(self, observation: spaces.Space, actions: spaces.Space, name: str):
        self.given, self.counts = observation, counts_of(actions, name)
        self.bits = sum(self.counts)
        self.in_info = not (isinstance(observation, spaces.Dict) and MASK in observation.spaces)
        self.space = self.space_of(observation)

    def space_of(self, observation: spaces.Space) -> spaces.Dict:
        parts = observation.spaces if isinstance(observation, spaces.Dict) else {REST: observation}
        return spaces.Dict({**parts, MASK: spaces.MultiBinary(self.bits)})

    def __call__(self, obs: Any, info: Any, is_last: bool, where: str) -> Any:
        """Raises ApiError for a missing or wrong mask; nobody acts on the last observation of an episode."""
        if not self.in_info:
            if not (isinstance(obs, Mapping) and MASK in obs):
                return obs  # the check of the observation says what is wrong
            return self.joined(obs, self.flat(obs[MASK], f"{where} the action_mask"))
        mask = info.get(MASK) if isinstance(info, Mapping) else None
        if mask is None and not is_last:
            raise ApiError(f"{where} no action_mask in info, as the first reset() did")
        flat = np.zeros(self.bits, np.int8) if mask is None else self.flat(mask, f"{where} in info the action_mask")
        return self.joined(obs, flat)

    def of_each(self, masks: Any, n: int, what: str) -> np.ndarray | list[Any]:
        """The mask of each of `n` environments: of an array or a list, or of a tuple of the choices' arrays `[n, ...]`.

        Raises ApiError for another shape.
        """
        if isinstance(masks, tuple):
            with suppress(TypeError, ValueError):
                choices = [np.asarray(one).reshape(n, -1) for one in masks if len(one) == n]
                if tuple(one.shape[1] for one in choices) == self.counts:
                    return np.concatenate(choices, 1)
            sizes = ", ".join(f"[{n}, {count}]" for count in self.counts)
            raise ApiError(f"{what} {short(masks)}; a tuple holds an array for each choice: {sizes}")
        given = masks if isinstance(masks, list) else np.asarray(masks)
        if np.shape(given)[:1] != (n,) if isinstance(given, np.ndarray) else len(given) != n:
            raise ApiError(f"{what} {short(masks)}, not one for each of {n} envs")
        return given

    def joined(self, obs: Any, mask: np.ndarray) -> dict[str, Any]:
        return {**(obs if isinstance(self.given, spaces.Dict) else {REST: obs}), MASK: mask}

    def flat(self, mask: Any, what: str) -> np.ndarray:
        """The mask, whose choices may be apart, as one row of 0 and 1. Raises ApiError."""
        try:
            apart = isinstance(mask, tuple | list) and len(mask) and np.ndim(mask[0]) > 0
            choices = [*map(np.ravel, mask)] if apart else [np.ravel(mask)]
            right = not apart or tuple(map(len, choices)) == self.counts
            bits = np.concatenate(choices)
        except (TypeError, ValueError):  # of ragged lists
            right, bits = False, np.zeros(0)
        if not (right and bits.size == self.bits and is_binary(bits)):
            sizes = " + ".join(map(str, self.counts))
            raise ApiError(f"{what} {short(mask)}, which is not {sizes} numbers, 1 for each allowed action and else 0")
        return bits.astype(np.int8)


def is_binary(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuf" and bool(((array == 0) | (array == 1)).all())


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
        return self.join.space_of(self.env.observation_space(agent))

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
        self._masks = np.zeros((self.num_envs, join.bits), np.int8)  # the latest

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        begun = options.get("reset_mask") if options else None  # Gymnasium takes it out
        obs, infos = unpacked(self.env.reset(seed=seed, options=options), "reset()", "observations, infos")
        before, joined = self._masks, self._joined(obs, infos, "reset()")
        if begun is not None and self.join.in_info:  # infos tell the masks of these environments alone
            joined[MASK] = self._masks = np.where(begun[:, None], self._masks, before)
        return joined, infos

    def step(self, actions: Any) -> Any:
        obs, rewards, *over, infos = unpacked(self.env.step(actions), "step()", STEP)
        if "final_obs" in infos:
            infos = {**infos, "final_obs": self._joined_last(infos["final_obs"])}
        return self._joined(obs, infos, "step()"), rewards, *over, infos

    def _joined(self, obs: Any, infos: Any, where: str) -> Any:
        """Masks that infos do not tell are 0: those of the last observations, on which nobody acts."""
        in_info = self.join.in_info
        if not in_info and not (isinstance(obs, Mapping) and MASK in obs):
            return obs  # the check of the observation says what is wrong
        masks, told = (infos.get(MASK), infos.get(f"_{MASK}")) if in_info else (obs[MASK], None)
        self._masks = self._rows(masks, told, f"{where} returned")
        return self.join.joined(obs, self._masks)

    def _rows(self, masks: Any, told: Any, where: str) -> np.ndarray:
        """Masks of all environments, int8 `[N, A]`, of one array, of a tuple of arrays, or of one mask for each."""
        rows = np.zeros_like(self._masks)
        if masks is None:
            return rows
        each = self.join.of_each(masks, self.num_envs, f"{where} the action_mask")
        if isinstance(each, np.ndarray) and each.size == rows.size and is_binary(each):
            return each.astype(np.int8).reshape(rows.shape)
        for row, mask in enumerate(each):
            if told is None or told[row]:
                rows[row] = self.join.flat(mask, f"{where} for env {row} the action_mask")
        return rows

    def _joined_last(self, last: Any) -> Any:
        """The last observations, all at once or one for each episode that ended; nobody reads their masks."""
        zeros = np.zeros_like(self._masks)
        if isinstance(last, np.ndarray) and last.dtype.kind == "O":
            return [one if one is None else self.join.joined(one, zeros[0]) for one in last]
        return self.join.joined(last, zeros)


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
