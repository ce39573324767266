"""Reference levels: what players that do not learn reach in an environment, and how far down the funnel they come.

Measured once for an environment, its knobs, a player, a number of episodes and a seed, and kept in $MEMEXP_HOME.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from memexp import envs
from memexp.config import Config
from memexp.curriculum.uniform import training_tasks
from memexp.envs.base import Episodes, concatenated, episode_means, mix64
from memexp.envs.config import ThirdParty
from memexp.envs.puffer.source import fingerprint
from memexp.envs.scripted import make_scripted_policy
from memexp.jit import digest_of
from memexp.ppo.episodes import first_episodes
from memexp.runs import home
from memexp.runs.directory import write_atomically

FUNNEL = "env/funnel/"
WORLDS = 64
"""Most worlds at a time."""
_REFERENCE = 0x3A4D
"""Stream of worlds that training never sees."""


class Reference(BaseModel):
    """How one player fares."""

    env: str
    knobs: dict[str, object]
    player: str
    episodes: int
    seed: int
    mean: float
    """Mean return of an episode, over worlds (of several agents: over agents first)."""
    stderr: float
    quantiles: list[float]
    """Returns at the quantiles 0, 0.25, 0.5, 0.75 and 1."""
    funnel: dict[str, float]
    """Milestone -> share of agents and episodes that reached it, in the order of the funnel; empty without one."""
    stats: dict[str, float]
    """The other statistics of an episode, means."""


def reference(
    world: Config, player: str, episodes: int, seed: int, tell: Callable[[float], None] | None = None
) -> Reference:
    """How `player` fares over `episodes` episodes, with tasks drawn uniformly as in training; from the cache if known.

    `tell` hears how many episodes have been played. Raises UsageError for a player that this environment does not have.
    """
    name: str = world.name  # type: ignore[attr-defined]
    asked = {"env": name, "knobs": world.model_dump(exclude={"name", "backend", "workers"}), "player": player}
    asked |= {"episodes": episodes, "seed": seed}
    rules = digest_of(Path(envs.__file__).parent) + (fingerprint(world) if isinstance(world, ThirdParty) else "")
    key = hashlib.sha256(json.dumps([asked, rules], sort_keys=True).encode()).hexdigest()[:16]
    file = home() / "reference" / f"{name}-{player}-{key}.json"
    if known := _read(file):
        return known
    found = Reference.model_validate(asked | _summary(_play(world, player, episodes, seed, tell)))
    write_atomically(file, found.model_dump_json(indent=2).encode())
    return found


def _read(file: Path) -> Reference | None:
    """What was measured before; None where there is no such file, or none that can be read."""
    try:
        return Reference.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _play(world: Config, player: str, episodes: int, seed: int, tell: Callable[[float], None] | None) -> list[Episodes]:
    parts, done = [], 0
    while done < episodes:
        count = min(WORLDS, episodes - done)
        env = envs.build(world, count, "cpu", mix64(seed, _REFERENCE), done, tasks=training_tasks(seed))

        def heard(finished: float, before: int = done) -> None:
            if tell:
                tell(before + finished)

        with closing(env):
            parts.append(
                first_episodes(env, make_scripted_policy(env, player, mix64(seed, _REFERENCE, done)).act, heard)
            )
        done += count
    return parts


def _summary(parts: list[Episodes]) -> dict[str, object]:
    episodes = concatenated(parts)
    returns = episodes["return"].astype(np.float64)
    means = {name: mean for name, mean in episode_means(episodes).items() if name.startswith("env/")}
    return {
        "mean": float(returns.mean()),
        "stderr": float(returns.std(ddof=1) / len(returns) ** 0.5) if len(returns) > 1 else 0.0,
        "quantiles": np.quantile(returns, (0, 0.25, 0.5, 0.75, 1)).tolist(),
        "funnel": {name.removeprefix(FUNNEL): mean for name, mean in means.items() if name.startswith(FUNNEL)},
        "stats": {name.removeprefix("env/"): mean for name, mean in means.items() if not name.startswith(FUNNEL)},
    }
