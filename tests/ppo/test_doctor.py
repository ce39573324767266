"""The parity gate: passes a policy that acts as it learns, and catches one that does not."""

import math

import pytest
import torch
from helpers.training import tiny, tiny_cvc

from memexp.cortex import stack
from memexp.cortex.blocks import PassThrough
from memexp.policy.model import Policy
from memexp.ppo.doctor import doctor


@pytest.mark.parametrize(
    ("pattern", "mem_len"), [("S", 0), ("X", 0), ("X", 3), ("X", 20), ("L", 0), ("Ag,helpers.own_cells:Nested", 0)]
)
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


class Sums(torch.nn.Module):
    """A newcomer's cell: a leaky sum of its inputs, which is wrong as `wrong` says."""

    def __init__(self, d_hidden, wrong):
        super().__init__()
        self.d_hidden, self.wrong = d_hidden, wrong

    def init_state(self, batch, device, dtype):
        return {"sum": torch.zeros(batch, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x, state, resets):
        if state is None and self.wrong != "none is a start":
            return x, {}
        total = torch.zeros_like(x[:, 0]) if state is None else state["sum"]
        outputs = []
        for t in range(x.shape[1]):
            if resets is not None and self.wrong not in ("no resets", f"no resets for {x.shape[1]}"):
                total = total.masked_fill(resets[:, t, None], 0)
            total = 0.9 * total + x[:, t]
            outputs.append(total)
        return torch.stack(outputs, 1), {} if state is None else {"sum": total}


@pytest.mark.parametrize("memory", ["on", "off"])
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("", "ok"),
        ("no resets", "a cell ignores resets"),
        ("no resets for 12", "the policy that acts is not the policy that learns (with memory on)"),
        ("no resets for 1", "the policy that acts is not the policy that learns (with memory on)"),
        ("none is a start", "the policy that acts is not the policy that learns (with memory off)"),
    ],
)
def test_a_cell_of_ones_own_that_is_wrong_is_caught_whichever_memory_is_asked_for(
    memory, wrong, told, monkeypatch, capsys
):
    monkeypatch.setitem(stack.TOKEN_BLOCKS, "L", lambda o: PassThrough(Sums(o.d_hidden, wrong)))
    report = doctor(tiny(cortex__pattern="L", cortex__memory=memory, trainer__horizon=12))
    report.print()
    assert report.ok == (not wrong)
    assert told in capsys.readouterr().out


def test_a_leak_that_is_not_finite_fails():
    report = doctor(tiny())
    report.reset_leak = math.nan
    assert not report.ok


@pytest.mark.parametrize(("gap", "leak", "told"), [(math.nan, 0.0, "NaN"), (1.0, 0.0, "not the policy that learns")])
def test_what_is_not_finite_is_called_so_and_nothing_else(gap, leak, told, capsys):
    report = doctor(tiny())
    report.gaps, report.reset_leak = dict.fromkeys(report.gaps, gap), leak or gap
    report.print()
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert told in failed[0]
    assert len(failed) == (1 if math.isnan(gap) else 2)
