"""A session: the part of a run that one process trains, from its start or resume to its end.

The loop is here. The trainer makes the updates (trainer.py), the record keeps metrics and episodes (record.py), the
saver writes checkpoints (saver.py), and signals and lost ranks end it (shutdown.py, distributed.py).
"""

import os
import time
import traceback
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from memexp.config import UsageError
from memexp.console import say
from memexp.envs.base import EnvError
from memexp.envs.origin import code_of
from memexp.ppo.checkpoint import load_latest
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import RankLostError, Ranks, RankWatchdog, explain, report_failure, report_leaving
from memexp.ppo.evaluate import evaluate_all
from memexp.ppo.record import RunRecord
from memexp.ppo.saver import DiskFullError, Saver, UnwritableError
from memexp.ppo.shutdown import Stopped, StopSignal, write_exit
from memexp.ppo.timing import Profiler
from memexp.ppo.trainer import Trainer
from memexp.runs import RESTART, Exit, Run
from memexp.runs.directory import ExitStatus
from memexp.runs.identity import refuse_other_code
from memexp.runs.writer import LockedError, Writer

MARGIN_S = 2.0
"""Seconds of the warning time that are left for the process to end."""
AFTER_LOSS_S = 10.0
"""Seconds that the disk may take after another rank has failed: torchrun kills the others after 30."""
RECENT_ITERATIONS = 20
"""Iterations of the loop whose longest tells how long one may take."""


class Agreement(NamedTuple):
    """What all ranks know alike after an update: the largest value of each."""

    stop: float  # 1: a signal asked a rank to stop
    due: float  # 1: it is time for a checkpoint
    busy: float  # 1: a checkpoint is still being written
    iteration_s: float  # of the longest recent iteration
    save_s: float  # of the latest checkpoint


