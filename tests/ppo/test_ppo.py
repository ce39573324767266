"""Each part of the update: advantages, minibatches, losses, gradients, the optimiser step."""

import copy

import pytest
import torch
from helpers.training import tiny
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from memexp.ppo.config import TrainerConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.ppo import Gradients, GuardedStep, gae, losses, minibatches, normalise, total_loss
from memexp.ppo.trainer import Trainer

CPU = torch.device("cpu")


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


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 2, 3]), st.integers(0, 1000))
def test_minibatches_of_all_ranks_together_are_those_of_one_rank(groups, count, world_size, seed):
    share = groups * count
    whole = minibatches(share * world_size, count, torch.Generator().manual_seed(seed), Ranks(0, 1, CPU))
    parts = [
        minibatches(share, count, torch.Generator().manual_seed(seed), Ranks(rank, world_size, CPU)) + rank * share
        for rank in range(world_size)
    ]
    together = torch.cat(parts, dim=1)
    assert torch.equal(together.sort(1).values, whole.sort(1).values)
    assert sorted(whole.flatten().tolist()) == list(range(share * world_size))


def test_normalised_advantages_have_mean_zero_and_unit_spread():
    a = normalise(torch.randn(64, 32) * 7 + 3, Ranks(0, 1, CPU))
    assert abs(a.mean()) < 1e-5
    assert abs(a.std() - 1) < 1e-3


def test_equal_advantages_become_zero_not_nan():
    assert normalise(torch.full((4, 4), 3.0), Ranks(0, 1, CPU)).abs().max() == 0


def test_a_lone_mistake_among_equal_returns_weighs_no_more_than_the_clip():
    advantages = torch.zeros(64, 32)
    advantages[0, 0] = -1
    assert normalise(advantages, Ranks(0, 1, CPU)).min() < -40
    assert normalise(advantages, Ranks(0, 1, CPU), clip=5).min() == -5


def one_loss(ratio, advantage, config=None):
    log_ratio = torch.tensor([[ratio]]).log().requires_grad_()
    zero = torch.zeros(1, 1)
    parts = losses(
        torch.zeros(1, 1, 4),
        log_ratio,
        zero,
        zero,
        torch.tensor([[advantage]]),
        zero,
        config or TrainerConfig(clip=0.2),
    )
    parts[0].backward()
    return parts, log_ratio.grad.item()


def test_no_gradient_pushes_the_ratio_further_out_of_the_clip_range():
    assert one_loss(1.5, +1.0)[1] == 0
    assert one_loss(0.5, -1.0)[1] == 0


def test_the_gradient_brings_the_ratio_back_into_the_clip_range():
    assert one_loss(1.5, -1.0)[1] > 0
    assert one_loss(0.5, +1.0)[1] < 0


def test_a_uniform_policy_has_entropy_ln_actions_and_an_unchanged_one_no_divergence():
    parts, _ = one_loss(1.0, 1.0)
    assert abs(parts[2].item() - torch.log(torch.tensor(4.0)).item()) < 1e-6
    assert parts[3].item() == 0
    assert parts[4].item() == 0


def test_the_value_clip_takes_the_worse_of_both_errors():
    config = TrainerConfig(value_clip=0.1)
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    parts = losses(torch.zeros(1, 1, 2), zero, one, zero, zero, one, config)
    assert abs(parts[1].item() - 0.5 * 0.9**2) < 1e-6


def test_the_total_loss_adds_the_value_loss_and_subtracts_the_entropy():
    config = TrainerConfig(value_coefficient=0.5, entropy_coefficient=0.01)
    assert total_loss(torch.tensor([2.0, 3.0, 5.0, 7.0, 11.0]), config).item() == pytest.approx(2 + 1.5 - 0.05)


def test_nothing_of_a_backward_pass_is_left_for_the_capture_of_the_next_as_a_cuda_graph():
    """A parameter's gradient is added up on the stream of the first pass that is still held; a capture may use none but
    its own."""
    trainer = Trainer(tiny(), Ranks(0, 1, torch.device("cpu")))
    trainer.train_step()
    assert not trainer.learner._sums.requires_grad


