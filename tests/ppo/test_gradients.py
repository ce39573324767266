"""Gradients of all parameters as one, and steps that nothing but finite gradients take."""

import copy

import pytest
import torch
from torch import nn

from memexp.ppo.distributed import Ranks
from memexp.ppo.gradients import Gradients, GuardedStep

CPU = torch.device("cpu")


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
        gradients.of(loss_of(model))
        gradients.sum()
        for p, grad in zip((model.weight, model.bias), alone, strict=True):
            assert torch.equal(p.grad, 2 * grad)
        assert model.unused.grad.abs().sum() == 0
        assert torch.isclose(gradients.norm(), 2 * torch.cat([grad.flatten() for grad in alone]).norm())


def test_a_guarded_step_is_that_of_clipped_gradients():
    mine, plain = model_with_gradients(100.0), model_with_gradients(100.0)
    gradients = Gradients(mine.parameters(), Ranks(0, 1, CPU))
    gradients.of(loss_of(mine, 100.0))
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