class Session:
    """Trains, records and saves until the run ends. Every rank has one; the first rank's writes the run directory."""

    def __init__(self, config: TrainConfig, path: Path, ranks: Ranks, argv: list[str]):
        self.ranks, self.argv = ranks, argv
        self.trainer = Trainer(config, ranks)
        self.config = config = self.trainer.config
        try:
            refuse_other_code(Run(path), code_of(self.trainer.env.modules, config.cortex.pattern), config.force)
        except UsageError:
            self.trainer.close()
            raise
        self.profiler = Profiler(path / "profile", config.trainer.profile if ranks.is_first else 0, ranks.device)
        try:
            self.writer = Writer(Run(path).lock if ranks.is_first else None)
        except LockedError:
            raise UsageError(f"run '{path.name}' is running in another process") from None
        self.run = Run(path, self.writer)
        self.record = RunRecord(self.run, config, ranks)
        self.saver = Saver(self.run.checkpoints, ranks, self.writer, self.record.display.print_line)
        if self.writer.has_lease:
            self.record.display.print_line(f"the file system of {path} has no locks: a lease takes their place")
        self.stop = StopSignal()
        self.watchdog = RankWatchdog(ranks, config.trainer.rank_timeout_seconds, self.end_process)
        self.evaluated_at = 0  # agent steps
        self.iteration_s: deque[float] = deque(maxlen=RECENT_ITERATIONS)
        self.together = True
        """Whether all ranks are at the same place of the loop."""

    def train(self) -> Exit:
        """The whole session; returns how the run ended. Raises what prevents the run from beginning."""
        begun = False
        try:
            with self.stop, self.watchdog, self.record:
                try:
                    self.begin()
                    begun = True
                    self.loop()
                    self.save_last()
                    if self.trainer.finished:
                        return self.finish("completed", f"reached {self.config.trainer.total_timesteps} agent steps")
                    return self.finish("preempted", "told to stop by a signal")
                except Stopped:  # the other ranks get signals of their own
                    self.together = False
                    report_leaving(self.ranks)
                    when = "within an update" if begun else "before the first update"
                    return self.finish("preempted", f"told to stop by a signal, {when}")
                except RankLostError as error:
                    self.together = False
                    return self.finish(*explain(self.ranks, error, self.stop.requested))
                except Exception as error:
                    if not begun:
                        raise
                    self.together = False
                    return self.fail(error)
        except Exception as error:
            report_failure(self.ranks, f"{type(error).__name__}: {error}")
            raise
        finally:
            self.writer.leave()
            self.trainer.close()

    def begin(self) -> None:
        """Restore the latest checkpoint, if there is one; delete what was recorded after it; write run.json."""
        checkpoint, problems = load_latest(self.run.checkpoints, self.ranks)
        state = checkpoint.shared["session"] if checkpoint else None
        if checkpoint and state:
            self.trainer.restore(checkpoint)
            self.evaluated_at = state["evaluated_at"]
            self.saver.resume_from(self.trainer.agent_steps)
        self.record.resume(state, self.trainer.agent_steps, self.trainer.updates)
        if problems and self.ranks.is_first:
            for line in [*problems, f"going on from {self.trainer.agent_steps} agent steps"]:
                self.record.display.print_line(line)
        random_steps = sum(self.ranks.gather(self.trainer.env.random_steps))
        with self.stop.interrupts(True):
            self.record.begin(self.trainer, self.argv, random_steps)
            self.ranks.wait_for_first()
        self.record.open_loggers(self.trainer.agent_steps)

    def loop(self) -> None:
        """Updates until the run is finished or a signal asks it to stop."""
        hyper, saved_at = self.config.trainer, time.monotonic()
        agreed = self.agree(due=False)
        while not self.trainer.finished and not agreed.stop:
            began = time.monotonic()
            with self.stop.interrupts(self._is_urgent(agreed)):
                line = self.update_and_measure()
            self.saver.poll()
            self.record.log(line | self.saver.metrics())
            self.iteration_s.append(time.monotonic() - began)
            agreed = self.agree(due=time.monotonic() - saved_at >= hyper.checkpoint_minutes * 60)
            self.watchdog.beat()
            if (agreed.due or self._is_urgent(agreed)) and not agreed.busy:
                saved_at = time.monotonic()
                self.save()
        self.watchdog.rest()

    def update_and_measure(self) -> dict[str, Any]:
        """One training step, its episodes and, if it is due, an evaluation, as one line of metrics."""
        metrics = self.profiler.run(self.trainer.train_step)
        steps, episodes = self.trainer.agent_steps, self.trainer.pop_episodes()
        line = self.record.line(steps, metrics, episodes)
        line |= {f"curriculum/{name}": value for name, value in self.trainer.tasks.stats().items()}
        plan = self.config.evaluation
        due = self.trainer.finished or 0 < plan.every <= steps - self.evaluated_at
        if plan.episodes + plan.suite_episodes > 0 and due:
            self.evaluated_at = steps
            line |= evaluate_all(self.config, self.trainer.policy, self.ranks, self.trainer.cast)
        return line

    def agree(self, due: bool) -> Agreement:
        """Every rank calls this after each update, so that all stop, and all save, after the same one."""
        longest_s = max(self.iteration_s, default=0.0)
        mine = [float(self.stop.requested), float(due), float(self.saver.busy), longest_s, self.saver.duration_s]
        return Agreement(*self.ranks.max(torch.tensor(mine, dtype=torch.float64, device=self.ranks.device)).tolist())

    def save(self) -> None:
        """Begin a checkpoint, after the metrics and episodes that belong to it."""
        self.record.save()
        checkpoint = self.trainer.checkpoint()
        checkpoint.shared["session"] = self.record.state_dict() | {"evaluated_at": self.evaluated_at}
        self.saver.begin(checkpoint)

    def save_last(self) -> None:
        """Save the present state, unless it is saved."""
        self.saver.wait(self._patience_s())
        agreed = self.agree(due=self.saver.saved != self.trainer.agent_steps)
        if agreed.due and not agreed.busy:
            self.save()

    def fail(self, error: Exception) -> Exit:
        """End the run because of `error`, which the other ranks get to know."""
        if not isinstance(error, FloatingPointError | UnwritableError | EnvError | UsageError):
            traceback.print_exc()
        reason = f"update {self.trainer.updates + 1}: {type(error).__name__}: {error}"
        report_failure(self.ranks, reason)
        if isinstance(error, DiskFullError):
            self.saver.remove_unfinished()
        return self.finish("failed", reason)

    def finish(self, status: ExitStatus, reason: str, writes_exit: bool | None = None) -> Exit:
        """Wait for the disk, then write exit.json. Without its last checkpoint on the disk no run is completed.

        writes_exit: whether this rank writes exit.json; by default the first one does.
        """
        try:
            self.saver.wait(self._patience_s())
        except UnwritableError as error:
            also = f"{reason}; {error}" if str(error) not in reason else reason
            status, reason = "failed", also if status == "failed" else str(error)
        if status != "failed" and self.saver.saved != self.trainer.agent_steps:
            status, reason = "preempted", f"{reason}; the newest checkpoint is of {self.saver.saved or 0} agent steps"
        outcome = self._exit(status, reason)
        if self.ranks.is_first if writes_exit is None else writes_exit:
            write_exit(self.run, self.writer, outcome)
        if self.record.loggers:
            self.record.loggers.status = status
        return outcome

    def end_process(self, status: ExitStatus, reason: str, writes_exit: bool) -> None:
        """End the process from the watchdog's thread, while the main thread waits for ranks that do not answer."""
        if writes_exit:
            with suppress(RuntimeError):  # the writer has ended: the process must end all the same
                write_exit(self.run, self.writer, self._exit(status, reason))
        say(f"memexp: {self.run.name} {status}: {reason}", error=True)
        os._exit(RESTART if status == "preempted" else 1)

    def _exit(self, status: ExitStatus, reason: str) -> Exit:
        return Exit(status=status, reason=reason, agent_steps=self.trainer.agent_steps, wall_s=self.record.wall_s())

    def _is_urgent(self, agreed: Agreement) -> bool:
        """Whether an update and a checkpoint may take longer than the warning before the machine ends."""
        return agreed.iteration_s + agreed.save_s > self.config.trainer.preemption_seconds

    def _patience_s(self) -> float:
        """Seconds that the disk may take from now on."""
        hyper = self.config.trainer
        if self.stop.requested:
            return max(0.0, self.stop.left_s(hyper.preemption_seconds) - MARGIN_S)
        return hyper.exit_seconds if self.together else min(hyper.exit_seconds, AFTER_LOSS_S)
