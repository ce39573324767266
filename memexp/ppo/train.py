"""One training run from its config to its exit; the process that Session lives in."""

import torch

from memexp.config import UsageError
from memexp.ppo.checkpoint import CheckpointError
from memexp.ppo.config import RESUMABLE, TrainConfig
from memexp.ppo.distributed import join, leave
from memexp.ppo.malloc import keep_freed_memory
from memexp.ppo.run_init import record_failure
from memexp.ppo.session import Session
from memexp.runs import Exit, Run
from memexp.runs.identity import refuse_another_experiment
from memexp.runs.wandb_sink import resolve_mode


def train(config: TrainConfig, *, argv: list[str] | None = None) -> Exit:
    """Run `config` (which must have a name in `config.run`) to its end, or resume it; returns how it ended.

    Under torchrun every rank calls this. Raises UsageError when the config cannot run or differs from the one that the
    run of this name was started with, CheckpointError when it has checkpoints but none can be read, OSError when the
    run directory cannot be read or begun.
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
    ranks = join(config.trainer.device, 2 * config.trainer.rank_timeout_seconds)
    session = None
    try:
        session = Session(config, run.path, ranks, argv or [])
        outcome = session.play()
    except Exception as error:
        if session or not isinstance(error, UsageError):  # else the words are wrong: nothing has begun
            record_failure(run, ranks, error, session.trainer.updates if session else 0)
        raise
    if session.together:  # else leaving would wait for ranks that do not come
        leave()
    return outcome


__all__ = ["CheckpointError", "train"]
