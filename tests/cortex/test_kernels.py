"""The hand-written kernels equal the plain forms beside them, in values and in gradients."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memexp.cortex.kernels.conv import depthwise_conv, depthwise_conv_plain
from memexp.cortex.kernels.gate import gru_gate, gru_gate_plain
from memexp.cortex.kernels.lstm import lstm, lstm_loop
from memexp.cortex.kernels.scan import linear_scan, linear_scan_loop
from memexp.cortex.kernels.slstm import slstm, slstm_loop

few = settings(max_examples=20, deadline=None)


def slstm_inputs(T: int, B: int, seed: int, starts: float) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(seed)
    N, d = 2, 3
    n = 0.2 + 3 * torch.rand(N, d, B, dtype=torch.float64)
    state = [torch.randn_like(n), torch.randn_like(n) * n, n, 2 * torch.randn_like(n)]
    terms, recurrent = (
        2 * torch.randn(T, N, 4, d, B, dtype=torch.float64),
        torch.randn(N, 4 * d, d, dtype=torch.float64),
    )
    return [terms, recurrent, *state], torch.rand(T, B) < starts


def lstm_inputs(T: int, B: int, seed: int, starts: float) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(seed)
    H = 4
    terms, recurrent = 2 * torch.randn(T, 4 * H, B, dtype=torch.float64), torch.randn(4 * H, H, dtype=torch.float64)
    return [terms, recurrent, *torch.randn(2, H, B, dtype=torch.float64)], torch.rand(T, B) < starts


def outputs_and_gradients(recurrence: Callable, inputs: list[Tensor], resets: Tensor | None) -> list[Tensor]:
    inputs = [a.clone().requires_grad_() for a in inputs]
    ys, state = recurrence(inputs[0], inputs[1], tuple(inputs[2:]), resets)
    generator = torch.Generator().manual_seed(0)
    loss = sum((a * torch.randn(a.shape, generator=generator, dtype=a.dtype)).sum() for a in (ys, *state))
    return [ys, *state, *torch.autograd.grad(loss, inputs)]  # type: ignore[list-item]


@pytest.mark.parametrize(("fast", "plain", "make"), [(slstm, slstm_loop, slstm_inputs), (lstm, lstm_loop, lstm_inputs)])
@given(
    T=st.integers(1, 11), B=st.integers(1, 4), seed=st.integers(0, 999), starts=st.sampled_from([None, 0.0, 0.3, 1.0])
)
@few
def test_fast_recurrence_equals_the_plain_loop(fast, plain, make, T, B, seed, starts) -> None:
    inputs, resets = make(T, B, seed, starts or 0.0)
    resets = None if starts is None else resets
    for ours, oracle in zip(
        outputs_and_gradients(fast, inputs, resets), outputs_and_gradients(plain, inputs, resets), strict=True
    ):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("fast", "make"), [(slstm, slstm_inputs), (lstm, lstm_inputs)])
def test_backward_pass_is_the_derivative_of_the_forward_pass(fast, make) -> None:
    inputs, resets = make(4, 2, 3, 0.3)
    inputs = [a.requires_grad_() for a in inputs]
    assert torch.autograd.gradcheck(lambda *a: fast(a[0], a[1], a[2:], resets)[0], inputs)


def test_slstm_from_a_fresh_state_equals_the_plain_loop() -> None:
    (terms, recurrent, *state), resets = slstm_inputs(6, 3, 0, 0.2)
    state = tuple(torch.zeros_like(leaf) for leaf in state)
    ours, oracle = slstm(terms, recurrent, state, resets), slstm_loop(terms, recurrent, state, resets)
    for a, b in zip((ours[0], *ours[1]), (oracle[0], *oracle[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def gradients_of_both(fast: Callable, plain: Callable, inputs: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    results = []
    for function in (fast, plain):
        inputs = [a.detach().requires_grad_() for a in inputs]
        y = function(*inputs)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        results.append([y, *torch.autograd.grad((y * weights).sum(), inputs)])
    return list(zip(*results, strict=True))


@given(shape=st.lists(st.integers(1, 4), min_size=0, max_size=2), width=st.integers(1, 5), seed=st.integers(0, 999))
@few
def test_fast_gate_equals_its_equations(shape: list[int], width: int, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = [(*shape, width), (*shape, width), (3 * width, width), (2 * width, width), (width, width), (width,)]
    inputs = [torch.randn(size, dtype=torch.float64) for size in sizes]
    for ours, oracle in gradients_of_both(gru_gate, gru_gate_plain, inputs):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-11)


@given(T=st.integers(1, 7), K=st.integers(1, 5), seed=st.integers(0, 999), all_count=st.booleans())
@few
def test_fast_convolution_equals_its_equation(T: int, K: int, seed: int, all_count: bool) -> None:
    torch.manual_seed(seed)
    inputs = [torch.randn(size, dtype=torch.float64) for size in ((2, K - 1 + T, 3), (K, 3), (3,))]
    counts = [None if lag == 0 or all_count else (torch.rand(2, T, 1) < 0.6).double() for lag in range(K)]
    fast, plain = (lambda *a, f=f: f(*a, counts) for f in (depthwise_conv, depthwise_conv_plain))
    for ours, oracle in gradients_of_both(fast, plain, inputs):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-11)


@given(T=st.integers(1, 7), kind=st.sampled_from([torch.float64, torch.complex128]), seed=st.integers(0, 999))
@few
def test_fast_scan_equals_the_plain_loop(T: int, kind: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    a, b, h0 = torch.randn(T, 2, 3, dtype=kind), torch.randn(T, 2, 3, dtype=kind), torch.randn(2, 3, dtype=kind)
    a = a * (torch.rand(T, 2, 1) < 0.7)

    def real_part(scan: Callable) -> Callable:
        return lambda *inputs: torch.view_as_real(scan(*inputs) * (1 + 0j)).sum(-1)

    for ours, oracle in gradients_of_both(real_part(linear_scan), real_part(linear_scan_loop), [a, b, h0]):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-11)
