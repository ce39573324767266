"""Makes an environment from its id: gym:ID, gym:MODULE:ID, module:MODULE:CALLABLE or pettingzoo:MODULE.

Batches, which step all their environments at once: vec:ID, vec:MODULE:ID, envpool:ID, gymnax:ID, or a MODULE:CALLABLE
that makes a gymnasium.vector.VectorEnv.
"""

import ast
import hashlib
import importlib
import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from memexp.config import UsageError, did_you_mean
from memexp.envs.config import BATCHED, ThirdParty
from memexp.envs.puffer.masks import with_mask, with_masks
from memexp.modules import call, find, member, one_line
from memexp.project import import_named

TURN_BASED = (
    "{} is turn-based (AEC), and only environments in which all agents act at once are supported; make a function that "
    "converts it with PettingZoo's turn_based_aec_to_parallel, and name it as module:MODULE:FUNCTION"
)
LIMIT = 10_000
"""Steps after which an episode is cut by default."""


def make_one(config: ThirdParty) -> Any:
    """One environment with its wrappers: a gymnasium.Env, also of a batch, or a PettingZoo ParallelEnv.

    Raises UsageError if the id, an option or a wrapper does not exist or raises.
    """
    if is_batched(config):
        return OfBatch(make_batch(config, 1))
    kind, _, rest = config.id.partition(":")
    if kind == "gym":
        # An option named `id` would name another environment: it is an error.
        make = partial(gymnasium.make, _registered(rest, config.id))
        env = call(make, {"disable_env_checker": True, **config.options}, config.id)
    elif kind == "module":
        env = call(find(rest, config.id), config.options, config.id)
    else:
        module = import_named(rest, config.id, "pettingzoo.")
        if hasattr(module, "env") and not hasattr(module, "parallel_env"):
            raise UsageError(TURN_BASED.format(config.id))
        env = call(member(module, "parallel_env", config.id), config.options, config.id)
    for wrapper in config.wrappers:
        env = _wrap(env, wrapper)
    if hasattr(env, "agent_iter"):
        raise UsageError(TURN_BASED.format(config.id))
    if not isinstance(env, gymnasium.Env) and not is_parallel(env):
        fix = "; a function that makes a VectorEnv takes num_envs" if isinstance(env, VectorEnv) else ""
        raise UsageError(
            f"{config.id} is a {type(env).__name__}, neither a Gymnasium nor a PettingZoo parallel environment{fix}"
        )
    return with_mask(env, config, is_parallel(env))


def is_batched(config: ThirdParty) -> bool:
    """Whether the id names a batch: a kind of its own, or a VectorEnv class or a function that takes num_envs."""
    kind, _, rest = config.id.partition(":")
    if kind != "module":
        return kind in BATCHED
    found = find(rest, config.id)
    if inspect.isclass(found):
        return issubclass(found, VectorEnv)
    with suppress(TypeError, ValueError):  # a compiled function may have no signature
        return "num_envs" in inspect.signature(found).parameters and "num_envs" not in config.options
    return False


def make_batch(config: ThirdParty, num_envs: int) -> VectorEnv:
    """`num_envs` environments as one vector environment with its wrappers. Raises UsageError as `make_one` does."""
    kind, _, rest = config.id.partition(":")
    if "num_envs" in config.options:
        raise UsageError(f"{config.id}: memexp says how many environments a batch has: leave num_envs out of options")
    if kind == "vec":
        plain = _registered(rest, config.id)
        if gymnasium.spec(plain).vector_entry_point is None:
            raise UsageError(f"{config.id}: Gymnasium has no vector environment of it; gym:{rest} steps one by one")
        make = partial(gymnasium.make_vec, plain, vectorization_mode="vector_entry_point")
    elif kind == "module":
        make = find(rest, config.id)
    else:
        import_named(kind, config.id)
        make = partial(importlib.import_module(f"memexp.envs.batches.of_{kind}").make, rest)
    env = call(partial(make, num_envs=num_envs), config.options, config.id)
    for wrapper in config.wrappers:
        env = _wrap(env, wrapper)
    if not isinstance(env, VectorEnv):
        raise UsageError(f"{config.id} takes num_envs, but made a {type(env).__name__}, not a VectorEnv of Gymnasium")
    if kind == "module" and hasattr(env.unwrapped, "all_env_ids"):
        raise UsageError(f"{config.id} makes an EnvPool, which takes seeds only when it is made: name it envpool:ID")
    if env.num_envs != num_envs:
        raise UsageError(f"{config.id} made {env.num_envs} environments, not the num_envs={num_envs} that it was given")
    return with_masks(env, config)


