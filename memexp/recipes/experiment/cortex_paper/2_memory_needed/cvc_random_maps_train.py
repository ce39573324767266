"""cvc_random_maps with a memory stack of choice."""

from typing import Literal

from memexp.cortex.config import CortexConfig
from memexp.curriculum.config import CurriculumConfig
from memexp.envs.config import CvcRandomMaps
from memexp.ppo.config import EvaluationConfig, TrainConfig, TrainerConfig


def train(
    num_cogs: int = 20,
    heart_buckets: bool = False,
    resource_buckets: bool = False,
    initial_inventory_buckets: bool = False,
    num_vibes: int = 16,
    pattern: str | list[str] = "X",
    d_hidden: int = 128,
    num_layers: int = 4,
    n_heads: int = 4,
    mem_len: int = 0,
    curriculum: Literal["learning_progress", "uniform"] = "learning_progress",
) -> TrainConfig:
    """Train on cvc_random_maps: many agents assemble hearts and deposit them.

    `memexp list envs --knobs` tells of the other knobs: map size, numbers of objects, protocols, episode length, ...
    """
    return TrainConfig(
        env=CvcRandomMaps(
            num_cogs=num_cogs,
            heart_buckets=heart_buckets,
            resource_buckets=resource_buckets,
            initial_inventory_buckets=initial_inventory_buckets,
            num_vibes=num_vibes,
        ),
        cortex=CortexConfig(
            pattern=pattern, d_hidden=d_hidden, num_layers=num_layers, n_heads=n_heads, mem_len=mem_len
        ),
        curriculum=CurriculumConfig(kind=curriculum, num_active_tasks=2000, max_memory_tasks=3000),
        trainer=TrainerConfig(total_timesteps=2_000_000_000, num_envs=512, horizon=256, num_minibatches=16),
        evaluation=EvaluationConfig(episodes=64, random_episodes=64, reference_episodes=64),
    )
