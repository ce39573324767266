"""assembly_lines with a memory stack of choice."""

from typing import Literal

from memexp.cortex.config import CortexConfig
from memexp.curriculum.config import CurriculumConfig
from memexp.envs.config import AssemblyLines, CurriculumStyle
from memexp.ppo.config import EvaluationConfig, TrainConfig, TrainerConfig


def train(
    curriculum_style: CurriculumStyle = "all_room_sizes",
    num_vibes: int = 16,
    pattern: str | list[str] = "X",
    d_hidden: int = 128,
    num_layers: int = 4,
    n_heads: int = 4,
    mem_len: int = 0,
    curriculum: Literal["learning_progress", "uniform"] = "learning_progress",
) -> TrainConfig:
    """Train on assembly_lines: one agent carries resources along a chain of stations."""
    return TrainConfig(
        env=AssemblyLines(curriculum_style=curriculum_style, num_vibes=num_vibes),
        cortex=CortexConfig(
            pattern=pattern, d_hidden=d_hidden, num_layers=num_layers, n_heads=n_heads, mem_len=mem_len
        ),
        curriculum=CurriculumConfig(kind=curriculum),
        trainer=TrainerConfig(total_timesteps=2_000_000_000, num_envs=1024, horizon=256, num_minibatches=16),
        evaluation=EvaluationConfig(episodes=512, reference_episodes=128),
    )
