"""Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, equations 11 and 16)."""

import torch
from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, dones: Tensor, last_values: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of segments.

    rewards `[N, T]`; where step t was truncated the reward already contains gamma * V(true last observation).
    values `[N, T]` of the observations acted on. dones `[N, T]` bool: the episode ended with step t, terminated or
    truncated: nothing flows back over it. last_values `[N]`: value of the observation after the segment.
    Returns advantages `[N, T]` and returns `[N, T]` = advantages + values.
    """
    going_on = (~dones).to(values.dtype)
    next_values = torch.cat([values[:, 1:], last_values[:, None]], dim=1)
    deltas = rewards + gamma * next_values * going_on - values
    decay = gamma * gae_lambda * going_on
    advantages = torch.empty_like(values)
    running = torch.zeros_like(last_values)
    for t in reversed(range(values.shape[1])):
        running = deltas[:, t] + decay[:, t] * running
        advantages[:, t] = running
    return advantages, advantages + values
