"""Distributions over actions: what they sample is what their log-probabilities say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.policy.actions import Spread, build_actions
from memexp.spaces import ContinuousActions, DiscreteActions, MultiDiscreteActions


@given(st.lists(st.integers(2, 4), min_size=1, max_size=3), st.integers(0, 10**6))
@settings(max_examples=20)
def test_probabilities_of_all_joint_choices_add_up_to_one_and_give_the_entropy(counts, seed):
    actions = build_actions(MultiDiscreteActions(tuple(counts)))
    outputs = torch.randn(actions.num_outputs, generator=torch.Generator().manual_seed(seed)).double()
    every = torch.cartesian_prod(*(torch.arange(n) for n in counts)).view(-1, len(counts))
    log_p = actions.log_prob(outputs.expand(len(every), -1), every)
    assert log_p.exp().sum().item() == pytest.approx(1)
    assert actions.entropy(outputs).item() == pytest.approx(-(log_p.exp() * log_p).sum().item())


def test_several_choices_are_sampled_as_often_as_their_probabilities_say():
    actions = build_actions(MultiDiscreteActions((2, 3)))
    outputs, n = torch.tensor([0.0, 1.0, 0.5, -1.0, 0.0]), 60_000
    drawn = actions.sample(outputs.expand(n, -1), torch.rand(n, 2, generator=torch.Generator().manual_seed(0)))
    for choice in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        share = (drawn == choice).all(1).float().mean()
        assert share == pytest.approx(actions.log_prob(outputs[None], choice[None]).exp().item(), abs=0.01)


def test_one_choice_of_several_is_a_choice():
    one, several = build_actions(DiscreteActions(4)), build_actions(MultiDiscreteActions((4,)))
    outputs, uniform = torch.randn(9, 4), torch.rand(9)
    drawn = one.sample(outputs, uniform)
    assert torch.equal(drawn, several.sample(outputs, uniform[:, None]).squeeze(1))
    assert torch.equal(one.log_prob(outputs, drawn), several.log_prob(outputs, drawn[:, None]))


def test_continuous_actions_agree_with_torchs_normal_distribution():
    actions = build_actions(ContinuousActions(2))
    outputs = torch.tensor([0.3, -0.2, math.log(0.5), math.log(2.0)])
    normal = torch.distributions.Normal(torch.tensor([0.3, -0.2]), torch.tensor([0.5, 2.0]))
    uniform = torch.rand(50_000, 2, generator=torch.Generator().manual_seed(0))
    drawn = actions.sample(outputs.expand(50_000, -1), uniform)
    assert torch.allclose(drawn, normal.icdf(uniform.clamp(1e-7, 1 - 1e-7)), atol=1e-3)
    assert torch.allclose(actions.log_prob(outputs.expand(50_000, -1), drawn), normal.log_prob(drawn).sum(1), atol=1e-4)
    assert actions.entropy(outputs).item() == pytest.approx(normal.entropy().sum().item())
    assert torch.isfinite(actions.sample(outputs.expand(2, -1), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))).all()


def test_deviations_are_learnt_and_shared_by_all_observations():
    head = Spread(2)
    outputs = head(torch.zeros(5, 2))
    build_actions(ContinuousActions(2)).entropy(outputs).sum().backward()
    assert head.log_std.grad.tolist() == [5, 5]
