"""Distributions over actions: what they sample is what their log-probabilities say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions

from memexp.policy.actions import AppendLogStd, build_actions, only_allowed
from memexp.spaces import ContinuousActions, DiscreteActions, MultiDiscreteActions


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.integers(2, 4), min_size=1, max_size=3), st.integers(0, 10**6))
@settings(max_examples=20)
def test_probabilities_of_all_joint_choices_add_up_to_one_and_give_the_entropy(counts, seed):
    actions = build_actions(MultiDiscreteActions(tuple(counts)))
    outputs = torch.randn(actions.num_outputs, generator=generator(seed)).double()
    every = torch.cartesian_prod(*(torch.arange(n) for n in counts)).view(-1, len(counts))
    log_p = actions.log_prob(outputs.expand(len(every), -1), every)
    assert log_p.exp().sum().item() == pytest.approx(1)
    assert actions.entropy(outputs).item() == pytest.approx(-(log_p.exp() * log_p).sum().item())


def test_one_choice_agrees_with_torchs_categorical_distribution():
    actions, outputs = build_actions(DiscreteActions(5)), 2 * torch.randn(30, 5, generator=generator())
    theirs = distributions.Categorical(logits=outputs)
    chosen = torch.randint(5, (30,), generator=generator())
    torch.testing.assert_close(actions.log_prob(outputs, chosen), theirs.log_prob(chosen))
    torch.testing.assert_close(actions.entropy(outputs), theirs.entropy())
    assert torch.equal(actions.mode(outputs), theirs.mode)
    assert (actions.num_outputs, actions.max_entropy) == (5, pytest.approx(math.log(5)))


def test_several_choices_agree_with_independent_categorical_distributions():
    actions, outputs = build_actions(MultiDiscreteActions((2, 3))), 2 * torch.randn(30, 5, generator=generator())
    theirs = [distributions.Categorical(logits=outputs[:, :2]), distributions.Categorical(logits=outputs[:, 2:])]
    chosen = torch.stack([torch.randint(n, (30,), generator=generator()) for n in (2, 3)], 1)
    log_p = sum(one.log_prob(choice) for one, choice in zip(theirs, chosen.unbind(1), strict=True))
    torch.testing.assert_close(actions.log_prob(outputs, chosen), log_p)
    torch.testing.assert_close(actions.entropy(outputs), sum(one.entropy() for one in theirs))
    assert torch.equal(actions.mode(outputs), torch.stack([one.mode for one in theirs], 1))
    assert (actions.num_outputs, actions.max_entropy) == (5, pytest.approx(math.log(6)))


def test_a_choice_is_the_inverse_of_its_distribution_function():
    actions, outputs = build_actions(DiscreteActions(3)), torch.tensor([0.25, 0.5, 0.25]).log()
    uniform = torch.tensor([0.0, 0.2, 0.3, 0.7, 0.8, 1 - 2**-24])
    assert actions.sample(outputs.expand(6, -1), uniform).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_choice_of_probability_zero_is_never_drawn():
    outputs = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    for uniform in (0.0, 0.5, 1 - 2**-24):
        assert build_actions(DiscreteActions(3)).sample(outputs, torch.tensor([uniform])).item() == 1


def test_a_uniform_number_above_all_that_rounding_left_is_the_last_choice():
    outputs, below_one = torch.zeros(1, 10), torch.tensor([1 - 2**-24])  # 10 times the float 0.1 may be less than that
    assert build_actions(DiscreteActions(10)).sample(outputs, below_one).item() == 9
    assert build_actions(DiscreteActions(10)).sample(outputs, torch.ones(1)).item() == 9


def test_several_choices_are_sampled_as_often_as_their_probabilities_say():
    actions = build_actions(MultiDiscreteActions((2, 3)))
    outputs, n = torch.tensor([0.0, 1.0, 0.5, -1.0, 0.0]), 60_000
    drawn = actions.sample(outputs.expand(n, -1), torch.rand(n, 2, generator=generator()))
    p, q = outputs[:2].softmax(0), outputs[2:].softmax(0)
    for i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        share = (drawn == torch.tensor([i, j])).all(1).float().mean()
        assert share == pytest.approx((p[i] * q[j]).item(), abs=0.01)


def test_one_choice_of_several_is_a_choice():
    one, several = build_actions(DiscreteActions(4)), build_actions(MultiDiscreteActions((4,)))
    outputs, uniform = torch.randn(9, 4, generator=generator()), torch.rand(9, generator=generator())
    drawn = one.sample(outputs, uniform)
    assert torch.equal(drawn, several.sample(outputs, uniform[:, None]).squeeze(1))
    assert torch.equal(one.log_prob(outputs, drawn), several.log_prob(outputs, drawn[:, None]))


def test_continuous_actions_agree_with_torchs_normal_distribution():
    mean, std = torch.tensor([0.3, -0.2, 1.0]), torch.tensor([0.5, 3.0, 0.9])  # log stds that do not add up to 0
    actions, outputs = build_actions(ContinuousActions(3)), torch.cat([mean, std.log()])
    normal = distributions.Independent(distributions.Normal(mean, std), 1)
    uniform = torch.rand(50_000, 3, generator=generator())
    drawn = actions.sample(outputs.expand(50_000, -1), uniform)
    assert torch.allclose(drawn, normal.base_dist.icdf(uniform.clamp(1e-7, 1 - 1e-7)), atol=1e-3)
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std(0), std, rtol=0.02, atol=0)
    assert torch.allclose(actions.log_prob(outputs.expand(50_000, -1), drawn), normal.log_prob(drawn), atol=1e-4)
    assert actions.entropy(outputs).item() == pytest.approx(normal.entropy().item())
    assert torch.equal(actions.mode(outputs), mean)
    assert actions.num_outputs == 6
    assert torch.isfinite(actions.sample(outputs.expand(2, -1), torch.tensor([[0.0] * 3, [1.0] * 3]))).all()


def test_a_policy_starts_with_the_deviation_whose_entropy_is_the_largest():
    outputs = AppendLogStd(2)(torch.tensor([[0.1, -0.7]]))
    assert outputs.tolist() == [[pytest.approx(0.1), pytest.approx(-0.7), -0.5, -0.5]]
    first = distributions.Independent(distributions.Normal(torch.zeros(2), torch.tensor(-0.5).exp()).expand([2]), 1)
    assert build_actions(ContinuousActions(2)).max_entropy == pytest.approx(first.entropy().item())


def test_deviations_are_learnt_and_shared_by_all_observations_within_bounds():
    head = AppendLogStd(2)
    outputs = head(torch.zeros(5, 2))
    build_actions(ContinuousActions(2)).entropy(outputs).sum().backward()
    assert head.log_std.grad.tolist() == [5, 5]
    head.log_std.data = torch.tensor([-9.0, 9.0])
    assert head(torch.zeros(1, 2))[0, 2:].tolist() == [-5, 1]


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 1 - 2**-24, None]), st.booleans())
@settings(max_examples=60)
def test_forbidden_actions_have_probability_zero_and_the_others_what_they_have_among_themselves(seed, uniform, several):
    """Also where the sums of probabilities are rounded down, and where the last actions are forbidden."""
    space = MultiDiscreteActions((5, 3)) if several else DiscreteActions(8)
    actions, logits = build_actions(space, masked=True), 3 * torch.randn(50, 8, generator=generator(seed))
    allowed = torch.rand(50, 8, generator=generator(seed + 1)) < 0.5
    allowed[:, [1, 6]] = True  # something in each choice
    outputs = only_allowed(logits, allowed)
    rows = torch.full((50, *space.shape), uniform) if uniform is not None else torch.rand(50, *space.shape)
    for drawn in (actions.sample(outputs, rows), actions.mode(outputs)):
        columns = drawn.view(50, -1) + torch.tensor([0, 5] if several else [0])
        assert allowed.gather(1, columns).all()
    parts = zip(logits.split(space.counts if several else (8,), 1), allowed.split(space.counts if several else (8,), 1),
                actions.sample(outputs, rows).view(50, -1).unbind(1), strict=True)  # fmt: skip
    log_p = torch.zeros(50)
    entropy = torch.zeros(50)
    for part, mask, chosen in parts:
        p = part.exp() * mask
        p = p / p.sum(1, keepdim=True)
        log_p += p.gather(1, chosen[:, None])[:, 0].log()
        entropy -= torch.special.xlogy(p, p).sum(1)
    torch.testing.assert_close(actions.log_prob(outputs, actions.sample(outputs, rows)), log_p)
    torch.testing.assert_close(actions.entropy(outputs), entropy)


def test_where_nothing_is_forbidden_masked_actions_are_drawn_as_others():
    logits, uniform = 3 * torch.randn(5000, 7, generator=generator()), torch.rand(5000, generator=generator(1))
    masked, plain = build_actions(DiscreteActions(7), masked=True), build_actions(DiscreteActions(7))
    assert torch.equal(masked.sample(logits, uniform), plain.sample(logits, uniform))


def test_where_everything_is_forbidden_all_actions_are_equally_probable_and_teach_nothing():
    logits = torch.randn(1, 4, requires_grad=True)
    outputs = only_allowed(logits, torch.zeros(1, 4, dtype=torch.bool))
    log_p = build_actions(DiscreteActions(4), masked=True).log_prob(outputs, torch.tensor([2]))
    assert log_p.item() == pytest.approx(-math.log(4))
    log_p.backward()
    assert not logits.grad.any()
