"""The fast kernels equal the plain forms beside them, in values and in gradients, and torch knows them as operators."""

import sys
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memexp.cortex.cells.conv import CausalConv
from memexp.cortex.kernels import cpu, vector_math
from memexp.cortex.kernels.agalite import agalite
from memexp.cortex.kernels.agalite.plain import agalite_plain
from memexp.cortex.kernels.attention import banded_attention
from memexp.cortex.kernels.conv import depthwise_conv, depthwise_conv_plain
from memexp.cortex.kernels.cpu import kernel
from memexp.cortex.kernels.expert_mixture import mix_experts, mix_experts_plain
from memexp.cortex.kernels.gate import gru_gate, gru_gate_plain, torch_backend
from memexp.cortex.kernels.gru import gru
from memexp.cortex.kernels.gru.plain import gru_plain
from memexp.cortex.kernels.heads import head_products, head_products_plain
from memexp.cortex.kernels.linear import linear, linear_over_memory
from memexp.cortex.kernels.lstm import lstm
from memexp.cortex.kernels.lstm.plain import lstm_plain
from memexp.cortex.kernels.matmul import transposed_product
from memexp.cortex.kernels.norm import layer_norm, rms_norm
from memexp.cortex.kernels.rtu import carry_traces, rtu, trace_factors
from memexp.cortex.kernels.rtu.plain import rtu_plain
from memexp.cortex.kernels.scan import scan, scan_plain
from memexp.cortex.kernels.slstm import slstm
from memexp.cortex.kernels.slstm.plain import slstm_plain

few = settings(max_examples=20, deadline=None)
Inputs = tuple[list[Tensor], Tensor]
"""What a recurrence is called with, without and with resets `[B, T]`."""


def slstm_inputs(T: int, B: int, starts: float) -> Inputs:
    N, d = 2, 3
    n = 0.2 + 3 * torch.rand(B, N, d)
    state = torch.stack([torch.randn_like(n), torch.randn_like(n) * n, n, 2 * torch.randn_like(n)], dim=1)
    return [2 * torch.randn(B, T, N, 4, d), torch.randn(N, 4, d, d), state], torch.rand(B, T) < starts


def lstm_inputs(T: int, B: int, starts: float) -> Inputs:
    H = 5
    return [2 * torch.randn(B, T, 4 * H), torch.randn(4 * H, H), torch.randn(B, 2, H)], torch.rand(B, T) < starts


def gru_inputs(T: int, B: int, starts: float) -> Inputs:
    H = 5
    return [2 * torch.randn(B, T, 4 * H), torch.randn(3 * H, H), torch.randn(B, 1, H)], torch.rand(B, T) < starts


def scan_inputs(T: int, B: int, starts: float) -> Inputs:
    H = 5
    return [torch.rand(B, T, H), torch.randn(B, T, H), torch.randn(B, H)], torch.rand(B, T) < starts


def rtu_inputs(T: int, B: int, starts: float) -> Inputs:
    H = 5
    decay = torch.view_as_real(torch.polar(torch.rand(H), 6 * torch.rand(H))).mT
    return [torch.randn(B, T, H), decay, torch.randn(2, H), torch.randn(B, 2, H)], torch.rand(B, T) < starts


def agalite_inputs(T: int, B: int, starts: float) -> Inputs:
    N, d, E = 2, 4, 3
    projected, factors = torch.randn(B, T, N, 5, d) + 1, torch.randn(B, T, N, 3, E) + 1
    K, V, s = torch.randn(B, N, E, d), torch.randn(B, N, d), torch.rand(B, N, E, d) + 0.5
    return [projected, factors, K, V, s], torch.rand(B, T) < starts


def agalite_flat(projected, factors, K, V, s, resets, form=agalite) -> tuple[Tensor, ...]:
    y, after = form(projected, factors, (K.detach(), V.detach(), s.detach()), resets)
    return y, *(leaf.detach() for leaf in after)


def agalite_plain_flat(*inputs) -> tuple[Tensor, ...]:
    return agalite_flat(*inputs, form=agalite_plain)


RECURRENCES = [
    (slstm, slstm_plain, slstm_inputs),
    (lstm, lstm_plain, lstm_inputs),
    (gru, gru_plain, gru_inputs),
    (scan, scan_plain, scan_inputs),
    (rtu, rtu_plain, rtu_inputs),
    (agalite_flat, agalite_plain_flat, agalite_inputs),
]


