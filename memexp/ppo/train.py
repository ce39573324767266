"""One training run from its config to its exit: run directory, resume, signals, checkpoints, metrics."""

import fcntl
import itertools
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from memexp.config import UsageError
from memexp.envs.base import Episodes, WorldError, concatenated, episode_means
from memexp.envs.config import GRID_GAMES, SCRIPTED
from memexp.ppo import checkpoint as checkpoints
from memexp.ppo.checkpoint import Checkpoint, CheckpointError
from memexp.ppo.config import RESUMABLE, TrainConfig
from memexp.ppo.distributed import Ranks, join, leave
from memexp.ppo.evaluate import evaluate, evaluate_suite
from memexp.ppo.memory import keep_freed_memory
from memexp.ppo.profile import Profiler
from memexp.ppo.progress import Progress, counting
from memexp.ppo.reference import Reference, reference
from memexp.ppo.trainer import Trainer
from memexp.runs import Exit, Run, RunInfo
from memexp.runs.identity import refuse_another_experiment
from memexp.runs.provenance import provenance
from memexp.runs.wandb_sink import WandbSink, resolve_mode


def train(config: TrainConfig, *, argv: list[str] | None = None) -> Exit:
    """Run `config` (which must have a name in `config.run`) to its end, or resume it; returns how it ended.

    Under torchrun every rank calls this. Raises UsageError when the config cannot run or differs from the one that the
    run of this name was started with, CheckpointError when it has checkpoints but none can be read.
    """
    if not config.run:
        raise UsageError("the run has no name: give run=NAME")
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    keep_freed_memory()
    resolve_mode(config.wandb.mode)
    run = Run.named(config.run)
    refuse_another_experiment(run, config.model_dump(), RESUMABLE)
    outcome = run.exit
    if outcome and outcome.status == "completed":
        return outcome
    ranks = join(config.trainer.device)
    try:
        session = Session(config, run, ranks, argv or [])
        try:
            return session.play()
        finally:
            session.trainer.close()
    finally:
        leave()


_LEVELS = {"random_return", "random_funnel", "ceiling_return", "memoryless_return", "oracle_return"}
"""Fields of RunInfo that are measured before the first update."""


