"""The parity gate: passes a policy that acts as it learns, and catches one that does not."""

import pytest
from helpers.training import tiny, tiny_cvc

from memexp.policy.model import Policy
from memexp.ppo.doctor import doctor


@pytest.mark.parametrize(("pattern", "mem_len"), [("S", 0), ("X", 0), ("X", 3), ("X", 20), ("L", 0)])
@pytest.mark.parametrize("memory", ["on", "off"])
def test_every_stack_acts_as_it_learns(pattern, mem_len, memory):
    config = tiny(cortex__pattern=pattern, cortex__mem_len=mem_len, cortex__memory=memory, trainer__horizon=12)
    report = doctor(config)
    assert report.ok
    assert report.max_logprob_gap < 1e-4
    assert report.resets_inside > 10
    assert report.entropy_share < 0.8


@pytest.mark.parametrize("pattern", ["S", "X"])
def test_worlds_of_many_agents_pass_too(pattern):
    report = doctor(tiny_cvc(cortex__pattern=pattern, cortex__mem_len=4, trainer__horizon=12, env__max_steps=8))
    assert report.ok
    assert report.max_logprob_gap < 1e-4
    assert report.resets_inside > 10


@pytest.mark.parametrize("pattern", ["S", "X", "L"])
def test_a_learning_pass_that_ignores_episode_ends_is_caught(pattern, monkeypatch):
    real = Policy.forward

    def forgetful(self, obs, state, resets):
        return real(self, obs, state, resets & False if resets.dim() == 2 else resets)

    monkeypatch.setattr(Policy, "forward", forgetful)
    report = doctor(tiny(cortex__pattern=pattern, trainer__horizon=12))
    assert not report.ok
    assert report.max_logprob_gap > 1e-2


def test_a_learning_pass_that_is_not_finite_is_caught(monkeypatch, capsys):
    real = Policy.forward

    def broken(self, obs, state, resets):
        logits, values, state = real(self, obs, state, resets)
        return logits * float("nan") if resets.dim() == 2 else logits, values, state

    monkeypatch.setattr(Policy, "forward", broken)
    report = doctor(tiny())
    assert not report.ok
    report.print()
    assert "FAILED" in capsys.readouterr().out
