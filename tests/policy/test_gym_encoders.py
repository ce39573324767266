"""Encoders for other people's observations: statistics that change only when told to, and every shape through."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.cortex.config import CortexConfig
from memexp.policy.config import PolicyConfig
from memexp.policy.gym_encoders import RunningNorm
from memexp.policy.model import Policy
from memexp.spaces import CategoriesSpace, CellsSpace, ImageSpace, Part, StructSpace, VectorSpace


def alone(tensor):
    """The total over one rank."""
    return tensor


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 10**6))
@settings(max_examples=20)
def test_statistics_do_not_depend_on_how_observations_are_portioned(portions, seed):
    x = 50 + 3 * torch.randn(sum(portions), 2, generator=torch.Generator().manual_seed(seed))
    norm = RunningNorm(2)
    for portion in x.split(portions):
        norm.note(portion, alone)
    assert torch.allclose(norm.mean, x.double().mean(0))
    assert torch.allclose(norm.squares / norm.count, x.double().var(0, unbiased=False))
    if len(x) > 5:
        assert norm(x).mean().abs() < 1e-4


def test_ranks_note_what_one_rank_would():
    x, whole, half = torch.randn(8, 3), RunningNorm(3), RunningNorm(3)
    whole.note(x, alone)
    other = iter([torch.tensor(4.0), x[4:].double().sum(0), (x[4:].double() - x.double().mean(0)).square().sum(0)])
    half.note(x[:4], lambda mine: mine + next(other))
    for a, b in zip(whole.buffers(), half.buffers(), strict=True):
        assert torch.allclose(a, b)


def test_what_never_changed_says_nothing_and_what_is_far_off_is_bounded():
    norm = RunningNorm(2)
    norm.note(torch.tensor([[1.0, 0.0], [1.0, 2.0]]), alone)
    assert norm(torch.tensor([[1.0, 1e9]])).tolist() == [[0, 10]]


def test_noting_many_pixels_takes_no_memory_to_speak_of():
    noting = """if True:
        import resource, torch
        from memexp.policy.gym_encoders import RunningNorm
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before, norm = peak(), RunningNorm(3)
        norm.note(torch.ones(1, 3, dtype=torch.uint8).expand(20_000_000, 3), lambda mine: mine)
        print((peak() - before) // 1024, norm.mean.tolist(), norm.count.item())"""
    said = subprocess.run([sys.executable, "-c", noting], capture_output=True, text=True, check=True).stdout
    megabytes, rest = said.split(maxsplit=1)
    assert int(megabytes) < 300  # as float64 they are 480
    assert rest.split() == ["[1.0,", "1.0,", "1.0]", "20000000.0"]


SPACES = {
    "vector": (VectorSpace(3, normalise=True), torch.randn(6, 3)),
    "names": (CategoriesSpace((3, 5)), torch.tensor([[2, 4]] * 6)),
    "cells": (CellsSpace((7, 5, 3)), torch.randint(256, (6, 7, 5, 3), dtype=torch.uint8)),
    "image": (ImageSpace((40, 30, 3)), torch.randint(256, (6, 40, 30, 3), dtype=torch.uint8)),
    "channels first": (ImageSpace((4, 20, 30), channels_first=True), torch.randint(256, (6, 4, 20, 30)).byte()),
    "tiny image": (ImageSpace((3, 3, 1)), torch.rand(6, 3, 3, 1)),
    "struct": (
        StructSpace(
            (
                Part("a", VectorSpace(2, normalise=True), 0, (2,), "float32"),
                Part("b", CategoriesSpace((3,)), 8, (1,), "int32"),
                Part("c", CellsSpace((2, 2, 1)), 12, (2, 2, 1), "uint8"),
            ),
            16,
        ),
        torch.cat(
            [
                torch.randn(6, 2).view(torch.uint8),
                torch.tensor([[1]] * 6, dtype=torch.int32).view(torch.uint8),
                torch.randint(256, (6, 4), dtype=torch.uint8),
            ],
            1,
        ),
    ),
}


@pytest.mark.parametrize("kind", SPACES)
def test_acting_and_learning_see_the_same_before_and_after_observations_are_noted(kind):
    space, obs = SPACES[kind]
    torch.manual_seed(0)
    policy = Policy(space, 3, CortexConfig(pattern="S", d_hidden=16, num_layers=1), PolicyConfig())
    resets = torch.zeros(1, 6, dtype=torch.bool)
    for _ in range(2):
        state, rows = policy.init_state(1, torch.device("cpu")), []
        for t in range(6):
            logits, _, state = policy(obs[t : t + 1], state, resets[:, t])
            rows.append(logits)
        whole, _, _ = policy(obs[None], policy.init_state(1, torch.device("cpu")), resets)
        assert torch.allclose(torch.stack(rows, 1), whole, atol=1e-5)
        policy.note(obs[None], alone)


@pytest.mark.parametrize("kind", ["vector", "image", "struct"])
def test_statistics_are_part_of_the_weights(kind):
    space, obs = SPACES[kind]
    policy, other = (Policy(space, 3, CortexConfig(pattern="S", d_hidden=16), PolicyConfig()) for _ in range(2))
    policy.note(obs[None], alone)
    other.load_state_dict(policy.state_dict())
    resets = torch.ones(6, dtype=torch.bool)
    shown = [p(obs, p.init_state(6, torch.device("cpu")), resets)[1] for p in (policy, other)]
    assert torch.equal(*shown)
