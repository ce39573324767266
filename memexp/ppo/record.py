"""The record of a run: run.json and its companions before the first update, then metrics, episodes and progress."""

import itertools
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from memexp.config import UsageError, count_name, did_you_mean, parse_model
from memexp.console import Console, drop_output
from memexp.envs.base import Episodes, concatenated, episode_means
from memexp.envs.config import GRID_GAMES, SCRIPTED
from memexp.envs.origin import code_of
from memexp.formatting import duration
from memexp.machine import cpu_name
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.evaluate import Reference, reference
from memexp.ppo.trainer import Trainer
from memexp.runs import Run, RunInfo
from memexp.runs.identity import recorded_code
from memexp.runs.loggers import Loggers
from memexp.runs.metrics import LACKING, lacks_metric
from memexp.runs.provenance import provenance
from memexp.spaces import described as described_observation

EVERY_S = 10.0
"""Seconds between two printed lines when the output is no terminal."""
FIRST_S = 2.0
"""Seconds until the first line about a measurement."""
_LEVELS = {"random_return", "random_funnel", "ceiling_return", "memoryless_return", "oracle_return"}
"""Fields of RunInfo that are measured before the first update."""


class RunRecord:
    """Metrics and episodes of a run: in its directory, in its loggers, on the terminal. Enter it around the training.

    Every rank has one. Only the first rank's writes and shows anything; the others print warnings.
    """

    def __init__(self, run: Run, config: TrainConfig, ranks: Ranks):
        self.run, self.config, self.ranks = run, config, ranks
        self.display = Display(config, ranks)
        self.loggers: Loggers | None = None
        self._contexts = ExitStack()
        self._part = 0  # number of the next part of episodes.parquet
        self._episodes: list[Episodes] = []  # of the next part
        self._earlier_s = 0.0  # seconds trained by earlier processes
        self._warned: set[str] = set()  # metrics lacking/...
        self._started = time.monotonic()
        self._last = self.wall_s(), 0  # wall seconds and agent steps of the latest metrics

    def __enter__(self) -> "RunRecord":
        self._contexts.enter_context(self.display)
        return self

    def __exit__(self, *error: Any) -> None:
        self._contexts.__exit__(*error)

    def wall_s(self) -> float:
        """Seconds trained so far by all processes of the run."""
        return self._earlier_s + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to continue the record."""
        return {"part": self._part, "wall_s": self.wall_s()}

    def resume(self, state: dict[str, Any] | None, agent_steps: int, updates: int) -> None:
        """Continue after `agent_steps`, in `updates`, from the `state` of a checkpoint; delete what was recorded later.

        Without a state the record begins anew. Says which files are damaged, and how many lines of metrics are missing.
        """
        if state:
            self._part, self._earlier_s = state["part"], state["wall_s"]
            self._last = self.wall_s(), agent_steps
        if self.ranks.is_first:
            for line in self.run.set_aside_damaged():
                self.display.print_line(line)
            missing = updates - self.run.rewind(agent_steps, self._part)
            if missing > 0:
                self.display.print_line(f"metrics.jsonl lacks {missing} of the {updates} lines before this start")

    def begin(self, trainer: Trainer, argv: list[str], random_steps: int) -> None:
        """Write config.yaml, provenance.json and run.json. Takes minutes if reference levels are not known yet.

        random_steps: those of all ranks, which this start played before training.
        """
        if not self.ranks.is_first:
            return
        config, device = self.config, self.ranks.device
        config.labels.check_levels(trainer.env.ceiling_return)
        hardware = cpu_name()
        if device.type == "cuda":
            hardware = f"{self.ranks.world_size}x {torch.cuda.get_device_name(device)}"
        self.run.write_config(config.model_dump())
        code = code_of(trainer.env.modules, config.cortex.pattern)
        start = provenance(argv, str(device), self.ranks.world_size)
        self.run.write_provenance({**start, **code, "random_steps": random_steps})
        lines = described_observation(trainer.env.observation, trainer.env.because, trainer.env.actions)
        for line in lines:
            self.display.print_line(line)
        if random_steps:
            self.display.print_line(f"played {random_steps:,} random steps first, so that episodes end at different "
                                    "times; agent_steps leaves them out")  # fmt: skip
        info, env = described(config), trainer.env
        measured = {
            "observation": (self.run.exists() and self.run.info.observation) or lines,
            "hardware": info.hardware or hardware,
            **recorded_code(self.run, code),
            "memory_span": env.memory_span,
            "num_actions": env.num_actions or None,
            "solved_return": env.solved_return,
            "solved_by": None if env.solved_return is None else "the reward threshold in Gymnasium's registry",
            **reference_levels(self.run, config, env.ceiling_return, self.display.print_line),
        }
        info = parse_model(RunInfo, info.model_dump() | measured, "run.json")
        self.run.write_info(info.restated(config.labels.stated))

    def open_loggers(self, agent_steps: int) -> None:
        """Begin to copy the metrics after `agent_steps` to the loggers, after run.json is written."""
        if self.ranks.is_first:
            loggers = Loggers(self.run, self.config.loggers, self.config.wandb.model_dump(), agent_steps)
            self.loggers = self._contexts.enter_context(loggers)

    def line(self, agent_steps: int, metrics: dict[str, float], episodes: Episodes) -> dict[str, Any]:
        """One line of metrics: steps, seconds, rate, means over finished `episodes` (which are kept), and `metrics`."""
        wall_s = self.wall_s()
        (wall_then, steps_then), self._last = self._last, (wall_s, agent_steps)
        if len(episodes):
            self._episodes.append(episodes | {"agent_steps": np.full(len(episodes["return"]), agent_steps)})
        rate = (agent_steps - steps_then) / max(wall_s - wall_then, 1e-9)
        return {"agent_steps": agent_steps, "wall_s": wall_s, "sps": rate} | episode_means(episodes) | metrics

    def log(self, line: dict[str, Any]) -> None:
        """Append `line` to metrics.jsonl, send it to the loggers and show it."""
        if self.ranks.is_first:
            self._warn_of_means(line)
            self.run.append_metrics(line)
            assert self.loggers
            self.loggers.log(line)
            self.display.show(line)

    def _warn_of_means(self, line: dict[str, Any]) -> None:
        """Say once of each statistic that it is a mean over some episodes only."""
        count, metric = line["episode/count"], self.config.labels.metric
        for name in [name for name in line if name.startswith(LACKING) and name not in self._warned]:
            self._warned.add(name)
            stat = name.removeprefix(LACKING)
            said = f"env/{stat} is a mean over some episodes: {line[name]:.0f} of the last {count:.0f} do not have it"
            self.display.print_line(lacks_metric(metric, line[name], count) if stat == metric else said)

    def save(self) -> None:
        """Order metrics and episodes so far to the disk; a checkpoint that is written later never knows more."""
        if self.ranks.is_first:
            self.run.sync_metrics()
        if self._episodes:
            if self.ranks.is_first:
                self.run.append_episodes(self._part, concatenated(self._episodes))
            self._part += 1
            self._episodes = []


def reference_levels(
    run: Run, config: TrainConfig, ceiling: float | None, print_line: Callable[[str], None]
) -> dict[str, Any]:
    """Returns of policies that do not learn: from run.json, else measured.

    The random policy is measured with the run's seed, so that seeds show its spread; scripted ones with one seed for
    all runs.
    """
    plan, env = config.evaluation, config.env

    def measured(player: str, episodes: int, seed: int) -> Reference:
        on_progress = counting(print_line, f"measuring the policy '{player}'", episodes, "episodes")
        return reference(env, player, episodes, seed, on_progress)

    levels: dict[str, Any] = {"ceiling_return": ceiling}
    if run.exists():
        levels |= run.info.model_dump(include=_LEVELS, exclude_none=True)
    if plan.random_episodes and "random_return" not in levels:
        random = measured("random", plan.random_episodes, config.seed)
        levels |= {"random_return": random.mean, "random_funnel": random.funnel or None}
    metric = config.labels.metric
    if plan.random_episodes and metric != "return":
        random = measured("random", plan.random_episodes, config.seed)
        if metric not in random.stats:
            near = did_you_mean(metric, ["return", *random.stats])
            raise UsageError(f"metric: no episode of the random policy has '{metric}'{near}")
        if lacking := random.lacking.get(metric):
            raise UsageError(f"{lacks_metric(metric, lacking, random.episodes)}; they are of the random policy")
        levels["random_metric"] = random.stats[metric]
    if plan.reference_episodes and env.name in GRID_GAMES and "oracle_return" not in levels:
        print_line(f"measuring scripted policies, {plan.reference_episodes} episodes each (once for these knobs)")
        means = [measured(player, plan.reference_episodes, 0).mean for player in SCRIPTED]
        # A policy that sees more can do what one that sees less does: its level is at least as high.
        memoryless, memory, oracle = itertools.accumulate(means, max)
        levels |= {"memoryless_return": memoryless, "oracle_return": oracle}
        levels["ceiling_return"] = levels["ceiling_return"] or memory
    return levels


def described(config: TrainConfig) -> RunInfo:
    """run.json as far as the config alone tells it. Raises UsageError for labels that cannot be."""
    labels, cortex = config.labels, config.cortex
    fields = {
        **labels.model_dump(include={"matrix", "twin_of", "metric", "hardware", "price_per_hour", "tuning"}),
        **cortex.model_dump(include={"pattern", "mem_len", "memory"}),
        "run": config.run or "",
        "env": labels.env or config.env.name,
        "arm": config.arm,
        "seed": config.seed,
        "recipe": config.recipe,
        "total_timesteps": config.trainer.total_timesteps,
    }
    return parse_model(RunInfo, fields, "labels")


def counting(print_line: Callable[[str], None], what: str, total: int, unit: str) -> Callable[[float], None]:
    """A function of how many of `total` are done. It prints them with rate and time left, every EVERY_S at most."""
    began = printed = time.monotonic()

    def show(done: float) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= (FIRST_S if printed == began else EVERY_S):
            printed, rate = now, done / (now - began)
            left = f", {duration((total - done) / rate)} left" if rate else ""
            print_line(f"{what}: {done:,.0f} of {total} {unit}, {rate:.3g} a second{left}")

    return show


class Display:
    """Shows a run's steps, rate, return and time left: a live bar on a terminal, else a line every ten seconds.

    Enter it around the training.
    """

    def __init__(self, config: TrainConfig, ranks: Ranks):
        self._run, self._total = config.run, config.trainer.total_timesteps
        self._console = Console(file=sys.stdout, soft_wrap=True)
        self._prefix = "" if ranks.is_first else f"rank {ranks.rank}: "
        self._last = 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (self._console.is_terminal and ranks.is_first),
        )
        self._task = self._bar.add_task(str(self._run), total=self._total, numbers="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    def print_line(self, text: str) -> None:
        """Print a line that stays, also above the bar. Where the output is full or closed, training goes on without."""
        try:
            self._console.print(self._prefix + text)
        except OSError:
            drop_output()

    def show(self, metrics: dict[str, Any]) -> None:
        """Show the metrics of an update."""
        steps, rate = metrics["agent_steps"], metrics["sps"]
        score = f"return {metrics['episode/return']:.3f}" if "episode/return" in metrics else "no episode ended"
        numbers = f"{steps:,}/{count_name(self._total)} steps, {rate:,.0f} steps/s, {score}"
        if self._console.is_terminal:
            self._bar.update(self._task, completed=steps, numbers=numbers)
        elif time.monotonic() - self._last >= EVERY_S or steps >= self._total:
            self._last = time.monotonic()
            left = max(0, self._total - steps) / max(rate, 1e-9)
            self.print_line(f"{self._run}: {numbers}, {duration(left)} left")
