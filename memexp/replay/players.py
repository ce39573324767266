"""Who plays: the random policy, a scripted player, or the policy of a run with what it thinks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memexp.envs.base import VecEnv
from memexp.envs.scripted import make_player
from memexp.policy.model import Policy
from memexp.ppo.config import TrainConfig
from memexp.ppo.evaluate import held_out_noise
from memexp.ppo.trainer import autocast

TOP = 5
"""Actions of which the probability is kept."""
PER_MILLE = 1000


class Thoughts(NamedTuple):
    """What a policy thinks before a step, of every agent."""

    choices: np.ndarray
    """int32 [N, K]: the most probable actions, the most probable first; K = min(TOP, number of actions)."""
    chances: np.ndarray
    """int32 [N, K]: their probabilities in thousandths, rounded down."""
    values: np.ndarray
    """float32 [N]: the critic's estimate of the discounted return to come, to four digits."""


Player = Callable[[Tensor, Tensor], tuple[Tensor, Thoughts | None]]
"""(observations `[N, ...]`, resets `[N]`) -> actions `[N]` and, from a policy, its thoughts."""


def player_of(kind: str, env: VecEnv, seed: int) -> Player:
    """A player that needs no training, see memexp.envs.scripted. Raises UsageError for one that `env` does not have."""
    player = make_player(env, kind, seed)
    return lambda obs, resets: (player.act(obs, resets), None)


def policy_player(
    config: TrainConfig, weights: dict[str, Tensor], env: VecEnv, seed: int, greedy: bool = False
) -> Player:
    """The policy of a run as it acts in evaluation; `greedy`: it takes the most probable action instead of a sample."""
    cortex = config.cortex.model_copy(update={"compile": False})  # it would take longer than the episode
    policy = Policy(env.observation, env.actions, cortex, config.policy)
    policy.load_state_dict(weights)
    state = policy.init_state(env.num_agents, env.device)
    worlds = max(1, config.evaluation.episodes)
    noise = held_out_noise(seed, env, 0, worlds * env.num_agents)

    @torch.no_grad()
    def play(obs: Tensor, resets: Tensor) -> tuple[Tensor, Thoughts]:
        nonlocal state
        with autocast(config.trainer.precision, env.device):
            logits, values, state = policy(obs, state, resets)
        actions = policy.actions.mode(logits) if greedy else policy.actions.sample(logits, noise.sample())
        return actions, _thoughts(logits, values)

    return play


def _thoughts(logits: Tensor, values: Tensor) -> Thoughts:
    chances, choices = logits.softmax(-1).topk(min(TOP, logits.shape[-1]))
    thousandths = (chances.double() * PER_MILLE).floor()
    return Thoughts(choices.int().numpy(), thousandths.int().numpy(), _four_digits(values.float().numpy()))


def _four_digits(numbers: np.ndarray) -> np.ndarray:
    """float32 numbers rounded to 12 bits of mantissa: the lowest bits would take half the room and mean nothing."""
    return ((numbers.view(np.int32) + 0x400) & ~0x7FF).view(np.float32)
