"""Environments behind one interface, `VecEnv`: batched, tensors in and out. `make` builds one by name.

    config.py           the table of environments and their knobs        base.py      `VecEnv`
    controls.py         T-mazes and chain recall, with known answers     episodes.py  their log of episodes
    assembly_lines.py, cvc_random_maps.py      the grid games; their tasks are in assembly_tasks.py and cvc_tasks.py
    grid/               the engine of the grid games                     scripted/    scripted policies for them
    puffer/             third-party Gymnasium and PettingZoo environments; batches of other libraries are in batches/
    wrappers.py         wrappers for those                               suites.py    fixed evaluation settings
    export/             our environments for PufferLib, Gymnasium and PettingZoo

Importing this package loads neither torch nor numba; making an environment does.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from memexp.config import Config, UsageError, did_you_mean, override
from memexp.envs.config import ENVIRONMENTS, is_third_party
from memexp.project import refuse_module

if TYPE_CHECKING:
    import gymnasium
    import pettingzoo

    from memexp.envs.base import TaskSource as TaskSource
    from memexp.envs.base import VecEnv as VecEnv
    from memexp.envs.export.puffer import NativePufferEnv

BUILDERS = {
    "tmaze": "memexp.envs.controls:TMazeEnv",
    "tmaze_cue": "memexp.envs.controls:TMazeEnv",
    "chain_recall": "memexp.envs.controls:ChainRecallEnv",
    "delayed_cue": "memexp.envs.controls:DelayedCueEnv",
    "assembly_lines": "memexp.envs.assembly_lines:AssemblyLinesEnv",
    "cvc_random_maps": "memexp.envs.cvc_random_maps:CvcRandomMapsEnv",
    "any": "memexp.envs.puffer.batched:third_party",
}
"""Environment name -> 'module:callable'. It takes (config, num_envs, device, seed, first_env, tasks)."""


def make(
    name: str, num_envs: int, device: str = "cpu", seed: int = 0, *, first_env: int = 0,
    tasks: "TaskSource | None" = None, **knobs: Any,
) -> "VecEnv":  # fmt: skip
    """`num_envs` environments called `name`, e.g. `make("tmaze", 64, length=8)` or `make("gym:CartPole-v1", 8)`.

    `first_env` is the global index of the first environment (rank * num_envs under DDP). The random numbers of an
    environment depend on (seed, global index) alone. `tasks` gives the task of each episode; None draws them uniformly.
    Raises UsageError for an unknown name or knob.
    """
    name, knobs = _by_id(name, knobs)
    return build(ENVIRONMENTS[name].parse({"name": name, **knobs}, name), num_envs, device, seed, first_env, tasks)


def typed_config(name: str, knobs: Mapping[str, str]) -> Config:
    """The config of the environment `name` (also gym:ID and the like) with the knobs as typed. Raises UsageError."""
    name, values = _by_id(name, knobs)
    return override(ENVIRONMENTS[name](), values)


def _by_id(name: str, knobs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and knobs of the table: 'gym:X' is 'any' with this id. `env` is also the id, as in the recipe of 'any'."""
    if name not in ENVIRONMENTS and is_third_party(name):
        name, knobs = "any", {"id": name, **knobs}
    if name not in ENVIRONMENTS:
        refuse_module(name, "an environment")
        raise UsageError(f"unknown environment '{name}'{did_you_mean(name, ENVIRONMENTS)}")
    return name, {"id" if (name, key) == ("any", "env") else key: value for key, value in knobs.items()}


def build(
    config: Config, num_envs: int, device: str = "cpu", seed: int = 0, first_env: int = 0,
    tasks: "TaskSource | None" = None,
) -> "VecEnv":  # fmt: skip
    """The environments that a config describes; see `make`."""
    name: str = config.name  # type: ignore[attr-defined]
    module, _, cls = BUILDERS[name].partition(":")
    return getattr(import_module(module), cls)(config, num_envs, device, seed, first_env, tasks)


def make_puffer(
    name: str, num_envs: int = 1, seed: int = 0, buf: dict[str, Any] | None = None, **knobs: Any
) -> "NativePufferEnv":
    """`num_envs` environments as one native PufferEnv, for PufferLib's vectorisation and trainer.

    PufferLib passes `buf`: `pufferlib.vector.make(make_puffer, env_args=["tmaze", 64])`. Raises UsageError if it is not
    installed.
    """
    try:
        from memexp.envs.export.puffer import NativePufferEnv
    except ModuleNotFoundError as error:
        raise UsageError(
            f"make_puffer needs '{error.name}': pip install 'memexp[puffer]', on Python below 3.13"
        ) from None

    return NativePufferEnv(name, num_envs, seed, buf, knobs)


def make_gymnasium(name: str, num_envs: int = 1, seed: int = 0, **knobs: Any) -> "gymnasium.vector.VectorEnv":
    """`num_envs` environments of one agent as a Gymnasium vector environment with same-step autoreset."""
    from memexp.envs.export.gymnasium import GymnasiumVecEnv

    return GymnasiumVecEnv(name, num_envs, seed, knobs)


def make_gymnasium_env(name: str, seed: int = 0, **knobs: Any) -> "gymnasium.Env":
    """One environment of one agent as an ordinary Gymnasium environment."""
    from memexp.envs.export.gymnasium import GymnasiumEnv

    return GymnasiumEnv(name, seed, knobs)


def make_pettingzoo(name: str, seed: int = 0, **knobs: Any) -> "pettingzoo.ParallelEnv":
    """One environment as a PettingZoo parallel environment of its agents; needs the extra `suites`."""
    from memexp.envs.export.pettingzoo import PettingZooEnv

    return PettingZooEnv(name, seed, knobs)
