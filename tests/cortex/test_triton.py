"""The Triton kernels equal the plain loops: on the GPU where there is one, else in Triton's interpreter."""

import inspect
import os
import subprocess
import sys
from collections.abc import Iterable

import pytest
import torch
from helpers.cortex import gradients_of
from torch import Tensor

from memexp.cortex.kernels.agalite.plain import CHUNK, agalite_plain
from memexp.cortex.kernels.rtu.plain import rtu_plain
from memexp.cortex.kernels.slstm.plain import slstm_plain

ON_GPU = torch.cuda.is_available()
pytest.importorskip("triton", reason="triton is not installed")

from memexp.cortex.kernels.agalite import gpu as agalite  # noqa: E402
from memexp.cortex.kernels.rtu import gpu as rtu  # noqa: E402
from memexp.cortex.kernels.slstm import gpu as slstm  # noqa: E402

DEVICE = "cuda" if ON_GPU else "cpu"
TOLERANCE = {torch.float32: 1e-4 if ON_GPU else 2e-6, torch.float64: 1e-12}
"""Relative, or of the largest element."""

dtypes = pytest.mark.parametrize("dtype", [torch.float32] if ON_GPU else [torch.float32, torch.float64], ids=str)
sequences = pytest.mark.parametrize(
    ("B", "T", "reset_steps"),
    [
        pytest.param(2, 1, None, id="one step"),
        pytest.param(1, 1, [0], id="one step after a reset"),
        pytest.param(1, CHUNK + 3, [], id="more than a chunk"),
        pytest.param(2, CHUNK + 1, [0, 4, 5, CHUNK], id="resets first, in a row, and where a chunk starts"),
        pytest.param(3, 3, [0, 1, 2], id="resets everywhere"),
    ],
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@sequences
@dtypes
def test_rtu_equals_the_plain_loop(B: int, T: int, reset_steps: list[int] | None, dtype: torch.dtype) -> None:
    check_rtu(B, T, 5, resets_at(reset_steps, B, T), dtype)


def test_rtu_of_many_rows_takes_several_programs() -> None:
    check_rtu(rtu.BLOCK // 3, 2, 7, resets_at([1], rtu.BLOCK // 3, 2), torch.float32)


@sequences
@dtypes
def test_agalite_equals_the_plain_loop(B: int, T: int, reset_steps: list[int] | None, dtype: torch.dtype) -> None:
    check_agalite(B, T, resets_at(reset_steps, B, T), dtype)


def test_a_program_of_agalite_can_take_several_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agalite, "PROGRAMS", 3)
    check_agalite(2, 2, resets_at([0], 2, 2), torch.float32)


@sequences
@dtypes
def test_slstm_equals_the_plain_loop(B: int, T: int, reset_steps: list[int] | None, dtype: torch.dtype) -> None:
    check_slstm(B, T, 3, resets_at(reset_steps, B, T), dtype)


@dtypes
def test_slstm_equals_the_plain_loop_from_a_fresh_state(dtype: torch.dtype) -> None:
    check_slstm(2, 5, 3, resets_at([3], 2, 5), dtype, fresh=True)


def test_slstm_takes_any_number_of_rows_and_features() -> None:
    check_slstm(slstm.ROWS + 1, 2, 17, resets_at([1], slstm.ROWS + 1, 2), torch.float32)


def test_resets_need_not_be_contiguous() -> None:
    resets = resets_at([2, 5], 2, 6)[:, ::2]  # type: ignore[index]
    check_rtu(2, 3, 5, resets, torch.float32)
    check_agalite(2, 3, resets, torch.float32)
    check_slstm(2, 3, 3, resets, torch.float32)


def test_kernels_compile_for_an_h100_and_fit_on_it(tmp_path) -> None:
    program = f"{inspect.getsource(compile_kernels)}\ncompile_kernels()\n"
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def compile_kernels() -> None:
    """Compile every kernel without a GPU: the interpreter takes more than the compiler does."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from memexp.cortex.kernels.agalite import gpu as agalite
    from memexp.cortex.kernels.rtu import gpu as rtu
    from memexp.cortex.kernels.slstm import gpu as slstm

    variants = [
        (rtu, {"H": 128, "BLOCK": rtu.BLOCK, "STAGES": rtu.STAGES, "num_warps": 4}),
        (agalite, agalite._sizes(torch.empty(1, 1, 4, 6, 32))),
        (slstm, slstm._sizes(4, 32)),
        (slstm, slstm._sizes(2, 64)),
    ]
    for module, sizes in variants:
        for kernel, resets in ((module._forward, "*i1"), (module._backward, "*i1"), (module._backward, "constexpr")):
            constants = {name: sizes[name] for name in sizes if name != "num_warps"}
            constants |= {"SAVING": True} if "SAVING" in kernel.arg_names else {}
            types = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys(constants, "constexpr")
            types |= {name: "i32" for name in ("B", "T", "lanes", "heads") if name in types} | {"resets": resets}
            source = ASTSource(kernel, types, constants | ({"resets": None} if resets == "constexpr" else {}))
            compiled = triton.compile(source, GPUTarget("cuda", 90, 32), {"num_warps": sizes["num_warps"]})
            assert compiled.metadata.shared <= 227 * 1024, kernel


def check_rtu(B: int, T: int, H: int, resets: Tensor | None, dtype: torch.dtype) -> None:
    u, decay, weight, c0, dc = normal(dtype, (B, T, H), (2, H), (2, H), (B, 2, H), (B, T, 2, H))
    inputs = [u, decay / 2, weight, c0]
    c, sums = rtu.forward(*inputs, resets)
    du, dc0, d_decay, d_weight = rtu.backward(dc, u, c, *inputs[1:], resets)

    oracle = rtu_plain(*in_double(inputs), resets)
    oracle_grads = gradients_of(lambda *a: [rtu_plain(*a, resets)[0]], in_double(inputs), in_double([dc]))
    assert_equal([c, sums, du, d_decay.sum(0), d_weight.sum(0), dc0], [*oracle, *oracle_grads])


def check_agalite(B: int, T: int, resets: Tensor | None, dtype: torch.dtype) -> None:
    N, d, eta = 2, 3, 6
    projected, factors, dy = normal(dtype, (B, T, N, 5, d), (B, T, N, 3, eta), (B, T, N, d))
    K, V, s = normal(dtype, (B, N, eta, d), (B, N, d), (B, N, eta, d))
    inputs, state = [projected + 1, factors + 1], [K, V, s.abs() + 0.5]
    y, *states = agalite.forward(*inputs, *state, resets, True)
    grads = agalite.backward(dy, *inputs, *states, resets)

    def plain(*inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        return agalite_plain(*inputs, tuple(in_double(state)), resets)  # type: ignore[arg-type]

    oracle, after = plain(*in_double(inputs))
    oracle_grads = gradients_of(lambda *a: [plain(*a)[0]], in_double(inputs), in_double([dy]))
    assert_equal([y, *(leaf[:, -1] for leaf in states), *grads], [oracle, *after, *oracle_grads])
    assert_equal([leaf[:, 0] for leaf in states], state)
    y_alone, *last = agalite.forward(*inputs, *state, resets, False)
    assert_equal([y_alone, *(leaf[:, 0] for leaf in last)], [y, *(leaf[:, -1] for leaf in states)])


def check_slstm(B: int, T: int, d: int, resets: Tensor | None, dtype: torch.dtype, fresh: bool = False) -> None:
    N = 2
    terms, recurrent, state, dy, d_after = normal(
        dtype, (B, T, N, 4, d), (N, 4, d, d), (B, 4, N, d), (B, T, N, d), (B, 4, N, d)
    )
    state[:, 2] = 0.2 + state[:, 2].abs()
    inputs = [2 * terms, recurrent / d**0.5, torch.zeros_like(state) if fresh else state]
    y, after, saved = slstm.forward(*inputs, resets, True)
    *grads, d_state = slstm.backward(dy, d_after, *inputs, y, saved, resets)

    oracle = slstm_plain(*in_double(inputs), resets)
    *oracle_grads, oracle_d_state = gradients_of(
        lambda *a: slstm_plain(*a, resets), in_double(inputs), in_double([dy, d_after])
    )
    assert_equal(slstm.forward(*inputs, resets, False)[:2], [y, after])
    if fresh:  # no gradient flows into the c and n of a fresh state
        oracle_d_state[:, 1:3] = 0
    assert_equal([y, after, *grads, d_state], [*oracle, *oracle_grads, oracle_d_state])


def normal(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, dtype=dtype, device=DEVICE) for shape in shapes]


def in_double(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [a.double() for a in tensors]


def resets_at(steps: list[int] | None, B: int, T: int) -> Tensor | None:
    """Resets of the first row at these steps, of the next a step later, and so on."""
    if steps is None:
        return None
    resets = torch.zeros(B, T, dtype=torch.bool, device=DEVICE)
    for row in range(B):
        resets[row, [(step + row) % T for step in steps]] = True
    return resets


def assert_equal(ours: Iterable[Tensor], oracle: Iterable[Tensor]) -> None:
    for a, b in zip(ours, oracle, strict=True):
        tolerance = TOLERANCE[a.dtype]
        largest = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance, atol=tolerance * largest)
