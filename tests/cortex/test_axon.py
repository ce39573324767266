"""Axon's traces carry credit across call boundaries, exactly, and episodes end them."""

import torch
from torch import Tensor

from memexp.cortex.cells.axon import Axon, hadamard

RECURRENT = ("nu_log", "theta_log", "w1", "w2")


def gradients(cell: Axon, x: Tensor, resets: Tensor, cuts: list[int]) -> dict[str, Tensor]:
    """Of the last call's output, when the sequence comes in several calls."""
    state = cell.init_state(len(x), torch.device("cpu"), torch.float64)
    cell.zero_grad()
    y = x
    for start, stop in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        y, state = cell(x[:, start:stop], state, resets[:, start:stop])
    y[:, -2:].square().sum().backward()
    return {name: getattr(cell, name).grad.clone() for name in RECURRENT}


def test_the_recurrent_parameters_learn_from_before_the_call_as_if_it_had_never_been_cut() -> None:
    torch.manual_seed(0)
    cell = Axon(6, mixer="none").double()
    x, resets = torch.randn(3, 9, 6, dtype=torch.float64), torch.zeros(3, 9, dtype=torch.bool)
    resets[0, 2], resets[1, 5], resets[1, 6], resets[2, 0] = True, True, True, True
    whole = gradients(cell, x, resets, [])
    for cuts in ([7], [1, 2, 7], [5, 6, 7], [3, 5]):
        for name, gradient in gradients(cell, x, resets, cuts).items():
            torch.testing.assert_close(gradient, whole[name], rtol=1e-8, atol=1e-10)


def test_the_returned_state_passes_no_gradient_back() -> None:
    cell = Axon(4)
    _, state = cell(torch.randn(1, 3, 4), cell.init_state(1, torch.device("cpu"), torch.float32), None)
    assert not any(leaf.requires_grad for leaf in state.values())


def test_the_hadamard_matrix_is_orthogonal_up_to_its_size() -> None:
    matrix = hadamard(8)
    assert torch.equal(matrix @ matrix.t(), 8 * torch.eye(8))
