"""Finds what to play: the run or environment with a name, one environment of it, and who acts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memexp import envs
from memexp.config import Config, UsageError, did_you_mean, parse_overrides
from memexp.curriculum.uniform import NUM_TASKS
from memexp.envs.base import TaskSource, VecEnv
from memexp.envs.config import ENVIRONMENTS, is_third_party
from memexp.envs.grid.vec_env import GridEnv
from memexp.loading import newest_weights
from memexp.ppo.config import TrainConfig
from memexp.ppo.evaluate import held_out_worlds
from memexp.ppo.received import check_received
from memexp.project import refuse_module
from memexp.replay.appearance import knobs_of, task_facts
from memexp.replay.policies import Actor, run_actor, scripted_actor
from memexp.runs import Run, find_runs

LAST_TASK = 2 * NUM_TASKS - 1
"""Training draws tasks 0 .. NUM_TASKS - 1, evaluation NUM_TASKS .. LAST_TASK."""


@dataclass(frozen=True)
class Options:
    """Options of the command; None: the default of the target."""

    player: str | None = None  # for an environment: one of memexp.envs.scripted.POLICY_KINDS
    greedy: bool = False  # for a run: the most probable action instead of a sample
    seed: int | None = None
    task: int | None = None
    trust: bool = False  # for a run: import whatever its config names


@dataclass(frozen=True)
class Subject:
    """One environment and who acts in it.

    facts: target, environment, player, seed, knobs (those that differ from the defaults); of a run also run, arm and
    checkpoint (agent steps). run: of which the policy is.
    """

    env: VecEnv
    actor: Actor
    facts: dict[str, Any]
    config: Any
    run: Run | None = None

    def task(self) -> dict[str, Any]:
        """Id of the task, whether it is held out, and the task in words. `env` must have been reset."""
        if not isinstance(self.env, GridEnv):
            return {}
        number = self.env.task_id(0)
        return {"task": number, "held_out": number >= NUM_TASKS, "task_facts": task_facts(self.env)}


def find_subject(words: list[str], options: Options) -> tuple[Subject, str]:
    """The subject that `[TARGET, KEY=VALUE ...]` name, and a remark on an ambiguous name ('' if there is none).

    TARGET may also be the directory of a run, or a folder of the Hugging Face hub.
    If a run and an environment have the same name, the run is chosen, unless there are knobs or a player, which only an
    environment accepts. Raises UsageError for wrong words and for a run without a checkpoint.
    """
    names, pairs = [w for w in words if "=" not in w], parse_overrides(w for w in words if "=" in w)
    if len(names) != 1:
        raise UsageError(f"'{names[1]}' is not KEY=VALUE" if names else "name a run or an environment to play")
    name, runs = names[0], {run.name: run for run in find_runs()}
    if name not in runs and Run(Path(name)).exists():
        runs[name] = Run(Path(name))
    if name not in runs and name not in ENVIRONMENTS and not is_third_party(name):
        refuse_module(name, "an environment")
        raise UsageError(f"no run and no environment is called '{name}'{did_you_mean(name, [*runs, *ENVIRONMENTS])}")
    both = name in runs and name in ENVIRONMENTS
    if name not in runs or (both and (pairs or options.player)):
        remark = f"'{name}' is a run and an environment: this is the environment" if both else ""
        return of_environment(name, envs.typed_config(name, pairs), options), remark
    remark = f"'{name}' is a run and an environment: this is the run, --player random plays the environment"
    return of_run(runs[name], pairs, options), remark if both else ""


def of_environment(name: str, config: Config, options: Options) -> Subject:
    """The environment of `envs.make(name, 1, seed=seed)`, with an actor that needs no training."""
    if options.greedy:
        raise UsageError("--greedy is for the policy of a run")
    seed, kind = options.seed or 0, options.player or "random"
    env = envs.build(config, 1, seed=seed, tasks=_only(options.task))
    _refuse_a_task(options.task, env, name)
    who = "random policy" if kind == "random" else f"scripted policy ({kind})"
    facts = {"target": name, "environment": name, "player": who, "seed": seed, "knobs": knobs_of(config)}
    return Subject(env, scripted_actor(kind, env, seed), facts, config)


def of_run(run: Run, pairs: Mapping[str, str], options: Options) -> Subject:
    """The first environment of a run's evaluation, with the policy of its newest checkpoint."""
    if pairs:
        raise UsageError(f"'{next(iter(pairs))}' cannot be set: run '{run.name}' is played with its own knobs")
    if options.player:
        raise UsageError(f"--player is for an environment: run '{run.name}' is played by its own policy")
    config = TrainConfig.parse(run.config, run.name)
    check_received(run.name, config, options.trust)
    steps, weights = newest_weights(run)
    seed = config.seed if options.seed is None else options.seed
    env = held_out_worlds(config.env, 1, seed, tasks=_only(options.task))
    _refuse_a_task(options.task, env, config.env.name)
    facts = {
        "target": run.name,
        "environment": config.env.name,
        "player": "policy, most probable action" if options.greedy else "policy",
        "seed": seed,
        "knobs": knobs_of(config.env),
        "run": run.name,
        "arm": config.arm,
        "checkpoint": steps,
    }
    return Subject(env, run_actor(config, weights, env, seed, options.greedy), facts, config.env, run)


def _only(task: int | None) -> TaskSource | None:
    """A source that gives this task to every episode; None for None."""
    if task is None:
        return None
    if not 0 <= task <= LAST_TASK:
        raise UsageError(
            f"there is no task {task}: 0 to {NUM_TASKS - 1} are training tasks, {NUM_TASKS} to {LAST_TASK} are held out"
        )
    return lambda env, episode: task


def _refuse_a_task(task: int | None, env: VecEnv, name: str) -> None:
    if task is not None and not isinstance(env, GridEnv):
        raise UsageError(f"{name} has no tasks: leave out --task")
