"""What a run writes before its first update: run.json, config.yaml, provenance, levels to compare returns with; or
exit.json, where it does not come so far."""

import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from memexp.envs.config import GRID_GAMES, SCRIPTED
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.progress import counting
from memexp.ppo.rank_watchdog import report_failure
from memexp.ppo.reference import Reference, reference
from memexp.ppo.trainer import Trainer
from memexp.runs import Exit, Run, RunInfo
from memexp.runs.provenance import provenance
from memexp.runs.writer import Writer

LAST_WORD_S = 5.0
"""Seconds that exit.json is waited for."""
_LEVELS = {"random_return", "random_funnel", "ceiling_return", "memoryless_return", "oracle_return"}
"""Fields of RunInfo that are measured before the first update."""


def write_start(run: Run, trainer: Trainer, ranks: Ranks, argv: list[str], say: Callable[[str], None]) -> None:
    """run.json, config.yaml and provenance.json; measures the levels the first time."""
    config, labels = trainer.config, trainer.config.labels
    run.write_config(config.model_dump())
    run.write_provenance(provenance(argv, str(ranks.device), ranks.world_size))
    run.write_info(
        RunInfo(
            run=run.name,
            matrix=labels.matrix,
            env=labels.env or config.env.name,
            arm=config.arm,
            pattern=config.cortex.pattern,
            mem_len=config.cortex.mem_len,
            memory=config.cortex.memory,
            seed=config.seed,
            recipe=config.recipe,
            total_timesteps=config.trainer.total_timesteps,
            hardware=labels.hardware or _hardware(ranks),
            price_per_hour=labels.price_per_hour,
            memory_span=trainer.env.memory_span,
            num_actions=trainer.env.num_actions or None,
            **_levels(run, config, trainer.env.ceiling_return, say),
        )
    )


def record_failure(run: Run, ranks: Ranks, error: Exception, updates: int) -> None:
    """exit.json of a run that failed outside its updates, of which it had made so many (the error goes on), unless
    another process works on it.

    The other ranks are told.
    """
    reason = f"{f'after update {updates}' if updates else 'before the first update'}: {type(error).__name__}: {error}"
    report_failure(ranks, reason)
    if not ranks.is_first:
        return
    with suppress(OSError, RuntimeError):  # what is told is the error, not that it cannot be written down
        last = run.last_metrics() or {}
        reached, took = last.get("agent_steps", 0), last.get("wall_s", 0.0)
        writer = Writer(run.lock)
        Run(run.path, writer).finish(Exit(status="failed", reason=reason, agent_steps=reached, wall_s=took))
        for _ in writer.finish(LAST_WORD_S):
            pass
        writer.leave()


def _levels(run: Run, config: TrainConfig, ceiling: float | None, say: Callable[[str], None]) -> dict[str, Any]:
    """What players that do not learn reach: as run.json has it, else measured. Scripted players with one seed for all
    runs; the random policy with the run's own, so that its spread is known."""
    plan, world = config.evaluation, config.env

    def measured(player: str, episodes: int, seed: int) -> Reference:
        tell = counting(say, f"measuring the player '{player}'", episodes, "episodes")
        return reference(world, player, episodes, seed, tell)

    levels: dict[str, Any] = {"ceiling_return": ceiling}
    if run.exists():
        levels |= run.info.model_dump(include=_LEVELS, exclude_none=True)
    if plan.random_episodes and "random_return" not in levels:
        random = measured("random", plan.random_episodes, config.seed)
        levels |= {"random_return": random.mean, "random_funnel": random.funnel or None}
    if plan.reference_episodes and world.name in GRID_GAMES and "oracle_return" not in levels:
        say(f"measuring scripted players, {plan.reference_episodes} episodes each (once for these knobs)")
        means = [measured(player, plan.reference_episodes, 0).mean for player in SCRIPTED]
        memoryless, memory, oracle = itertools.accumulate(means, max)  # who knows more can do as who knows less
        levels |= {"memoryless_return": memoryless, "oracle_return": oracle}
        levels["ceiling_return"] = levels["ceiling_return"] or memory
    return levels


def _hardware(ranks: Ranks) -> str:
    if ranks.device.type == "cuda":
        return f"{ranks.world_size}x {torch.cuda.get_device_name(ranks.device)}"
    return f"{os.cpu_count()}-core CPU"
