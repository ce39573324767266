"""Encoders for other people's observations: statistics that change only when told to, and every shape through."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from memexp.cortex.config import CortexConfig
from memexp.policy.config import PolicyConfig
from memexp.policy.encoder import build_encoder
from memexp.policy.gym_encoders import RunningNorm, build_gym_encoder, update_statistics
from memexp.policy.model import Policy
from memexp.spaces import CategoriesSpace, CellsSpace, ImageSpace, Part, StructSpace, TextSpace, VectorSpace


def alone(tensor):
    """The total over one rank."""
    return tensor


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 10**6))
@settings(max_examples=20)
def test_statistics_do_not_depend_on_how_observations_are_portioned(portions, seed):
    x = 50 + 3 * torch.randn(sum(portions), 2, generator=torch.Generator().manual_seed(seed))
    norm = RunningNorm(2)
    for portion in x.split(portions):
        norm.update_statistics(portion, alone)
    assert torch.allclose(norm.mean, x.double().mean(0))
    assert torch.allclose(norm.squares / norm.count, x.double().var(0, unbiased=False))
    if len(x) > 5:
        assert norm(x).mean().abs() < 1e-4


def test_ranks_note_what_one_rank_would():
    x, whole, half = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), RunningNorm(3), RunningNorm(3)
    whole.update_statistics(x, alone)
    other = iter([torch.tensor(4.0), x[4:].double().sum(0), (x[4:].double() - x.double().mean(0)).square().sum(0)])
    half.update_statistics(x[:4], lambda mine: mine + next(other))
    for a, b in zip(whole.buffers(), half.buffers(), strict=True):
        assert torch.allclose(a, b)


def test_what_never_changed_says_nothing_and_what_is_far_off_is_bounded():
    norm = RunningNorm(2)
    norm.update_statistics(torch.tensor([[1.0, 0.0], [1.0, 2.0]]), alone)
    assert norm(torch.tensor([[1.0, 1e9]])).tolist() == [[0, 10]]
    assert norm(torch.tensor([[1.0, -1e9]])).tolist() == [[0, -10]]
    assert norm(torch.tensor([[1 + 2**-10, 1.0]]))[0, 0].item() == 1000 / 1024  # enlarged a thousand times at most


def test_numbers_are_normalised_by_mean_and_deviation_of_all_that_was_seen():
    x = np.random.default_rng(0).normal([5.0, -300.0], [0.1, 40.0], (60, 2)).astype(np.float32)
    norm = RunningNorm(2)
    assert norm(torch.tensor([[0.5, -20.0]])).tolist() == [[0.5, -10]]  # nothing was seen yet
    for part in np.split(x, [7, 30]):
        norm.update_statistics(torch.from_numpy(part), alone)
    expected = (x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)
    np.testing.assert_allclose(norm(torch.from_numpy(x)).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_scale_of_a_vector_or_an_image_does_not_matter_once_it_was_seen():
    x = torch.rand(50, 12, 10, 3, generator=torch.Generator().manual_seed(0))
    for make, shape in (
        (lambda: build_gym_encoder(VectorSpace(360, normalise=True), 8, 4), (50, 360)),
        (lambda: build_gym_encoder(ImageSpace((12, 10, 3)), 8, 4), x.shape),
    ):
        shown = []
        for obs in (x, 700 * x - 30):
            torch.manual_seed(0)
            encoder = make()
            encoder.update_statistics(obs.view(shape), alone)
            shown.append(encoder(obs.view(shape)))
        torch.testing.assert_close(*shown, rtol=1e-3, atol=1e-3)


def test_only_a_vector_of_unknown_scale_is_normalised():
    torch.manual_seed(0)
    scaled, raw = (build_encoder(VectorSpace(3, normalise=normalise), 8, 4) for normalise in (True, False))
    x = torch.tensor([[1.0, 2.0, 3.0]])
    torch.testing.assert_close(raw(x), raw[2](F.silu(raw[0](x))))
    update_statistics(raw, x, alone)  # has none
    update_statistics(scaled, torch.tensor([[0.0, 0.0, 0.0], [2.0, 8.0, 4.0]]), alone)
    torch.testing.assert_close(scaled(x), scaled.layers(torch.tensor([[0.0, -0.5, 0.5]])))


def test_every_category_has_a_vector_of_its_own():
    torch.manual_seed(0)
    encoder = build_gym_encoder(CategoriesSpace((3, 5)), 8, 4)
    vectors = encoder.vectors.weight
    for i, j in ((0, 0), (2, 0), (0, 4), (2, 4)):
        torch.testing.assert_close(
            encoder(torch.tensor([[i, j]])), encoder.out(F.silu(vectors[[i]] + vectors[[3 + j]]))
        )


def test_every_channel_of_a_cell_has_vectors_of_its_own():
    torch.manual_seed(0)
    encoder = build_gym_encoder(CellsSpace((4, 3, 2)), 8, 4)
    obs = torch.randint(256, (1, 4, 3, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    names = encoder.names.weight
    sums = names[obs[..., 0].long()] + names[256 + obs[..., 1].long()]
    torch.testing.assert_close(encoder(obs), encoder.layers(sums.movedim(-1, 1)))


def test_a_text_is_a_bag_of_words_and_one_in_which_later_words_weigh_more():
    torch.manual_seed(0)
    encoder = build_gym_encoder(TextSpace(5, 9), 8, 4)
    a, b, c = ([1, 9], [5, 2], [9, 9])
    text = torch.tensor([[a, b, c, [0, 0], [0, 0]]], dtype=torch.int16)
    vector = encoder.vectors.weight
    words = torch.stack([vector[i] + vector[j] for i, j in (a, b, c)])
    bags = torch.cat([words.mean(0), (words * torch.tensor([[1], [2], [3]]) / 3).mean(0)])
    torch.testing.assert_close(encoder(text), encoder.out(F.silu(bags))[None])
    empty = torch.zeros_like(text)
    torch.testing.assert_close(encoder(empty), encoder.out.bias[None])


def test_channels_may_come_first_or_last():
    obs, encoders = torch.rand(5, 20, 30, 4, generator=torch.Generator().manual_seed(0)), []
    for space in (ImageSpace((20, 30, 4)), ImageSpace((4, 20, 30), channels_first=True)):
        torch.manual_seed(0)
        encoders.append(build_gym_encoder(space, 8, 4))
    last, first = encoders
    last.update_statistics(obs, alone)
    first.update_statistics(obs.movedim(-1, 1), alone)
    torch.testing.assert_close(last(obs), first(obs.movedim(-1, 1)))


def test_all_parts_of_a_dict_are_read_normalised_and_encoded():
    """Bytes written by numpy: two float32, an int32 category, a map of 2 x 2 cells."""
    vector = np.array([[1.0, -4.0], [3.0, 8.0]], np.float32)
    category, cells = np.array([[2], [0]], np.int32), np.array([[1, 0, 7, 255], [3, 3, 9, 0]], np.uint8)
    rows = [vector[i].tobytes() + category[i].tobytes() + cells[i].tobytes() for i in range(2)]
    obs = torch.tensor([list(row) for row in rows], dtype=torch.uint8)
    torch.manual_seed(0)
    encoder = build_gym_encoder(SPACES["struct"][0], 8, 4)
    encoder.update_statistics(obs, alone)
    assert encoder.encoders[0].norm.mean.tolist() == [2.0, 2.0]
    parts = (torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), torch.tensor(category), torch.tensor(cells).view(2, 2, 2, 1))
    encoders = (encoder.encoders[0].layers, *encoder.encoders[1:])
    encoded = torch.cat([one(part) for one, part in zip(encoders, parts, strict=True)], 1)
    torch.testing.assert_close(encoder(obs), encoder.out(F.silu(encoded)))


def test_noting_many_pixels_takes_no_memory_to_speak_of():
    noting = """if True:
        import resource, torch
        from memexp.policy.gym_encoders import RunningNorm
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before, norm = peak(), RunningNorm(3)
        norm.update_statistics(torch.ones(1, 3, dtype=torch.uint8).expand(20_000_000, 3), lambda mine: mine)
        print((peak() - before) // 1024, norm.mean.tolist(), norm.count.item())"""
    said = subprocess.run([sys.executable, "-c", noting], capture_output=True, text=True, check=True).stdout
    megabytes, rest = said.split(maxsplit=1)
    assert int(megabytes) < 300  # as float64 they are 480
    assert rest.split() == ["[1.0,", "1.0,", "1.0]", "20000000.0"]


DRAWN = torch.Generator().manual_seed(0)
SPACES = {
    "vector": (VectorSpace(3, normalise=True), torch.randn(6, 3, generator=DRAWN)),
    "names": (CategoriesSpace((3, 5)), torch.tensor([[2, 4]] * 6)),
    "cells": (CellsSpace((7, 5, 3)), torch.randint(256, (6, 7, 5, 3), dtype=torch.uint8, generator=DRAWN)),
    "image": (ImageSpace((40, 30, 3)), torch.randint(256, (6, 40, 30, 3), dtype=torch.uint8, generator=DRAWN)),
    "channels first": (
        ImageSpace((4, 20, 30), channels_first=True),
        torch.randint(256, (6, 4, 20, 30), generator=DRAWN).byte(),
    ),
    "tiny image": (ImageSpace((3, 3, 1)), torch.rand(6, 3, 3, 1, generator=DRAWN)),
    "text": (TextSpace(4, 9), torch.tensor([[[1, 9], [5, 2], [0, 0], [0, 0]], [[0, 0]] * 4] * 3, dtype=torch.int16)),
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
                torch.randn(6, 2, generator=DRAWN).view(torch.uint8),
                torch.tensor([[1]] * 6, dtype=torch.int32).view(torch.uint8),
                torch.randint(256, (6, 4), dtype=torch.uint8, generator=DRAWN),
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
        policy.update_statistics(obs[None], alone)


@pytest.mark.parametrize("kind", ["vector", "image", "struct"])
def test_statistics_are_part_of_the_weights(kind):
    space, obs = SPACES[kind]
    policy, other = (Policy(space, 3, CortexConfig(pattern="S", d_hidden=16), PolicyConfig()) for _ in range(2))
    policy.update_statistics(obs[None], alone)
    other.load_state_dict(policy.state_dict())
    resets = torch.ones(6, dtype=torch.bool)
    shown = [p(obs, p.init_state(6, torch.device("cpu")), resets)[1] for p in (policy, other)]
    assert torch.equal(*shown)
