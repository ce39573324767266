"""gymnax's environments, which JAX steps. An adapter for another JAX library looks the same.

JAX keeps states and observations on its device. memexp reads them there, through DLPack.
"""

# pyright: reportMissingImports=false

import os
from dataclasses import fields, replace
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the policy needs memory of the GPU, too

import gymnax
import jax
import jax.numpy as jnp
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnax.environments.spaces import gymnax_space_to_gym_space


def make(id: str, num_envs: int, **options: Any) -> "Gymnax":
    """`options` are parameters, such as max_steps_in_episode, or arguments of `gymnax.make`."""
    known = {field.name for field in fields(gymnax.make(id)[1])}
    env, params = gymnax.make(id, **{name: value for name, value in options.items() if name not in known})
    chosen = {name: value for name, value in options.items() if name in known}
    return Gymnax(env, replace(params, **chosen), num_envs)


class Gymnax(VectorEnv):
    """`num_envs` environments in one state. memexp resets those whose episodes have ended."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(self, env: Any, params: Any, num_envs: int) -> None:
        self.env, self.num_envs = env, num_envs
        self.single_observation_space = gymnax_space_to_gym_space(env.observation_space(params))
        self.single_action_space = gymnax_space_to_gym_space(env.action_space(params))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        def begin(key: Any) -> Any:
            key, *keys = jax.random.split(key, num_envs + 1)
            return key, jax.vmap(env.reset_env, (0, None))(jnp.stack(keys), params)

        def begin_some(key: Any, running: Any, mask: Any) -> Any:
            key, new = begin(key)
            return key, jax.tree.map(lambda fresh, old: jax.vmap(jnp.where)(mask, fresh, old), new, running)

        def step(key: Any, state: Any, actions: Any) -> Any:
            key, *keys = jax.random.split(key, num_envs + 1)
            made = jax.vmap(env.step_env, (0, 0, 0, None))(jnp.stack(keys), state, actions, params)
            obs, state, reward, done, info = made
            late = state.time >= params.max_steps_in_episode
            both = not hasattr(env, "is_truncated")  # before gymnax 1.0
            terminated = done & ~late if both else done
            return key, (obs, state), reward, terminated, late, info

        self._begin, self._begin_some, self._step = jax.jit(begin), jax.jit(begin_some), jax.jit(step)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self._key = jax.random.key(seed)
        if options and "reset_mask" in options:
            self._key, self._running = self._begin_some(self._key, self._running, options["reset_mask"])
        else:
            self._key, self._running = self._begin(self._key)
        return self._running[0], {}

    def step(self, actions: Any) -> Any:
        self._key, self._running, *rest, info = self._step(self._key, self._running[1], actions)
        info.pop("discount", None)  # the flags say the same
        return self._running[0], *rest, info
