"""A run directory is data, whoever wrote it: what its config names is imported only if it is known on this machine."""

import inspect
import re
from functools import cache
from importlib.metadata import distribution, packages_distributions

import gymnasium
from torch import nn

from memexp.config import UsageError
from memexp.credentials import MASK
from memexp.envs.config import ThirdParty
from memexp.modules import home_of
from memexp.pattern import cell_modules
from memexp.ppo.config import TrainConfig
from memexp.project import entries, import_named, is_in_project, is_installed, place_of
from memexp.runs import home

OWN = ("memexp", "pufferlib")
"""Packages of which a run may name nothing but OWN_WRAPPERS: their functions write files and start programs."""
OWN_WRAPPERS = "memexp.envs.wrappers"


def check_received(run: str, config: TrainConfig, trust: bool = False) -> None:
    """Raises UsageError unless what the config.yaml of `run` names can be made, and is known here or trusted.

    Known are environment, wrapper and cell classes of installed packages, `parallel_env` of packages that need
    PettingZoo, entry points, and files of this project. Other functions of such packages may import what their
    arguments name.
    """
    _check(run, "a cell", cell_modules(config.cortex.pattern), trust)
    env = config.env
    if not isinstance(env, ThirdParty):
        return
    if MASK in str(env.model_dump()):
        raise UsageError(
            f"run '{run}' was made with a secret in env.options, which memexp does not keep: "
            "let the environment read it from an environment variable"
        )
    _check(run, "an environment", env.imports, trust)


def _check(run: str, kind: str, named: list[tuple[str, str]], trust: bool) -> None:
    for module, name in named:
        if not (trust or _is_known(module, name)):
            what = f"{module}:{name}" if name else module
            raise UsageError(
                f"run '{run}' wants to import {what!r}, which is neither {kind} of an installed package "
                "nor a file of this project: read it, then add --trust"
            )


_packages = cache(packages_distributions)  # package -> the distributions that install it


def _is_known(module: str, name: str) -> bool:
    """Whether importing `module`, and calling `name` in it, runs nothing but environments or cells of this machine."""
    top = module.partition(".")[0]
    if top in OWN:
        return module == OWN_WRAPPERS
    if (file := place_of(top)) is None:
        return True  # the import will fail and say why
    if not _is_of_project(module) and (file.is_relative_to(home().resolve()) or top not in _packages()):
        return False
    if f"{module}:{name}" in entries("envs").values():
        return True
    found = getattr(import_named(module, module), name, None) if name else gymnasium.Env
    bases = gymnasium.Env, gymnasium.vector.VectorEnv
    if inspect.isclass(found) and (issubclass(found, bases) or hasattr(found, "observation_space")):
        return True
    if inspect.isclass(found) and issubclass(found, nn.Module) and hasattr(found, "init_state"):
        return True
    owner = home_of(found, module)
    return _is_of_project(owner) or (name == "parallel_env" and _is_of_environments(owner.partition(".")[0]))


def _is_of_environments(package: str) -> bool:
    """Whether a package is installed that needs Gymnasium or PettingZoo, and is not memexp's own."""
    needs = [need for one in _packages().get(package, ()) for need in distribution(one).requires or ()]
    return package not in OWN and any(
        re.match(r"(gymnasium|pettingzoo)\b(?!.*\bextra\b)", need, re.I) for need in needs
    )


def _is_of_project(module: str) -> bool:
    """Whether a module's file is in the project, and neither installed nor below $MEMEXP_HOME."""
    file = place_of(module)
    if file is None or file.is_relative_to(home().resolve()) or is_installed(file):
        return False
    return is_in_project(file)
