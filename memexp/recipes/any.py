"""Any environment: from Gymnasium's registry, from a module, or from PettingZoo."""

import re
from typing import Any

from memexp.cortex.config import CortexConfig
from memexp.envs.config import ThirdParty
from memexp.ppo.config import Labels, TrainConfig, TrainerConfig


def train(
    env: str = "gym:CartPole-v1",
    options: dict[str, Any] | None = None,
    wrappers: list[str] | None = None,
    max_steps: int | None = None,
    reward_scale: float = 1.0,
    ceiling_return: float | None = None,
    solved_return: float | None = None,
    reading: str | dict[str, str] | None = None,
    pattern: str | list[str] = "S",
    mem_len: int = 32,
    d_hidden: int = 64,
    num_layers: int = 1,
    n_heads: int = 4,
) -> TrainConfig:
    """Train on env=gym:CartPole-v1, on any other Gymnasium or PettingZoo environment (docs/your-environment.md)."""
    environment = ThirdParty(
        id=env,
        options=options or {},
        wrappers=wrappers or [],
        max_steps=max_steps,
        reward_scale=reward_scale,
        ceiling_return=ceiling_return,
        reading=reading,  # type: ignore[arg-type]
    )
    return TrainConfig(
        env=environment,
        cortex=CortexConfig(
            pattern=pattern, mem_len=mem_len, d_hidden=d_hidden, num_layers=num_layers, n_heads=n_heads
        ),
        trainer=TrainerConfig(
            total_timesteps=1_000_000,
            num_envs=64,
            horizon=32,
            num_minibatches=8,
            update_epochs=4,
            learning_rate=1e-3,
            gamma=0.99,
            advantage_clip=5,
            target_kl=0.03,
            threads=1,
        ),
        labels=Labels(
            env=re.sub(r"[^A-Za-z0-9.-]+", "-", env.rpartition(":")[2]),
            solved_return=solved_return,
        ),
    )