class OfBatch(gymnasium.Env):
    """The only environment of a batch of one; for one episode, since the batch may reset it then."""

    def __init__(self, env: VectorEnv) -> None:
        self.env, self.spec = env, env.spec
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        obs, infos = self.env.reset(seed=seed)
        return self._first(obs), infos

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, rewards, terminated, truncated, infos = self.env.step(np.stack([action]))
        return self._first(obs), rewards[0], bool(terminated[0]), bool(truncated[0]), infos

    def _first(self, obs: Any) -> Any:
        return next(iter(iterate(batch_space(self.observation_space, 1), obs)))

    def close(self) -> None:
        self.env.close()


def is_parallel(env: Any) -> bool:
    """Whether `env` is a PettingZoo parallel environment."""
    return hasattr(env, "possible_agents") and callable(getattr(env, "observation_space", None))


def step_limit(config: ThirdParty, env: Any) -> int:
    """Steps after which this project cuts an episode: later than the environment's own limit, unless configured."""
    own = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    return config.max_steps or max(LIMIT, (own or 0) + 1)


def solved_return(config: ThirdParty, env: Any) -> float | None:
    """Return from which the environment counts as solved: the reward threshold in Gymnasium's registry; None where it
    has none, or where the config names a ceiling. Never `reward_range`, which is the range of one step's reward."""
    if config.ceiling_return is not None:
        return None
    return getattr(getattr(env, "spec", None), "reward_threshold", None)


def fingerprint(config: ThirdParty) -> str:
    """A digest of the source files of the environment's class and of its wrappers. It changes when they are edited."""
    files = set[str]()
    for cls in classes_of(make_one(config)):
        with suppress(OSError, TypeError):  # the class is defined interactively or compiled
            files.add(inspect.getfile(cls))
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


def classes_of(env: Any) -> Iterator[type]:
    """The classes of an environment's wrappers, the outermost first, and of the environment itself.

    What memexp puts around every environment, such as `MaskedEnv`, is none of them.
    """
    while env is not None:
        if not type(env).__module__.startswith("memexp.envs.puffer."):
            yield type(env)
        env = getattr(env, "env", None)


def _registered(name: str, id: str) -> str:
    """The name in Gymnasium's registry of ID or MODULE:ID, once it is registered. Raises UsageError if it is not."""
    module, colon, plain = name.rpartition(":")
    if colon:
        import_named(module, id)
    if plain not in gymnasium.registry:
        try:
            _import_suites(plain)
            gymnasium.spec(plain)
        except gymnasium.error.Error as error:
            near = did_you_mean(plain, gymnasium.registry)
            near = near if near.startswith("; did") else ""  # do not list hundreds of ids
            kind = id.partition(":")[0]
            why = f"{one_line(error).rstrip('.')}; is its package installed? {kind}:MODULE:ID imports MODULE first"
            raise UsageError(f"unknown environment '{id}' ({why}){near}") from None
    return plain


def _import_suites(id: str) -> None:
    """Import the installed packages that require Gymnasium, one by one, until one registers this id."""
    for package in sorted(distributions(), key=lambda one: one.name.lower()):
        needs = [re.match(r"[-\w]+", one) for one in package.requires or ()]
        if id not in gymnasium.registry and any(need and need[0].lower() == "gymnasium" for need in needs):
            for name in (package.read_text("top_level.txt") or package.name.replace("-", "_")).split():
                with suppress(Exception, SystemExit):  # a broken package may have nothing to do with this id
                    importlib.import_module(name)


def _wrap(env: Any, text: str) -> Any:
    """The environment in a wrapper. `text` is MODULE:CALLABLE or MODULE:CALLABLE(keyword=value, ...), Python values."""
    place, bracket, inside = text.partition("(")
    options: dict[str, Any] = {}
    try:
        if bracket:
            one = ast.parse(f"f({inside}", mode="eval").body
            if not (isinstance(one, ast.Call) and isinstance(one.func, ast.Name)) or one.args:
                raise ValueError("not one call with keywords")
            options = {word.arg: ast.literal_eval(word.value) for word in one.keywords if word.arg}
            if len(options) < len(one.keywords):
                raise ValueError("** is not allowed")
    except (SyntaxError, ValueError):
        raise UsageError(f"wrapper '{text}' is not MODULE:CALLABLE(keyword=value, ...)") from None
    wrapper = find(place, f"wrapper '{text}'")
    return call(partial(wrapper, env), options, f"wrapper '{text}'")
