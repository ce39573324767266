"""Batches of small environments, as tests need them: `module:helpers.batches:NAME`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper
from helpers import third_party
from helpers.third_party import Counting, Going


def batch(num_envs: int, of: str = "Counting", mode: str = "NextStep", how: str = "", **options: Any) -> VectorEnv:
    """A batch of environments of third_party.py. `how`: see `Odd`; "tensors": of another library."""
    env = SyncVectorEnv([partial(getattr(third_party, of), **options)] * num_envs, autoreset_mode=mode)
    return Odd(env, how) if how else env


def lengths(num_envs: int, of: Sequence[int] = (3, 5, 4), mode: str = "NextStep", cut: bool = False) -> VectorEnv:
    """A batch whose environments have episodes of different lengths."""
    return SyncVectorEnv([partial(Counting, of[i % len(of)], cut) for i in range(num_envs)], autoreset_mode=mode)


def going(num_envs: int, how: str, mode: str = "NextStep") -> VectorEnv:
    """A batch whose last environment goes wrong in its third step, as `Going` does."""
    rest = [partial(Going, "")] * (num_envs - 1)
    return SyncVectorEnv([*rest, partial(Going, how)], autoreset_mode=mode)


def odd(num_envs: int, how: str, **options: Any) -> VectorEnv:
    return Odd(lengths(num_envs, **options), how)


def no_batch(num_envs: int) -> gymnasium.Env:
    return Counting()


def wrong_size(num_envs: int) -> VectorEnv:
    return batch(num_envs + 1)


def bare(num_envs: int) -> VectorEnv:
    env = VectorEnv()
    env.num_envs, env.metadata = num_envs, {"autoreset_mode": "Disabled"}
    return env


def without_parameter() -> VectorEnv:
    return batch(2)


class Batch(SyncVectorEnv):
    """A class of batches."""

    def __init__(self, num_envs: int, length: int = 5):
        super().__init__([partial(Counting, length)] * num_envs)


class Pool(Batch):
    """Looks like an EnvPool."""

    all_env_ids = ()


class Odd(VectorWrapper):
    """Does not keep the interface of vector environments, as `how` says."""

    def __init__(self, env: VectorEnv, how: str):
        super().__init__(env)
        self.how = how
        if how in ("silent", "unknown"):
            self.metadata = {"autoreset_mode": "Sometimes"} if how == "unknown" else {}

    def reset(self, *, seed: Any = None, options: Any = None):
        if options and self.how == "resets all":
            options = None
        as_tensor = self.how == "tensors" or (self.how == "two libraries" and bool(options))
        obs, infos = self.env.reset(seed=seed, options=options)
        return (torch.from_numpy(obs) if as_tensor else obs), infos

    def step(self, actions: Any):
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        if self.how == "tensors":
            tensors = (torch.from_numpy(array) for array in (obs, rewards, terminated, truncated))
            if "final_obs" in infos:
                shown = [np.zeros(3, np.float32) if one is None else one for one in infos["final_obs"]]
                infos["final_obs"] = torch.from_numpy(np.stack(shown))
            return *tensors, infos
        changed = {
            "few rewards": (obs, rewards[:1], terminated, truncated, infos),
            "words": (obs, rewards, np.array(["no"] * self.num_envs), truncated, infos),
            "old step": (obs, rewards, terminated, infos),
            "few obs": (obs[:1], rewards, terminated, truncated, infos),
            "wide obs": (np.zeros((self.num_envs, 7), np.float32), rewards, terminated, truncated, infos),
            "no obs": (None, rewards, terminated, truncated, infos),
            "ragged": (
                obs,
                rewards,
                terminated,
                truncated,
                {**infos, "events": [[1], *[[1, 2]] * (self.num_envs - 1)]},
            ),
            "no flags": (obs, rewards, np.full(self.num_envs, np.nan), truncated, infos),
            "few last": (obs, rewards, terminated, truncated, {**infos, "final_obs": infos.get("final_obs", ())[:1]}),
            "flat last": (obs, rewards, terminated, truncated, {**infos, "final_obs": np.zeros((3, 1), object)}),
            "forgets": (obs, rewards, terminated, truncated, {}),
        }
        return changed.get(self.how, (obs, rewards, terminated, truncated, infos))