class Session:
    """One process's stretch of a run: from start or resume to its end, a signal or a failure."""

    def __init__(self, config: TrainConfig, run: Run, ranks: Ranks, argv: list[str]):
        self.config, self.run, self.ranks, self.argv = config, run, ranks, argv
        self.trainer = Trainer(config, ranks)
        self.profiler = Profiler(run.path / "profile", config.trainer.profile if ranks.is_first else 0, ranks.device)
        self.stop = False
        self.part = 0  # number of the next part of episodes.parquet
        self.evaluated_at = 0
        self.wall_before = 0.0  # seconds of earlier stretches
        self.started = time.monotonic()
        self.last_line = (self.wall_s(), 0)
        self.unsaved: list[Episodes] = []
        self.saved_at: int | None = None  # agent steps of the newest checkpoint

    def wall_s(self) -> float:
        """Seconds trained so far, over all stretches."""
        return self.wall_before + time.monotonic() - self.started

    def play(self) -> Exit:
        with _lock(self.run) if self.ranks.is_first else nullcontext(), _signals(self):
            restored, problems = checkpoints.load_latest(self.run.checkpoints, self.ranks)
            self._restore(restored)
            if not self.ranks.is_first:
                return self._loop(None, None)
            with Progress(self.config) as progress:
                for problem in problems:
                    progress.say(problem)
                self._write_start(progress.say)
                with WandbSink(self.run, self.config.model_dump(), self.config.wandb.model_dump()) as wandb:
                    outcome = self._loop(progress, wandb)
                    wandb.exit_code = int(outcome.status == "failed")
                    return outcome

    def _restore(self, restored: Checkpoint | None) -> None:
        """Carry on from a checkpoint, if there is one, and forget what was written after it."""
        if restored:
            self.trainer.restore(restored)
            session = restored.shared["session"]
            self.part, self.wall_before = session["part"], session["wall_s"]
            self.evaluated_at = session["evaluated_at"]
            self.last_line = (self.wall_s(), self.trainer.agent_steps)
            self.saved_at = self.trainer.agent_steps
        if self.ranks.is_first and self.run.exists():
            self.run.rewind(self.trainer.agent_steps, self.part)

    def _write_start(self, say: Callable[[str], None]) -> None:
        """run.json, config.yaml and provenance; measures the random policy's return the first time."""
        config, labels = self.config, self.config.labels
        self.run.write_config(config.model_dump())
        self.run.write_provenance(provenance(self.argv, str(self.ranks.device), self.ranks.world_size))
        self.run.write_info(
            RunInfo(
                run=self.run.name,
                matrix=labels.matrix,
                env=labels.env or config.env.name,
                arm=config.arm,
                pattern=config.cortex.pattern,
                mem_len=config.cortex.mem_len,
                memory=config.cortex.memory,
                seed=config.seed,
                recipe=config.recipe,
                total_timesteps=config.trainer.total_timesteps,
                hardware=labels.hardware or _hardware(self.ranks),
                price_per_hour=labels.price_per_hour,
                num_actions=self.trainer.env.num_actions or None,
                **self._levels(say),
            )
        )

    def _levels(self, say: Callable[[str], None]) -> dict[str, Any]:
        """What players that do not learn reach: as run.json has it, else measured. Scripted players with one seed for
        all runs; the random policy with the run's own, so that its spread is known."""
        plan, world = self.config.evaluation, self.config.env

        def measured(player: str, episodes: int, seed: int) -> Reference:
            tell = counting(say, f"measuring the player '{player}'", episodes, "episodes")
            return reference(world, player, episodes, seed, tell)

        levels = {"ceiling_return": self.trainer.env.ceiling_return}
        if self.run.exists():
            levels |= self.run.info.model_dump(include=_LEVELS, exclude_none=True)
        if plan.random_episodes and "random_return" not in levels:
            random = measured("random", plan.random_episodes, self.config.seed)
            levels |= {"random_return": random.mean, "random_funnel": random.funnel or None}
        if plan.reference_episodes and world.name in GRID_GAMES and "oracle_return" not in levels:
            say(f"measuring scripted players, {plan.reference_episodes} episodes each (once for these knobs)")
            means = [measured(player, plan.reference_episodes, 0).mean for player in SCRIPTED]
            memoryless, memory, oracle = itertools.accumulate(means, max)  # who knows more can do as who knows less
            levels |= {"memoryless_return": memoryless, "oracle_return": oracle}
            levels["ceiling_return"] = levels["ceiling_return"] or memory
        return levels

    def _loop(self, progress: Progress | None, wandb: WandbSink | None) -> Exit:
        saved = time.monotonic()
        try:
            while not self.trainer.finished and not self._told_to_stop():
                metrics = self._update_and_measure()
                if progress and wandb:
                    self.run.append_metrics(metrics)
                    wandb.log(metrics)
                    progress.show(metrics)
                if self._checkpoint_is_due(saved):
                    self.save()
                    saved = time.monotonic()
            if self.saved_at != self.trainer.agent_steps:
                self.save()
        except Exception as error:
            if not isinstance(error, (FloatingPointError, WorldError)):
                traceback.print_exc()
            return self._finish("failed", f"update {self.trainer.updates + 1}: {type(error).__name__}: {error}")
        if self.trainer.finished:
            return self._finish("completed", f"reached {self.config.trainer.total_timesteps} agent steps")
        return self._finish("preempted", "told to stop by a signal; a checkpoint was written")

    def _update_and_measure(self) -> dict[str, Any]:
        """One training step, its episodes and, where it is due, an evaluation, as one line of metrics."""
        metrics = self.profiler.run(self.trainer.train_step)
        episodes = self.trainer.pop_episodes()
        steps, wall = self.trainer.agent_steps, self.wall_s()
        wall_then, steps_then = self.last_line
        self.last_line = (wall, steps)
        line = {"agent_steps": steps, "wall_s": wall, "sps": (steps - steps_then) / max(wall - wall_then, 1e-9)}
        line |= episode_means(episodes) | metrics
        line |= {f"curriculum/{name}": value for name, value in self.trainer.tasks.stats().items()}
        if len(episodes):
            self.unsaved.append(episodes | {"agent_steps": np.full(len(episodes["return"]), steps)})
        if self._evaluation_is_due():
            self.evaluated_at = steps
            line |= self._evaluate()
        return line

    def _evaluate(self) -> dict[str, float]:
        """eval/return over held-out tasks, and eval/<setting>/return over the environment's suite."""
        plan, policy, seed, cast = self.config.evaluation, self.trainer.policy, self.config.seed, self.trainer.cast
        means = {}
        if plan.episodes:
            means["eval/return"] = evaluate(policy, self.config.env, plan.episodes, seed, self.ranks, cast())
        return means | evaluate_suite(policy, self.config.env, plan.suite_episodes, seed, self.ranks, cast)

    def _evaluation_is_due(self) -> bool:
        plan = self.config.evaluation
        waited = self.trainer.agent_steps - self.evaluated_at
        return plan.episodes + plan.suite_episodes > 0 and (self.trainer.finished or 0 < plan.every <= waited)

    def _told_to_stop(self) -> bool:
        """Whether any rank was sent a signal: all stop after the same update."""
        return bool(self.ranks.max(torch.tensor(float(self.stop), device=self.ranks.device)).item())

    def _checkpoint_is_due(self, saved: float) -> bool:
        waited = time.monotonic() - saved >= self.config.trainer.checkpoint_minutes * 60
        return bool(self.ranks.max(torch.tensor(float(waited), device=self.ranks.device)).item())

    def save(self) -> None:
        """A checkpoint, after the metrics and episodes that it has seen."""
        if self.ranks.is_first:
            self.run.sync_metrics()
        if self.unsaved:
            if self.ranks.is_first:
                self.run.append_episodes(self.part, concatenated(self.unsaved))
            self.part += 1
            self.unsaved = []
        point = self.trainer.checkpoint()
        point.shared["session"] = {"part": self.part, "wall_s": self.wall_s(), "evaluated_at": self.evaluated_at}
        checkpoints.save(self.run.checkpoints, point, self.ranks)
        self.saved_at = self.trainer.agent_steps

    def _finish(self, status: Any, reason: str) -> Exit:
        outcome = Exit(status=status, reason=reason, agent_steps=self.trainer.agent_steps, wall_s=self.wall_s())
        if self.ranks.is_first:
            self.run.finish(outcome)
        return outcome


@contextmanager
def _lock(run: Run) -> Iterator[None]:
    """Hold the run for this process: two processes never train one run."""
    run.path.mkdir(parents=True, exist_ok=True)
    with open(run.lock, "a") as file:  # the lock lives as long as the file is open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"run '{run.name}' is running in another process") from None
        yield


@contextmanager
def _signals(session: Session) -> Iterator[None]:
    """SIGTERM and Ctrl-C ask for a checkpoint and a clean stop after the current update; Ctrl-C again kills.

    One stop may bring several signals: torchrun hands on to its processes what the whole process group was sent.
    """
    asked = 0.0

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if session.stop and number == signal.SIGINT and time.monotonic() - asked > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        session.stop, asked = True, time.monotonic()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hardware(ranks: Ranks) -> str:
    if ranks.device.type == "cuda":
        return f"{ranks.world_size}x {torch.cuda.get_device_name(ranks.device)}"
    return f"{os.cpu_count()}-core CPU"


__all__ = ["CheckpointError", "Session", "train"]
