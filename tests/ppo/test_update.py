"""Minibatches, normalisation and the clipped objective."""

import torch
from helpers.training import tiny
from hypothesis import given
from hypothesis import strategies as st

from memexp.ppo.config import TrainerConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.trainer import Trainer
from memexp.ppo.update import losses, minibatches, normalise

CPU = torch.device("cpu")


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


def test_nothing_of_a_backward_pass_is_left_for_the_capture_of_the_next_as_a_cuda_graph():
    """A parameter's gradient is added up on the stream of the first pass that is still held; a capture may use none but
    its own."""
    trainer = Trainer(tiny(), Ranks(0, 1, torch.device("cpu")))
    trainer.train_step()
    assert not trainer.learner._parts.requires_grad
