"""Who acts in a replay: the random policy, a scripted policy, or the policy of a run with its predictions."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memexp.envs.base import VecEnv
from memexp.envs.scripted import make_scripted_policy
from memexp.ppo.config import TrainConfig
from memexp.ppo.evaluate import held_out_noise
from memexp.ppo.horizon import policy_with
from memexp.ppo.trainer import autocast

TOP = 5
"""Number of actions whose probability is kept."""
PER_MILLE = 1000


class Predictions(NamedTuple):
    """The outputs of a policy before a step, for each agent. K = min(TOP, number of actions)."""

    choices: np.ndarray  # int32 [N, K]: the most probable actions, the most probable first
    chances: np.ndarray  # int32 [N, K]: their probabilities in thousandths, rounded down
    values: np.ndarray  # float32 [N]: the critic's value, to four digits


Actor = Callable[[Tensor, Tensor], tuple[Tensor, Predictions | None]]
"""(observations `[N, ...]`, resets `[N]`) -> actions `[N]` and, from the policy of a run, its predictions."""


def scripted_actor(kind: str, env: VecEnv, seed: int) -> Actor:
    """An actor without training, see memexp.envs.scripted. Raises UsageError for a kind that `env` does not have."""
    scripted = make_scripted_policy(env, kind, seed)
    return lambda obs, resets: (scripted.act(obs, resets), None)


def run_actor(config: TrainConfig, weights: dict[str, Tensor], env: VecEnv, seed: int, greedy: bool = False) -> Actor:
    """The policy of a run as it acts in evaluation; `greedy`: the most probable action instead of a sample."""
    policy = policy_with(config, env, weights, env.device)
    state = policy.init_state(env.num_agents, env.device)
    rows = max(1, config.evaluation.episodes) * env.num_agents
    noise = held_out_noise(seed, env, 0, rows)

    @torch.no_grad()
    def play(obs: Tensor, resets: Tensor) -> tuple[Tensor, Predictions]:
        nonlocal state
        with autocast(config.trainer.precision, env.device):
            logits, values, state = policy(obs, state, resets)
        actions = policy.actions.mode(logits) if greedy else policy.actions.sample(logits, noise.sample())
        return actions, _predictions(logits, values)

    return play


def _predictions(logits: Tensor, values: Tensor) -> Predictions:
    chances, choices = logits.softmax(-1).topk(min(TOP, logits.shape[-1]))
    thousandths = (chances.double() * PER_MILLE).floor()
    return Predictions(choices.int().numpy(), thousandths.int().numpy(), _four_digits(values.float().numpy()))


def _four_digits(numbers: np.ndarray) -> np.ndarray:
    """float32 numbers rounded to 12 bits of mantissa. The lower bits would double the size of the page."""
    return ((numbers.view(np.int32) + 0x400) & ~0x7FF).view(np.float32)
