"""Generalised advantage estimation against its definition as a sum."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from memexp.ppo.advantage import gae


def gae_by_definition(rewards, values, dones, last_values, gamma, lam):
    """A_t = sum_l (gamma lam)^l delta_{t+l}, summed until the first episode end (equation 16 of the paper)."""
    n, horizon = rewards.shape
    following = torch.cat([values[:, 1:], last_values[:, None]], 1)
    advantages = torch.zeros_like(values)
    for i in range(n):
        for t in range(horizon):
            weight = 1.0
            for s in range(t, horizon):
                bootstrap = 0.0 if dones[i, s] else gamma * following[i, s]
                advantages[i, t] += weight * (rewards[i, s] + bootstrap - values[i, s])
                if dones[i, s]:
                    break
                weight *= gamma * lam
    return advantages


@given(
    st.integers(1, 4),
    st.integers(1, 12),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 10**6),
)
def test_gae_is_the_sum_of_its_definition(n, horizon, gamma, lam, end_share, seed):
    g = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, n, horizon, generator=g, dtype=torch.float64)
    dones = torch.rand(n, horizon, generator=g) < end_share
    last = torch.randn(n, generator=g, dtype=torch.float64)
    advantages, returns = gae(rewards, values, dones, last, gamma, lam)
    expected = gae_by_definition(rewards, values, dones, last, gamma, lam)
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, expected + values)


def test_nothing_flows_back_over_an_episode_end():
    rewards, values = torch.zeros(1, 4), torch.zeros(1, 4)
    dones = torch.tensor([[False, True, False, False]])
    rewards[0, 2] = 100.0
    advantages, _ = gae(rewards, values, dones, torch.tensor([100.0]), 0.9, 0.9)
    assert advantages[0, :2].tolist() == [0, 0]
    assert (advantages[0, 2:] > 0).all()
