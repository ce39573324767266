"""Evaluation: the same number however many ranks share it, by the policy that acts."""

from contextlib import nullcontext

import pytest
import torch
from helpers.training import tiny

from memexp.ppo.distributed import Ranks
from memexp.ppo.evaluate import evaluate
from memexp.ppo.trainer import Trainer

CPU = torch.device("cpu")


@pytest.mark.parametrize(("episodes", "world_size"), [(9, 2), (8, 4), (2, 3)])
def test_the_mean_over_the_shares_of_all_ranks_is_that_of_one_rank(episodes, world_size):
    config = tiny("chain_recall")
    policy = Trainer(config, Ranks(0, 1, CPU)).policy
    added = torch.tensor([0.0, 1.0], dtype=torch.float64)  # sum and number of returns; 1 keeps an empty share defined

    class OneOfMany(Ranks):
        def sum(self, tensor):
            return added.add_(tensor)

    def mean(ranks):
        return evaluate(policy, config.env, episodes, 5, ranks, nullcontext())

    for rank in range(world_size):
        mean(OneOfMany(rank, world_size, CPU))
    whole = mean(Ranks(0, 1, CPU))
    assert 0 < whole < 1
    assert added.tolist() == pytest.approx([whole * episodes, episodes + 1], abs=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_policy_is_evaluated_in_the_precision_it_acts_in(precision):
    config = tiny(trainer__precision=precision)
    trainer = Trainer(config, Ranks(0, 1, CPU))
    real, seen = trainer.policy.forward, []

    def watched(*arguments):
        seen.append(torch.is_autocast_enabled("cpu"))
        return real(*arguments)

    trainer.policy.forward = watched
    evaluate(trainer.policy, config.env, 4, 0, trainer.ranks, trainer.cast())
    assert set(seen) == {precision == "bf16"}
