"""Run directories with a known truth: what a trainer would have written, without training."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from helpers.synthetic_truths import BUDGET

from memexp.runs import Exit, Run, RunInfo


def rising(
    final: float, start: float = 0.0, updates: int = 40, noise: float = 0.0, seed: int = 0, half: float = 0.2
) -> np.ndarray:
    """[updates] returns that rise from `start` to `final`, half of it after the share `half` of the budget.

    The last fifth is flat at `final`, so that the final window's mean is `final` but for the noise.
    """
    at = (np.arange(updates) + 1) / updates
    curve = start + (final - start) / (1 + np.exp(-(at - half) * 20))
    curve[at > 0.8] = final
    return curve + noise * np.random.default_rng(seed).standard_normal(updates)


def write_run(
    folder: Path,
    arm: str,
    seed: int,
    returns: Any,
    *,
    env: str = "world",
    name: str | None = None,
    budget: int = BUDGET,
    reached: float = 1.0,
    status: str | None = "completed",
    precision: str = "float32",
    gap: float | None = 1e-6,
    columns: dict[str, Any] | list[dict[str, Any]] | None = None,
    **info: Any,
) -> Run:
    """One run directory. `arm` ends in '~' for a twin; `reached` is the share of the budget that the curve spans.

    `status` None: still running. `columns` adds to, or replaces, columns of
    metrics.jsonl: one dictionary for all lines, or one a line.
    """
    safe = re.sub(r"\W", "", arm.replace("~", "_off"))
    run = Run(folder / (name or f"{env}_{safe}.s{seed}"))
    memory = "off" if arm.endswith("~") else "on"
    known = {"matrix": "test", "pattern": "S", "mem_len": 16, "random_return": 0.0, "ceiling_return": 1.0}
    known = {**known, "total_timesteps": budget, "memory": memory, **info}
    run.write_info(RunInfo(run=run.name, env=env, arm=arm, seed=seed, **known))
    run.write_config({"trainer": {"precision": precision}})
    steps = (np.linspace(0, reached * budget, len(returns) + 1)[1:]).astype(int)
    extra = columns if isinstance(columns, list) else [columns or {}] * len(returns)
    lines = [
        {
            "agent_steps": int(at),
            "wall_s": float(at) / 1000,
            "sps": 1000.0,
            "episode/return": float(value),
            "episode/count": 10,
            "consistency/max_logprob_gap": gap,
            **more,
        }
        for at, value, more in zip(steps, returns, extra, strict=True)
    ]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if status is not None:
        run.finish(Exit(status=status, reason="" if status == "completed" else "because", agent_steps=int(steps[-1])))  # type: ignore[arg-type]
    return run


def write_arm(folder: Path, arm: str, finals: Any, **options: Any) -> list[Run]:
    """One finished run a seed, whose final returns are exactly `finals`."""
    return [write_run(folder, arm, seed, rising(final), **options) for seed, final in enumerate(finals)]


def write_matrix(folder: Path, arms: dict[str, Any], **options: Any) -> list[Run]:
    """Several arms: {arm: finals}."""
    return [run for arm, finals in arms.items() for run in write_arm(folder, arm, finals, **options)]