def outputs_and_gradients(recurrence: Callable, inputs: list[Tensor], resets: Tensor | None) -> list[Tensor]:
    inputs = [a.clone().requires_grad_() for a in inputs]
    outputs = recurrence(*inputs, resets)
    generator = torch.Generator().manual_seed(0)
    parts = [(a * torch.randn(a.shape, generator=generator, dtype=a.dtype)).sum() for a in outputs if a.requires_grad]
    gradients = torch.autograd.grad(sum(parts), inputs, allow_unused=True)  # type: ignore[arg-type]
    return [*outputs, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize(("fast", "plain", "make"), RECURRENCES)
@given(
    T=st.integers(1, 37), B=st.integers(1, 4), seed=st.integers(0, 999), starts=st.sampled_from([None, 0.0, 0.3, 1.0])
)
@few
def test_fast_recurrence_equals_the_plain_loop(fast, plain, make, T, B, seed, starts) -> None:
    torch.manual_seed(seed)
    inputs, resets = make(T, B, starts or 0.0)
    resets = None if starts is None else resets
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-5)):
        exact = [a.to(dtype) for a in inputs]
        ours, oracle = (outputs_and_gradients(f, exact, resets) for f in (fast, plain))
        for a, b in zip(ours, oracle, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * (1 + b.abs().max().item()))


@pytest.mark.parametrize(("fast", "plain", "make"), RECURRENCES)
def test_recurrence_is_a_proper_operator_for_the_compiler(fast, plain, make) -> None:
    torch.manual_seed(0)
    (inputs, resets), name = make(5, 2, 0.3), fast.__name__.removesuffix("_flat")
    inputs = [a.requires_grad_(fast is not agalite_flat or n < 2) for n, a in enumerate(inputs)]
    saving = () if fast in (rtu, scan) else (True,)
    torch.library.opcheck(getattr(torch.ops.memexp, name).default, (*inputs, resets, *saving))


@pytest.mark.parametrize(("fast", "plain", "make"), RECURRENCES)
def test_a_device_without_kernels_runs_the_plain_loop_with_its_gradients(fast, plain, make, monkeypatch) -> None:
    torch.manual_seed(0)
    inputs, resets = make(5, 2, 0.3)
    wanted = outputs_and_gradients(fast, inputs, resets)
    module = sys.modules[
        plain.__module__.removesuffix(".plain") if plain.__module__ != __name__ else agalite.__module__
    ]
    monkeypatch.setattr(module, "has_kernel", lambda x, on_gpu=True: False)
    name = module.__name__.rpartition(".")[2]
    monkeypatch.setattr(module, f"_{name}", None)  # must not be reached
    for a, b in zip(outputs_and_gradients(fast, inputs, resets), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("fast", "plain", "make"), RECURRENCES)
def test_a_nan_in_an_input_is_seen_in_the_output(fast, plain, make) -> None:
    torch.manual_seed(0)
    inputs, _ = make(3, 2, 0.0)
    inputs[0] = torch.full_like(inputs[0], torch.nan)
    assert fast(*inputs, None)[0].isnan().all()


def test_a_nan_passes_the_gate_and_attention() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4)
    weights = [torch.randn(k * 4, 4) for k in (3, 2, 1)]
    assert gru_gate(x, torch.full_like(x, torch.nan), *weights, torch.zeros(4)).isnan().all()
    q, kv, r = torch.full((1, 3, 4), torch.nan), torch.randn(1, 5, 8), torch.randn(3, 4)
    episode, episodes = torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)
    assert banded_attention(q, kv, r, torch.zeros(2, 2), torch.zeros(2, 2), episode, episodes).isnan().all()


