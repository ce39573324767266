"""Worlds: one VecEnv interface, batched, tensors in and out. `make` builds one by name.

Importing this package loads neither torch nor numba; building a world does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from memexp.config import Config, UsageError, did_you_mean
from memexp.envs.config import ENVIRONMENTS, KINDS

if TYPE_CHECKING:
    import gymnasium
    import pettingzoo

    from memexp.envs.base import TaskSource as TaskSource
    from memexp.envs.base import VecEnv as VecEnv
    from memexp.envs.export.puffer import PufferWorlds

BUILDERS = {
    "tmaze": "memexp.envs.controls:TMazeEnv",
    "tmaze_cue": "memexp.envs.controls:TMazeEnv",
    "chain_recall": "memexp.envs.controls:ChainRecallEnv",
    "assembly_lines": "memexp.envs.assembly_lines:AssemblyLinesEnv",
    "cvc_random_maps": "memexp.envs.cvc_random_maps:CvcRandomMapsEnv",
    "any": "memexp.envs.puffer.env:ThirdPartyEnv",
}
"""Environment name -> 'module:class'; the class takes (config, num_envs, device, seed, first_world, tasks)."""


def make(
    name: str,
    num_envs: int,
    device: str = "cpu",
    seed: int = 0,
    *,
    first_world: int = 0,
    tasks: "TaskSource | None" = None,
    **knobs: Any,
) -> "VecEnv":
    """`num_envs` worlds of environment `name`, e.g. `make("tmaze", 64, length=8)` or `make("gym:CartPole-v1", 8)`.

    `first_world` is the global number of the first world (rank * num_envs under DDP): a world's random stream
    depends on (seed, global number) alone. `tasks` says which task each episode plays (None: uniformly random ones).
    Raises UsageError for an unknown name or knob.
    """
    if name.partition(":")[0] in KINDS:
        name, knobs = "any", {"id": name, **knobs}
    if name not in ENVIRONMENTS:
        raise UsageError(f"unknown environment '{name}'{did_you_mean(name, ENVIRONMENTS)}")
    return build(ENVIRONMENTS[name].parse({"name": name, **knobs}, name), num_envs, device, seed, first_world, tasks)


def build(
    config: Config,
    num_envs: int,
    device: str = "cpu",
    seed: int = 0,
    first_world: int = 0,
    tasks: "TaskSource | None" = None,
) -> "VecEnv":
    """The worlds that an environment config describes; see `make`."""
    name: str = config.name  # type: ignore[attr-defined]
    module, _, cls = BUILDERS[name].partition(":")
    return getattr(import_module(module), cls)(config, num_envs, device, seed, first_world, tasks)


def make_puffer(
    name: str, num_envs: int = 1, seed: int = 0, buf: dict[str, Any] | None = None, **knobs: Any
) -> "PufferWorlds":
    """`num_envs` worlds as a native PufferEnv, for PufferLib's vectorisation and trainer.

    `buf` is what PufferLib gives to a creator: `pufferlib.vector.make(make_puffer, env_args=["tmaze", 64])`.
    """
    from memexp.envs.export.puffer import PufferWorlds

    return PufferWorlds(name, num_envs, seed, buf, knobs)


def make_gymnasium(name: str, num_envs: int = 1, seed: int = 0, **knobs: Any) -> "gymnasium.vector.VectorEnv":
    """`num_envs` worlds of one agent as a Gymnasium vector environment with same-step autoreset."""
    from memexp.envs.export.gymnasium import GymnasiumWorlds

    return GymnasiumWorlds(name, num_envs, seed, knobs)


def make_gymnasium_env(name: str, seed: int = 0, **knobs: Any) -> "gymnasium.Env":
    """One world of one agent as an ordinary Gymnasium environment."""
    from memexp.envs.export.gymnasium import GymnasiumWorld

    return GymnasiumWorld(name, seed, knobs)


def make_pettingzoo(name: str, seed: int = 0, **knobs: Any) -> "pettingzoo.ParallelEnv":
    """One world as a PettingZoo parallel environment of its agents; needs the extra `suites`."""
    from memexp.envs.export.pettingzoo import ParallelWorld

    return ParallelWorld(name, seed, knobs)
