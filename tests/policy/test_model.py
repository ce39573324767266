"""The policy: its initial weights and what its heads give out."""

import math

import pytest
import torch
from torch.nn import functional as F

from memexp.cortex.config import CortexConfig
from memexp.policy.config import PolicyConfig
from memexp.policy.model import Policy
from memexp.spaces import ContinuousActions, VectorSpace


def policy_of(seed: int, actions=3, **sizes: int) -> Policy:
    torch.manual_seed(seed)
    cortex = CortexConfig(pattern="S", d_hidden=16, num_layers=1)
    return Policy(VectorSpace(4), actions, cortex, PolicyConfig(**sizes))


def rows_of(policy: Policy, obs: torch.Tensor):
    """Logits and values of rows that are all first steps."""
    resets = torch.ones(len(obs), dtype=torch.bool)
    return policy(obs, policy.init_state(len(obs), torch.device("cpu")), resets)[:2]


def test_initial_weights_are_those_of_the_seed():
    one, same, other = (dict(policy_of(seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = [name for name in one if name.endswith("weight") and one[name].dim() > 1]
    assert {name.split(".")[0] for name in drawn} == {"encoder", "stack", "actor", "critic"}
    assert not any(torch.equal(one[name], other[name]) for name in drawn)


def test_the_first_policy_is_almost_uniform_and_the_first_values_are_not_almost_zero():
    policy, obs = policy_of(0), 3 * torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    logits, values = rows_of(policy, obs)
    assert (logits.softmax(-1) - 1 / 3).abs().max() < 0.02
    assert values.std() > 0.05
    for head, gain in ((policy.actor, 0.01), (policy.critic, 1.0)):
        last = head[-1]
        torch.testing.assert_close(last.weight @ last.weight.T, gain**2 * torch.eye(len(last.weight)))
        assert not last.bias.any()


def test_heads_are_two_layers_on_the_output_of_the_stack():
    policy, obs = policy_of(0), torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    for p in policy.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    resets, state = torch.ones(7, dtype=torch.bool), policy.init_state(7, torch.device("cpu"))
    y, _ = policy.stack(policy.encoder(obs), state, resets)
    logits, values, _ = policy(obs, state, resets)
    for out, head in ((logits, policy.actor), (values[:, None], policy.critic)):
        hidden = F.silu(y @ head[0].weight.T + head[0].bias)
        torch.testing.assert_close(out, hidden @ head[2].weight.T + head[2].bias)


def test_a_reset_clears_the_memory_and_else_it_matters():
    policy, obs = policy_of(0), torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    fresh, no = policy.init_state(5, torch.device("cpu")), torch.zeros(5, dtype=torch.bool)
    _, _, carried = policy(obs[0], fresh, no)
    first, _, _ = policy(obs[1], fresh, no)
    assert torch.equal(policy(obs[1], carried, ~no)[0], first)
    assert (policy(obs[1], carried, no)[0] != first).any(1).all()


@pytest.mark.parametrize(("d_encoder", "width"), [(None, 32), (24, 24)])
def test_widths_are_those_of_the_config(d_encoder, width):
    policy = policy_of(0, d_encoder=d_encoder, d_actor=5, d_critic=9)
    assert policy.encoder[0].weight.shape == (width, 4)
    assert (policy.actor[0].weight.shape, policy.critic[0].weight.shape) == ((5, 16), (9, 16))


def test_a_policy_of_continuous_actions_gives_means_and_the_first_deviation():
    policy = policy_of(0, ContinuousActions(2))
    logits, values = rows_of(policy, torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    assert (logits.shape, values.shape) == ((6, 4), (6,))
    assert logits[:, :2].abs().max() < 0.1
    assert logits[:, 2:].exp().tolist() == [[pytest.approx(math.exp(-0.5))] * 2] * 6


def test_under_bf16_values_and_logits_are_not_rounded_to_bf16():
    policy, obs = policy_of(0), torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        outs = rows_of(policy, obs)
    for out in outs:
        assert out.dtype == torch.float32
        assert (out != out.bfloat16().float()).float().mean() > 0.5
