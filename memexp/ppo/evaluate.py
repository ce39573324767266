"""Evaluation: mean returns of the acting policy on held-out tasks, and of policies that do not learn.

The latter are the reference levels: returns, and the milestones of the funnel that a policy reaches. Each is measured
once for an environment, its knobs, a policy, a number of episodes and a seed; $MEMEXP_HOME keeps it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from torch import Tensor

from memexp import envs
from memexp.config import Config, parse_overrides
from memexp.credentials import mask_data
from memexp.curriculum.uniform import held_out_tasks, training_tasks
from memexp.envs.base import Episodes, TaskSource, VecEnv, concatenated, episode_means, mix64
from memexp.envs.config import ThirdParty
from memexp.envs.puffer.source import fingerprint
from memexp.envs.scripted import make_scripted_policy
from memexp.envs.suites import suite
from memexp.jit import digest_of
from memexp.policy.model import Policy
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.rollout import ActionNoise
from memexp.runs import home
from memexp.runs.directory import write_atomically
from memexp.runs.scribe import private

FUNNEL, LACKING = "funnel/", "lacking/"
MOST_ENVS = 64
"""Environments of a reference level that are stepped together, at most."""
_EVALUATION, _REFERENCE = 0xE7A1, 0x3A4D
"""Random streams of environments that training never uses."""

Choose = Callable[[Tensor, Tensor], Tensor]
"""(observations `[N, ...]`, resets `[N]`) -> actions `[N]`."""


def first_episodes(env: VecEnv, choose: Choose, on_progress: Callable[[float], None] | None = None) -> Episodes:
    """The first episode of every environment, in the order of environments: long episodes count like short ones.

    `on_progress` gets the number of finished episodes after every step. If all episodes last until their time limits,
    each unfinished one counts as the share of its time that has passed.
    """
    obs = env.reset()
    limits, steps = env.time_limits(), 0
    resets = torch.ones(env.num_agents, dtype=torch.bool, device=env.device)
    parts, finished = [], np.zeros(0, np.int64)
    while len(finished) < env.num_envs:
        obs, _, terminated, truncated = env.step(choose(obs, resets))
        resets, steps = terminated | truncated, steps + 1
        if bool(resets.any()) and (ended := env.pop_episodes()):  # an agent may be done before its environment
            parts.append(ended)
            finished = np.union1d(finished, ended["world"])
        if on_progress:
            passed = 0.0 if limits is None else float((steps / limits).clip(max=1).sum())
            on_progress(max(len(finished), passed))
    episodes = concatenated(parts)
    _, first = np.unique(episodes["world"], return_index=True)
    return {name: column[first] for name, column in episodes.items()}


def held_out_worlds(
    env_config: Config, num_envs: int, seed: int, device: str = "cpu", first: int = 0, tasks: TaskSource | None = None
) -> VecEnv:
    """Environments of a run's evaluation, from number `first` on; `tasks` replace the held-out ones."""
    tasks = tasks or held_out_tasks(seed)
    return envs.build(env_config, num_envs, device, mix64(seed, _EVALUATION), first, tasks=tasks)


def held_out_noise(seed: int, env: VecEnv, first: int, total: int) -> ActionNoise:
    """Action noise of a run's evaluation for the agents of `env`: from number `first` on, of `total` over all ranks."""
    return ActionNoise(mix64(seed, _EVALUATION) >> 1, env.num_agents, first, total, env.device, env.actions.shape)


def acting(policy: Policy, env: VecEnv) -> Callable[[Tensor, Tensor], Tensor]:
    """(observations `[N, ...]`, resets `[N]`) -> logits `[N, A]` of the policy as it acts in `env`, with its memory."""
    state = policy.init_state(env.num_agents, env.device)

    def act(obs: Tensor, resets: Tensor) -> Tensor:
        nonlocal state
        logits, _, state = policy(obs, state, resets)
        return logits

    return act


@torch.no_grad()
def evaluate(
    policy: Policy, env_config: Config, episodes: int, seed: int, ranks: Ranks, cast: AbstractContextManager
) -> float:
    """Mean return of the policy, which samples its actions, over the first episodes of as many environments.

    Tasks are held out. Every rank calls this and runs its share; the result does not depend on the number of ranks.
    """
    first, end = (episodes * rank // ranks.world_size for rank in (ranks.rank, ranks.rank + 1))
    total = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    if first < end:
        env = held_out_worlds(env_config, end - first, seed, str(ranks.device), first)
        agents = env.num_agents // env.num_envs
        noise, acts = held_out_noise(seed, env, first * agents, episodes * agents), acting(policy, env)
        with cast, closing(env):
            found = first_episodes(env, lambda *given: policy.actions.sample(acts(*given), noise.sample()))
        returns = found["return"]
        total += total.new_tensor([returns.sum(dtype=np.float64), len(returns)])
    total_return, count = ranks.sum(total).tolist()
    return total_return / count


def evaluate_all(
    config: TrainConfig, policy: Policy, ranks: Ranks, cast: Callable[[], AbstractContextManager]
) -> dict[str, float]:
    """What `config.evaluation` asks for: eval/return, and eval/<setting>/return for each setting of the suite."""
    plan, means = config.evaluation, {}
    if plan.episodes:
        means["eval/return"] = evaluate(policy, config.env, plan.episodes, config.seed, ranks, cast())
    for name, setting in suite(config.env).items() if plan.suite_episodes else ():
        means[f"eval/{name}/return"] = evaluate(policy, setting, plan.suite_episodes, config.seed, ranks, cast())
    return means


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
    lacking: dict[str, float]
    """Statistic -> number of episodes that do not have it."""


def reference(
    env_config: Config, player: str, episodes: int, seed: int, on_progress: Callable[[float], None] | None = None
) -> Reference:
    """Returns of the policy `player` over `episodes` episodes with training tasks; read from the cache if it is there.

    `on_progress` gets the number of finished episodes. Raises UsageError if the environment has no such policy.
    """
    name: str = env_config.name  # type: ignore[attr-defined]
    knobs = mask_data(env_config.model_dump(exclude={"name", "backend", "workers", "reading"}))
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
    means = episode_means(episodes)
    env = {name.removeprefix("env/"): mean for name, mean in means.items() if name.startswith("env/")}
    return {
        "mean": float(returns.mean()),
        "stderr": float(returns.std(ddof=1) / len(returns) ** 0.5) if len(returns) > 1 else 0.0,
        "quantiles": np.quantile(returns, (0, 0.25, 0.5, 0.75, 1)).tolist(),
        "funnel": {name.removeprefix(FUNNEL): mean for name, mean in env.items() if name.startswith(FUNNEL)},
        "stats": {name: mean for name, mean in env.items() if not name.startswith(FUNNEL)},
        "lacking": {name.removeprefix(LACKING): n for name, n in means.items() if name.startswith(LACKING)},
    }


def funnels(words: Sequence[str], players: Sequence[str], episodes: int, seed: int, notes: Console) -> list[Reference]:
    """The Reference of each policy in `players`, for `memexp funnel`.

    words: the environment's name, then KEY=VALUE for its knobs. The progress is shown on `notes`. Raises UsageError for
    an unknown environment, knob or policy.
    """
    name, *pairs = words
    env_config: Config = envs.typed_config(name, parse_overrides(pairs))
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
