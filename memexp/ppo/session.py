"""A session: one process's stretch of a run, from start or resume to its end, a signal or a failure."""

import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from memexp.config import UsageError
from memexp.envs.base import EnvError, Episodes, concatenated, episode_means
from memexp.ppo import checkpoint as checkpoints
from memexp.ppo.checkpoint import Checkpoint
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import RankLostError, Ranks
from memexp.ppo.evaluate import evaluate_all
from memexp.ppo.profile import Profiler
from memexp.ppo.progress import Progress
from memexp.ppo.rank_watchdog import Watch, explain, report_failure, report_leaving
from memexp.ppo.run_init import LAST_WORD_S, write_start
from memexp.ppo.saving import DiskFullError, Saver
from memexp.ppo.signals import Stop, Stopped
from memexp.ppo.trainer import Trainer
from memexp.runs import RESTART, Exit, Run
from memexp.runs.directory import ExitStatus
from memexp.runs.wandb_sink import WandbSink
from memexp.runs.writer import LockedError, Writer

MARGIN_S = 2.0
"""Seconds of the warning time that are left for the process to end."""
APART_S = 10.0
"""Seconds that the disk may take when another rank has failed: torchrun kills the others after 30."""
RECENT_TURNS = 20
"""Turns of the loop whose longest says how long one may take."""


class Agreed(NamedTuple):
    """What all ranks know alike after an update: the largest of each."""

    stop: float
    due: float
    busy: float
    turn_s: float
    save_s: float