@pytest.mark.parametrize(("fast", "plain", "make"), RECURRENCES)
@pytest.mark.parametrize("threads", [2, 3])
def test_several_threads_give_the_bits_of_one(fast, plain, make, threads: int, monkeypatch) -> None:
    torch.manual_seed(0)
    before, (inputs, resets) = torch.get_num_threads(), make(20, 5, 0.2)
    monkeypatch.setattr(cpu, "MIN_PARALLEL_SIZE", 0)
    outcomes = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            outcomes.append([a.clone() for a in fast(*inputs, resets)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_row_is_done_once_whatever_the_number_of_threads(rows: int, threads: int, monkeypatch) -> None:
    monkeypatch.setattr(cpu, "MIN_PARALLEL_SIZE", 0)
    before, done = torch.get_num_threads(), torch.zeros(rows)
    try:
        torch.set_num_threads(threads)
        cpu.over_rows(count, rows, done)
    finally:
        torch.set_num_threads(before)
    assert done.tolist() == [1] * rows


@kernel
def count(done, first, end):
    for row in range(first, end):
        done[row] += 1


@pytest.mark.parametrize("shape", [(8, 5, 32), (19, 70, 45), (3, 1, 2), (130, 200, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_our_product_of_matrices_equals_that_of_torch(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    m, n, k = shape
    a, b = torch.randn(n, m, dtype=dtype), torch.randn(n, k, dtype=dtype)
    torch.testing.assert_close(transposed_product(a, b), a.t() @ b, rtol=1e-5, atol=1e-5)


def test_the_slstm_kernel_from_a_fresh_state_equals_the_plain_loop() -> None:
    torch.manual_seed(0)
    (terms, recurrent, state), resets = slstm_inputs(6, 3, 0.2)
    for a, b in zip(
        slstm(terms, recurrent, 0 * state, resets), slstm_plain(terms, recurrent, 0 * state, resets), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@given(T=st.integers(1, 20), seed=st.integers(0, 999), starts=st.sampled_from([0.0, 0.2]))
@few
def test_traces_are_the_derivatives_of_the_state(T: int, seed: int, starts: float) -> None:
    """dc/dp of the last state by autograd, from a state that depended on nothing: the traces begin at zero."""
    torch.manual_seed(seed)
    H = 4
    p = torch.randn(4, H, dtype=torch.float64, requires_grad=True)

    def run(p: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nu, theta = p[0].exp(), p[1].exp()
        decay, gain = (-nu).exp() * torch.stack([theta.cos(), theta.sin()]), (1 - (-2 * nu).exp()).sqrt()
        c, sums = rtu(u, decay, gain * p[2:], c0, resets)
        factors = trace_factors(decay, p[2:], torch.stack([nu, theta, gain, nu * (-2 * nu).exp() / gain]))
        return c[:, -1], sums, carry_traces(traces, sums, factors, T, resets).detach()

    u, resets = torch.randn(1, T, H, dtype=torch.float64), torch.rand(1, T) < starts
    traces = torch.zeros(1, 4, 2, H, dtype=torch.float64)
    c, _, after = run(p, torch.zeros(1, 2, H, dtype=torch.float64))
    for part in range(2):
        (derivative,) = torch.autograd.grad(c[0, part].sum(), p, retain_graph=True)
        torch.testing.assert_close(after[0, :, part], derivative, rtol=1e-8, atol=1e-10)


@kernel
def exps(x, y, first, end):
    for i in range(first, end):
        y[i] = vector_math.exp(x[i])


@kernel
def log1ps(x, y, first, end):
    for i in range(first, end):
        y[i] = vector_math.log1p(x[i])


@kernel
def sigmoids(x, y, first, end):
    for i in range(first, end):
        y[i] = vector_math.sigmoid(x[i])


@pytest.mark.parametrize(
    ("fill", "oracle", "values"),
    [
        (exps, np.exp, np.linspace(-86, 88, 100_001)),
        (log1ps, np.log1p, np.linspace(1e-6, 1, 100_001)),
        (sigmoids, lambda x: 1 / (1 + np.exp(-x)), np.linspace(-80, 80, 100_001)),
    ],
)
def test_vectorised_functions_are_accurate_to_single_precision(fill, oracle: Callable, values: np.ndarray) -> None:
    x = torch.from_numpy(values).float()
    y = torch.empty_like(x)
    cpu.over_rows(fill, len(x), x, y)
    assert np.max(np.abs(y.numpy() / oracle(x.double().numpy()) - 1)) < 4e-7


def test_exp_of_a_very_negative_number_is_zero_and_that_of_nan_is_nan() -> None:
    x = torch.tensor([-100.0, -1e30, -torch.inf, 0.0, torch.nan])
    y = torch.ones_like(x)
    cpu.over_rows(exps, 5, x, y)
    assert y[:4].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert y[4].isnan()


def test_a_kernel_that_depends_on_where_it_was_made_is_refused() -> None:
    """Its compiled form is kept on disk under its place in the source alone."""
    factor = 2.0

    def scale(x, first, end):
        for i in range(first, end):
            x[i] *= factor

    with pytest.raises(TypeError, match="scale"):
        kernel(scale)


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
    for ours, oracle in gradients_of_both(gru_gate, gru_gate_plain, [a.float() for a in inputs]):
        torch.testing.assert_close(ours, oracle, rtol=1e-4, atol=1e-4)
    with mock.patch("memexp.cortex.kernels.gate.backend", return_value=torch_backend):
        for ours, oracle in gradients_of_both(gru_gate, gru_gate_plain, inputs):
            torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-11)


def test_an_expert_that_was_not_chosen_has_no_part_in_the_mixing() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(size) for size in [(9, 8), (9, 8), (3, 9, 8), (9, 8), (3, 8), (3, 8)]]
    preference = torch.tensor([0.5, -torch.inf, 0.0])
    both = (lambda *a, f=f: torch.cat(f(*a, preference, 0.3)) for f in (mix_experts, mix_experts_plain))
    for ours, oracle in gradients_of_both(*both, inputs):
        torch.testing.assert_close(ours, oracle, rtol=1e-5, atol=1e-5)


@given(n=st.integers(1, 150), E=st.integers(2, 4), H=st.integers(1, 9), seed=st.integers(0, 999))
@few
def test_fast_mixing_of_experts_equals_its_equations(n: int, E: int, H: int, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = [(n, H), (n, H), (E, n, H), (n, H), (E, H), (E, H), (E,)]
    inputs = [torch.randn(size, dtype=torch.float64) for size in sizes]
    both = (lambda *a, f=f: torch.cat(f(*a, 0.3)) for f in (mix_experts, mix_experts_plain))
    for ours, oracle in gradients_of_both(*both, inputs):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-9)


@given(
    B=st.integers(1, 5), T=st.integers(1, 5), N=st.integers(1, 3), d=st.sampled_from([1, 3, 16]), seed=st.integers(0, 9)
)
@few
def test_fast_products_of_heads_equal_their_equation(B: int, T: int, N: int, d: int, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = [(B, T, N * d), (B, T, N * d), (N, d, 2 * d), (N, d, 2 * d), (N, 4, d)]
    inputs = [torch.randn(size, dtype=torch.float64) for size in sizes]
    for ours, oracle in gradients_of_both(head_products, head_products_plain, inputs):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-11)


@given(n=st.integers(1, 9), d=st.integers(1, 40), groups=st.integers(1, 4), seed=st.integers(0, 99))
@few
def test_fast_norms_equal_those_of_torch(n: int, d: int, groups: int, seed: int) -> None:
    torch.manual_seed(seed)
    x, weight = 3 * torch.randn(2, n, groups * d) + 1, torch.randn(groups * d)
    for norm in (lambda: layer_norm(x, weight, 1e-5, groups), lambda: rms_norm(x, weight, 1e-7)):
        with torch.no_grad():
            fast = norm()
        torch.testing.assert_close(fast, norm(), rtol=1e-4, atol=1e-5)


@given(B=st.integers(1, 9), H=st.integers(1, 20), K=st.integers(1, 5), seed=st.integers(0, 99))
@few
def test_a_single_step_of_the_convolution_equals_that_of_a_sequence(B: int, H: int, K: int, seed: int) -> None:
    torch.manual_seed(seed)
    cell, x, resets = CausalConv(H, K), torch.randn(B, 1, H), torch.rand(B, 1) < 0.3
    state = {"conv": torch.randn(B, K, H)}
    with torch.no_grad():
        y, after = cell(x, state, resets)
    expected, expected_after = cell(x, state, resets)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(after["conv"], expected_after["conv"])


@given(T=st.integers(1, 7), K=st.integers(1, 5), seed=st.integers(0, 999), all_count=st.booleans())
@few
def test_fast_convolution_equals_its_equation(T: int, K: int, seed: int, all_count: bool) -> None:
    torch.manual_seed(seed)
    inputs = [torch.randn(size, dtype=torch.float64) for size in ((2, K - 1 + T, 3), (K, 3), (3,))]
    counts = [None if lag == 0 or all_count else (torch.rand(2, T, 1) < 0.6).double() for lag in range(K)]
    fast, plain = (lambda *a, f=f: f(*a, counts) for f in (depthwise_conv, depthwise_conv_plain))
    for ours, oracle in gradients_of_both(fast, plain, inputs):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-11)


@pytest.fixture
def onednn(monkeypatch) -> None:
    """Linear maps by oneDNN, whatever the processor."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr("memexp.cortex.kernels.linear.onednn_is_faster", lambda: True)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (4,), (1, 4)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_our_linear_map_equals_that_of_torch(shape: tuple[int, ...], with_bias: bool, onednn: None) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(shape), torch.randn(5, 4), *([torch.randn(5)] if with_bias else [])]
    for ours, theirs in gradients_of_both(linear, torch.nn.functional.linear, inputs):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_linear_map_over_a_memory_passes_gradients_to_the_recent_steps_alone(onednn: None) -> None:
    torch.manual_seed(0)
    mem, x, weight, bias = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(6, 4), torch.randn(6)

    def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_over_memory(torch.cat([mem, x], dim=1), x, weight, bias)

    def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.nn.functional.linear(torch.cat([mem, x], dim=1), weight, bias)

    for a, b in gradients_of_both(ours, plain, [x, weight, bias]):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
