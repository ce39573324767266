"""Control environments. It is known whether they require memory, so they test whether memexp answers correctly."""

from memexp.cortex.config import CortexConfig
from memexp.envs.config import ChainRecall, DelayedCue, TMaze, TMazeCue
from memexp.ppo.config import TrainConfig, TrainerConfig


def tmaze(
    length: int = 6,
    cue_steps: int = 1,
    pattern: str | list[str] = "S",
    mem_len: int = 16,
    d_hidden: int = 32,
    num_layers: int = 1,
    n_heads: int = 4,
) -> TrainConfig:
    """T-maze whose cue is visible in the first steps only: requires memory."""
    return _control(TMaze(length=length, cue_steps=cue_steps), pattern, mem_len, d_hidden, num_layers, n_heads)


def tmaze_cue(
    length: int = 6,
    pattern: str | list[str] = "S",
    mem_len: int = 16,
    d_hidden: int = 32,
    num_layers: int = 1,
    n_heads: int = 4,
) -> TrainConfig:
    """T-maze whose cue stays visible: requires no memory."""
    return _control(TMazeCue(length=length), pattern, mem_len, d_hidden, num_layers, n_heads)


def chain_recall(
    k: int = 4,
    num_symbols: int = 4,
    episode_length: int = 64,
    pattern: str | list[str] = "S",
    mem_len: int = 16,
    d_hidden: int = 32,
    num_layers: int = 1,
    n_heads: int = 4,
) -> TrainConfig:
    """Repeat the symbol of k steps ago: requires a memory of k steps."""
    env = ChainRecall(k=k, num_symbols=num_symbols, episode_length=episode_length)
    return _control(env, pattern, mem_len, d_hidden, num_layers, n_heads)


def delayed_cue(
    delay: int = 16,
    share: float = 0.15,
    pattern: str | list[str] = "S",
    mem_len: int = 16,
    d_hidden: int = 32,
    num_layers: int = 1,
    n_heads: int = 4,
) -> TrainConfig:
    """Name each symbol, and in the end the cue of the start: only `share` of the return requires memory."""
    return _control(DelayedCue(delay=delay, share=share), pattern, mem_len, d_hidden, num_layers, n_heads)


def _control(
    env: TMaze | TMazeCue | ChainRecall | DelayedCue,
    pattern: str | list[str],
    mem_len: int,
    d_hidden: int,
    num_layers: int,
    n_heads: int,
) -> TrainConfig:
    return TrainConfig(
        env=env,
        cortex=CortexConfig(
            pattern=pattern, mem_len=mem_len, d_hidden=d_hidden, num_layers=num_layers, n_heads=n_heads
        ),
        trainer=TrainerConfig(
            total_timesteps=100_000,
            num_envs=64,
            horizon=32,
            learning_rate=2e-3,
            gamma=0.95,
            advantage_clip=5,
            target_kl=0.02,
            threads=1,
        ),
    )