class Session:
    """Trains, records and saves until the run ends. Every rank has one; the first one's writes the run directory."""

    def __init__(self, config: TrainConfig, path: Path, ranks: Ranks, argv: list[str]):
        self.config, self.ranks, self.argv = config, ranks, argv
        self.trainer = Trainer(config, ranks)
        self.profiler = Profiler(path / "profile", config.trainer.profile if ranks.is_first else 0, ranks.device)
        try:
            self.writer = Writer(Run(path).lock if ranks.is_first else None)
        except LockedError:
            raise UsageError(f"run '{path.name}' is running in another process") from None
        self.run = Run(path, self.writer)
        self.stop = Stop()
        self.watch = Watch(ranks, config.trainer.rank_timeout_seconds, self._end_now)
        self.part = 0  # number of the next part of episodes.parquet
        self.evaluated_at = 0
        self.wall_before = 0.0  # seconds of earlier stretches
        self.started = time.monotonic()
        self.last_line = (self.wall_s(), 0)
        self.unsaved: list[Episodes] = []
        self.turns: deque[float] = deque(maxlen=RECENT_TURNS)
        self.together = True  # all ranks are at the same place

    def wall_s(self) -> float:
        """Seconds trained so far, over all stretches."""
        return self.wall_before + time.monotonic() - self.started

    def play(self) -> Exit:
        """The whole session; returns how it ended."""
        try:
            with self.stop, self.watch, Progress(self.config, self.ranks) as progress:
                self.saver = Saver(self.run.checkpoints, self.ranks, self.writer, progress.say)
                try:
                    self._start(progress.say)
                    return self._recorded(progress) if self.ranks.is_first else self._loop(lambda line: None)
                except Stopped:
                    return self._give_up("before the first update")
                except RankLostError as error:
                    self.together = False
                    return self._finish(*explain(self.ranks, error, self.stop.asked))
        except Exception as error:
            report_failure(self.ranks, f"{type(error).__name__}: {error}")
            raise
        finally:
            self.writer.leave()
            self.trainer.close()

    def _recorded(self, progress: Progress) -> Exit:
        """The loop, with its metrics in the run directory, at W&B and on the terminal."""
        with WandbSink(self.run, self.config.model_dump(), self.config.wandb.model_dump()) as wandb:

            def record(line: dict[str, Any]) -> None:
                self.run.append_metrics(line)
                wandb.log(line)
                progress.show(line)

            outcome = self._loop(record)
            wandb.exit_code = int(outcome.status == "failed")
            return outcome

    def _start(self, say: Callable[[str], None]) -> None:
        restored, problems = checkpoints.load_latest(self.run.checkpoints, self.ranks)
        self._restore(restored)
        if self.ranks.is_first:
            for problem in problems:
                say(problem)
            if problems:
                say(f"going on from {self.trainer.agent_steps} agent steps")
        with self.stop.at_once(True):
            if self.ranks.is_first:
                write_start(self.run, self.trainer, self.ranks, self.argv, say)
            self.ranks.wait_for_first()

    def _restore(self, restored: Checkpoint | None) -> None:
        """Carry on from a checkpoint, if there is one, and forget what was written after it."""
        if restored:
            self.trainer.restore(restored)
            session = restored.shared["session"]
            self.part, self.wall_before = session["part"], session["wall_s"]
            self.evaluated_at = session["evaluated_at"]
            self.last_line = (self.wall_s(), self.trainer.agent_steps)
            self.saver.resume_from(self.trainer.agent_steps)
        if self.ranks.is_first:
            self.run.rewind(self.trainer.agent_steps, self.part)

    def _loop(self, record: Callable[[dict[str, Any]], None]) -> Exit:
        try:
            self._train(record)
            self.watch.rest()
            self._save_last()
            if self.trainer.finished:
                return self._finish("completed", f"reached {self.config.trainer.total_timesteps} agent steps")
            return self._finish("preempted", "told to stop by a signal")
        except Stopped:
            return self._give_up("within an update")
        except RankLostError:
            raise
        except Exception as error:
            self.together = False
            return self._fail(error)

    def _train(self, record: Callable[[dict[str, Any]], None]) -> None:
        """Updates until the run is finished or told to stop."""
        hyper, began = self.config.trainer, time.monotonic()
        agreed = self._agree(due=False)
        while not self.trainer.finished and not agreed.stop:
            turn = time.monotonic()
            with self.stop.at_once(self._in_a_hurry(agreed)):
                line = self._update_and_measure()
            self.saver.look()
            record(line | self.saver.metrics())
            self.turns.append(time.monotonic() - turn)
            agreed = self._agree(due=time.monotonic() - began >= hyper.checkpoint_minutes * 60)
            self.watch.beat()
            if (agreed.due or self._in_a_hurry(agreed)) and not agreed.busy:
                began = time.monotonic()
                self.save()

    def _in_a_hurry(self, agreed: Agreed) -> bool:
        """Whether an update and a checkpoint may take longer than the warning before the machine ends."""
        return agreed.turn_s + agreed.save_s > self.config.trainer.preemption_seconds

    def _agree(self, due: bool) -> Agreed:
        """Every rank calls this after each turn: all stop, and all save, after the same update."""
        turn_s = max(self.turns, default=0.0)
        mine = [float(self.stop.asked), float(due), float(self.saver.busy), turn_s, self.saver.took_s]
        return Agreed(*self.ranks.max(torch.tensor(mine, dtype=torch.float64, device=self.ranks.device)).tolist())

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
            line |= evaluate_all(self.config, self.trainer.policy, self.ranks, self.trainer.cast)
        return line

    def _evaluation_is_due(self) -> bool:
        plan = self.config.evaluation
        waited = self.trainer.agent_steps - self.evaluated_at
        return plan.episodes + plan.suite_episodes > 0 and (self.trainer.finished or 0 < plan.every <= waited)

    def save(self) -> None:
        """Begin a checkpoint, after the metrics and episodes that it has seen."""
        if self.ranks.is_first:
            self.run.sync_metrics()
        if self.unsaved:
            if self.ranks.is_first:
                self.run.append_episodes(self.part, concatenated(self.unsaved))
            self.part += 1
            self.unsaved = []
        point = self.trainer.checkpoint()
        point.shared["session"] = {"part": self.part, "wall_s": self.wall_s(), "evaluated_at": self.evaluated_at}
        self.saver.begin(point)

    def _save_last(self) -> None:
        """A checkpoint of this moment, unless there is one."""
        self.saver.wait(self._patience_s())
        agreed = self._agree(due=self.saver.saved != self.trainer.agent_steps)
        if agreed.due and not agreed.busy:
            self.save()

    def _patience_s(self) -> float:
        """Seconds that the disk may take from now on."""
        hyper = self.config.trainer
        if self.stop.asked:
            return max(0.0, self.stop.left_s(hyper.preemption_seconds) - MARGIN_S)
        return hyper.exit_seconds if self.together else min(hyper.exit_seconds, APART_S)

    def _give_up(self, when: str) -> Exit:
        """Leave at once, with what was under way; the other ranks have signals of their own."""
        self.together = False
        report_leaving(self.ranks)
        return self._finish("preempted", f"told to stop by a signal, {when}")

    def _fail(self, error: Exception) -> Exit:
        """Say what went wrong, here and to the other ranks."""
        if not isinstance(error, FloatingPointError | DiskFullError | EnvError):
            traceback.print_exc()
        reason = f"update {self.trainer.updates + 1}: {type(error).__name__}: {error}"
        report_failure(self.ranks, reason)
        if isinstance(error, DiskFullError):
            self.saver.remove_unfinished()
        return self._finish("failed", reason)

    def _finish(self, status: ExitStatus, reason: str, speaks: bool | None = None) -> Exit:
        """Wait for the disk, then write exit.json. A run whose last checkpoint is not on the disk is not completed.

        speaks: whether this rank writes it; by default the first one does.
        """
        try:
            self.saver.wait(self._patience_s())
        except DiskFullError as error:
            status, reason = "failed", f"{reason}; {error}" if status == "failed" else str(error)
        if status != "failed" and self.saver.saved != self.trainer.agent_steps:
            status, reason = "preempted", f"{reason}; the newest checkpoint is of {self.saver.saved or 0} agent steps"
        outcome = Exit(status=status, reason=reason, agent_steps=self.trainer.agent_steps, wall_s=self.wall_s())
        if self.ranks.is_first if speaks is None else speaks:
            self.run.finish(outcome)
            for answer in self.writer.finish(LAST_WORD_S):
                if answer.error and not answer.retried:
                    print(f"memexp: exit.json was not written: {answer.error}", file=sys.stderr)
        return outcome

    def _end_now(self, status: ExitStatus, reason: str, speaks: bool) -> None:
        """End the process from the watch's thread: the main thread is stuck among ranks that do not answer."""
        if speaks:
            steps = self.trainer.agent_steps
            self.run.finish(Exit(status=status, reason=reason, agent_steps=steps, wall_s=self.wall_s()))
            with suppress(RuntimeError):  # the writer has ended: the process must end all the same
                for _ in self.writer.finish(LAST_WORD_S):
                    pass
        print(f"memexp: {self.run.name} {status}: {reason}", file=sys.stderr, flush=True)
        os._exit(RESTART if status == "preempted" else 1)
