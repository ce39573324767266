"""Recipes: functions from arguments to the config of a run. `memexp list recipes` shows them."""

from memexp.config import override
from memexp.ppo.config import TrainConfig
from memexp.recipes.any import train


def colour(delay: int = 4, always: bool = False, pattern: str = "S", mem_len: int = 16) -> TrainConfig:
    """Name the colour that was shown `delay` steps ago."""
    options = {"delay": delay, "always": always}
    config = train(
        env="envs:Colour", options=options, ceiling_return=1.0, pattern=pattern, mem_len=mem_len, d_hidden=32
    )
    return override(config, {"trainer.horizon": 16, "trainer.learning_rate": 3e-3})