class Twins(Ranks):
    """Two ranks that have the same gradients."""

    def sum(self, tensor):
        return tensor.mul_(2)


def loss_of(model, scale=1.0):
    return scale * model(torch.ones(1, 3)).square().sum()


def model_with_gradients(scale=1.0):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    loss_of(model, scale).backward()
    return model


def test_ranks_add_up_all_gradients_at_once_and_a_missing_one_is_zero():
    model = model_with_gradients()
    model.unused = nn.Parameter(torch.ones(2))
    alone = [p.grad.clone() for p in (model.weight, model.bias)]
    gradients = Gradients(model.parameters(), Twins(0, 2, CPU))
    for _ in range(2):  # the buffer is used again
        gradients.backward(loss_of(model))
        gradients.all_reduce()
        for p, grad in zip((model.weight, model.bias), alone, strict=True):
            assert torch.equal(p.grad, 2 * grad)
        assert model.unused.grad.abs().sum() == 0
        assert torch.isclose(gradients.norm(), 2 * torch.cat([grad.flatten() for grad in alone]).norm())


def test_a_guarded_step_is_that_of_clipped_gradients():
    mine, plain = model_with_gradients(100.0), model_with_gradients(100.0)
    gradients = Gradients(mine.parameters(), Ranks(0, 1, CPU))
    gradients.backward(loss_of(mine, 100.0))
    norm = gradients.norm()
    assert norm > 10
    GuardedStep(torch.optim.AdamW(mine.parameters(), 0.1, weight_decay=0.1, fused=True), CPU).step(norm, 0.5)
    nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    torch.optim.AdamW(plain.parameters(), 0.1, weight_decay=0.1).step()
    for a, b in zip(mine.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(("growth", "far"), [(None, (20, 40)), (1.5, (0, 3))])
def test_a_large_gradient_after_many_small_ones_moves_weights_no_further_than_the_usual_size_may_grow(growth, far):
    weight = nn.Parameter(torch.zeros(1))
    guard = GuardedStep(torch.optim.AdamW([weight], 1.0, weight_decay=0, fused=True), CPU, growth)
    for number in range(3000):
        weight.grad = torch.tensor([1e-3 * (-1) ** number])
        guard.step(weight.grad.norm(), 1.0)
    before = weight.item()
    for size in [1.0] + [0.0] * 50:
        weight.grad = torch.tensor([size])
        guard.step(weight.grad.norm(), 1.0)
    assert far[0] < before - weight.item() < far[1]


def test_the_usual_size_of_a_norm_grows_with_norms_that_stay_large():
    weight = nn.Parameter(torch.zeros(1))
    guard = GuardedStep(torch.optim.AdamW([weight], 1.0, fused=True), CPU, 1.5)
    for size, steps in ((1e-3, 100), (0.1, 600)):
        for _ in range(steps):
            weight.grad = torch.tensor([size])
            guard.step(weight.grad.norm(), 1.0)
        assert guard.usual.item() == pytest.approx(size, rel=0.02)


def test_a_thousand_steps_without_gradients_hold_back_those_that_follow_for_a_while_only():
    weight = nn.Parameter(torch.zeros(1))
    guard = GuardedStep(torch.optim.AdamW([weight], 1.0, fused=True), CPU, 1.5)
    scales = []
    for size, steps in ((0.0, 1000), (1.0, 600)):
        for _ in range(steps):
            weight.grad = torch.tensor([size])
            guard.step(weight.grad.norm(), 1.0)
            scales.append(guard.optimizer.grad_scale.item())
    assert scales[1000] > 500
    assert scales[-1] == pytest.approx(1)


def test_from_a_norm_that_is_not_finite_on_no_step_touches_weights_or_the_optimisers_state():
    model = model_with_gradients()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, fused=True, weight_decay=0.1)
    guard = GuardedStep(optimizer, CPU)
    guard.step(torch.tensor(1.0), 1.0)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    for norm in (float("nan"), 1.0, float("inf")):
        model.weight.grad.fill_(norm)
        guard.step(torch.tensor(norm), 1.0)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    for number, kept in state["state"].items():
        for name, value in kept.items():
            assert torch.equal(value, optimizer.state_dict()["state"][number][name])
