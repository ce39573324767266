"""Reference levels: the returns of policies that do not learn, and the milestones of the funnel that they reach.

Each is measured once for an environment, its knobs, a policy, a number of episodes and a seed; $MEMEXP_HOME keeps it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError
from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from memexp import envs
from memexp.config import Config, UsageError, did_you_mean, override, parse_overrides
from memexp.credentials import mask_data
from memexp.curriculum.uniform import training_tasks
from memexp.envs.base import Episodes, concatenated, episode_means, mix64
from memexp.envs.config import ENVIRONMENTS, ThirdParty
from memexp.envs.puffer.source import fingerprint
from memexp.envs.scripted import make_scripted_policy
from memexp.jit import digest_of
from memexp.ppo.evaluate import first_episodes
from memexp.runs import home
from memexp.runs.directory import write_atomically
from memexp.runs.scribe import private

FUNNEL = "env/funnel/"
MOST_ENVS = 64
"""Environments that are stepped together, at most."""
_REFERENCE = 0x3A4D
"""Random stream of environments that training never uses."""


class Reference(BaseModel):
    """Returns and statistics of one policy."""

    env: str
    knobs: dict[str, object]
    player: str
    """The policy: "random", or the name of a scripted one."""
    episodes: int
    seed: int
    mean: float
    """Mean return of an episode over environments; with several agents, first over agents."""
    stderr: float
    quantiles: list[float]
    """Returns at the quantiles 0, 0.25, 0.5, 0.75 and 1."""
    funnel: dict[str, float]
    """Milestone -> share of agents and episodes that reached it, in the order of the funnel; empty without a funnel."""
    stats: dict[str, float]
    """Means of the other statistics of an episode."""


def reference(
    env_config: Config, player: str, episodes: int, seed: int, on_progress: Callable[[float], None] | None = None
) -> Reference:
    """Returns of the policy `player` over `episodes` episodes with training tasks; read from the cache if it is there.

    `on_progress` gets the number of finished episodes. Raises UsageError if the environment has no such policy.
    """
    name: str = env_config.name  # type: ignore[attr-defined]
    knobs = mask_data(env_config.model_dump(exclude={"name", "backend", "workers"}))
    asked = {"env": name, "knobs": knobs, "player": player}
    asked |= {"episodes": episodes, "seed": seed}
    source = digest_of(Path(envs.__file__).parent)
    source += fingerprint(env_config) if isinstance(env_config, ThirdParty) else ""
    key = hashlib.sha256(json.dumps([asked, source], sort_keys=True).encode()).hexdigest()[:16]
    file = home() / "reference" / f"{name}-{player}-{key}.json"
    with suppress(OSError, ValidationError):  # not there, or not readable
        return Reference.model_validate_json(file.read_bytes())
    found = Reference.model_validate(asked | _summary(_play(env_config, player, episodes, seed, on_progress)))
    write_atomically(file, found.model_dump_json(indent=2).encode(), private)
    return found


def _play(
    env_config: Config, player: str, episodes: int, seed: int, on_progress: Callable[[float], None] | None
) -> list[Episodes]:
    parts, done = [], 0
    while done < episodes:
        count = min(MOST_ENVS, episodes - done)
        env = envs.build(env_config, count, "cpu", mix64(seed, _REFERENCE), done, tasks=training_tasks(seed))

        def add_earlier(finished: float, before: int = done) -> None:
            if on_progress:
                on_progress(before + finished)

        with closing(env):
            policy = make_scripted_policy(env, player, mix64(seed, _REFERENCE, done))
            parts.append(first_episodes(env, policy.act, add_earlier))
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


def funnels(words: Sequence[str], players: Sequence[str], episodes: int, seed: int, notes: Console) -> list[Reference]:
    """The Reference of each policy in `players`, for `memexp funnel`.

    words: the environment's name, then KEY=VALUE for its knobs. The progress is shown on `notes`. Raises UsageError for
    an unknown environment, knob or policy.
    """
    name, *pairs = words
    if name not in ENVIRONMENTS:
        raise UsageError(f"unknown environment '{name}'{did_you_mean(name, ENVIRONMENTS)}")
    env_config: Config = override(ENVIRONMENTS[name](), parse_overrides(pairs))
    with closing(envs.build(env_config, 1)) as sample:
        for player in players:
            make_scripted_policy(sample, player, seed)  # a wrong name is an error before anything is measured
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("episodes")
    columns += TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        found = []
        for player in players:
            task = progress.add_task(player, total=episodes)
            found.append(
                reference(env_config, player, episodes, seed, lambda n, task=task: progress.update(task, completed=n))
            )
            progress.update(task, completed=episodes)
    return found


def funnel_table(references: Sequence[Reference]) -> RenderableType:
    """A row for each milestone and a column for each policy: the share of agents that reached it; returns below."""
    first = references[0]
    title = f"{first.env}: share of agents that reached each milestone, {first.episodes} episodes, seed {first.seed}"
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("milestone")
    for one in references:
        table.add_column(one.player, justify="right")
    for name in first.funnel:
        table.add_row(name, *(_share(one.funnel.get(name)) for one in references))
    table.add_section()
    table.add_row("mean return", *(f"{one.mean:.3g} ± {one.stderr:.2g}" for one in references))
    for i, name in enumerate(("lowest", "lower quartile", "median", "upper quartile", "highest")):
        table.add_row(f"{name} return", *(f"{one.quantiles[i]:.3g}" for one in references))
    return Group(Text(title, style="bold"), table)


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{share:.1%}" if share == 0 or share >= 0.001 else f"{share:.2%}"
