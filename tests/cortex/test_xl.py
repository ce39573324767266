"""X attends to exactly the last mem_len steps of the episode and itself, however a sequence is cut into calls."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memexp.cortex.cells.xl import XL
from memexp.cortex.kernels import attention
from memexp.cortex.kernels.attention import cpu, torch_backend


def naive(cell: XL, x: Tensor, mem: Tensor, age: Tensor, resets: Tensor) -> Tensor:
    """The definition in the words of its equation: one query, one head, one key at a time."""
    (B, T, H), M, N, d = x.shape, cell.mem_len, cell.n_heads, cell.d
    frequencies = [10000 ** (-2 * k / H) for k in range(math.ceil(H / 2))]
    out = torch.zeros_like(x)
    for b in range(B):
        inputs = list(mem[b]) + list(x[b])
        first = M - int(age[b])  # of the current episode, as an index into inputs
        for t in range(T):
            if resets[b, t]:
                first = M + t
            keys = range(max(first, t), M + t + 1)
            q = cell.q_proj(x[b, t])
            heads = []
            for h in range(N):
                part = slice(h * d, (h + 1) * d)
                scores = []
                for j in keys:
                    distance = M + t - j
                    pos = [math.sin(distance * w) for w in frequencies] + [math.cos(distance * w) for w in frequencies]
                    r = cell.r_proj(torch.tensor(pos[:H], dtype=x.dtype))
                    k = cell.k_proj(inputs[j])
                    scores.append(((q[part] + cell.u[h]) @ k[part] + (q[part] + cell.v[h]) @ r[part]) / math.sqrt(d))
                weights = torch.softmax(torch.stack(scores), 0)
                heads.append(sum(w * cell.v_proj(inputs[j])[part] for w, j in zip(weights, keys, strict=True)))
            out[b, t] = cell.o_proj(torch.cat(heads))
    return out


def random_cell(H: int, mem_len: int, seed: int) -> XL:
    torch.manual_seed(seed)
    cell = XL(H, 2, mem_len).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return cell


@contextmanager
def blocks_of(queries: int) -> Iterator[None]:
    """Attention in blocks of so many queries."""
    with (
        mock.patch.object(cpu, "QUERIES_AT_ONCE", queries),
        mock.patch.dict(torch_backend.QUERIES_AT_ONCE, cpu=queries),
    ):
        yield


@given(
    mem_len=st.integers(0, 5),
    T=st.integers(1, 7),
    seed=st.integers(0, 999),
    starts=st.sampled_from([0.0, 0.2, 0.6]),
    block=st.sampled_from([2, 3, 64]),
)
@settings(max_examples=25, deadline=None)
def test_sequence_pass_equals_the_definition_written_out(mem_len, T, seed, starts, block) -> None:
    cell, B, H = random_cell(6, mem_len, seed), 2, 6
    x = torch.randn(B, T, H, dtype=torch.float64)
    mem, age = torch.randn(B, mem_len, H, dtype=torch.float64), torch.randint(0, mem_len + 1, (B,))
    resets = torch.rand(B, T) < starts
    with blocks_of(block):
        y, _ = cell(x, {"mem": mem, "age": age} if mem_len else {}, resets)
        ours = torch.autograd.grad(y.square().sum(), list(cell.parameters()))
    expected = naive(cell, x, mem, age, resets)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    for a, b in zip(ours, torch.autograd.grad(expected.square().sum(), list(cell.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_step_sees_mem_len_steps_back_and_not_one_more() -> None:
    cell, T = random_cell(8, 3, 0), 10
    x = torch.randn(1, T, 8, dtype=torch.float64, requires_grad=True)
    y, _ = cell(x, cell.init_state(1, torch.device("cpu"), torch.float64), None)
    for t in range(T):
        (influence,) = torch.autograd.grad(y[0, t].sum(), x, retain_graph=True)
        reach = {s for s in range(T) if influence[0, s].abs().max() > 0}
        assert reach == set(range(max(0, t - 3), t + 1))


def test_without_memory_a_step_depends_on_itself_alone() -> None:
    cell = random_cell(8, 0, 0)
    assert cell.init_state(2, torch.device("cpu"), torch.float64) == {}
    x = torch.randn(1, 5, 8, dtype=torch.float64, requires_grad=True)
    y, state = cell(x, {}, None)
    assert state == {}
    (influence,) = torch.autograd.grad(y[0, 3].sum(), x)
    assert [s for s in range(5) if influence[0, s].abs().max() > 0] == [3]


def test_age_never_exceeds_the_memory_so_that_a_run_may_last_for_ever() -> None:
    cell = random_cell(8, 3, 0)
    state = cell.init_state(1, torch.device("cpu"), torch.float64)
    for _ in range(10):
        _, state = cell(torch.randn(1, 1, 8, dtype=torch.float64), state, None)
    assert state["age"].tolist() == [3]
    assert state["age"].dtype == torch.int64


def test_the_memory_passes_no_gradient_into_an_earlier_call() -> None:
    cell = random_cell(8, 3, 0)
    x = torch.randn(1, 2, 8, dtype=torch.float64, requires_grad=True)
    _, state = cell(x, cell.init_state(1, torch.device("cpu"), torch.float64), None)
    assert not state["mem"].requires_grad


@pytest.mark.parametrize("window", [0, 1, 4])
def test_skewing_places_each_distance_at_its_key(window: int) -> None:
    by_distance = torch.arange(3 * (window + 1)).view(3, window + 1) + 1
    placed = attention.skew(by_distance)
    assert placed.shape == (3, window + 3)
    for i in range(3):
        assert placed[i, i : i + window + 1].tolist() == by_distance[i].tolist()


@pytest.mark.parametrize("passes", [cpu, torch_backend])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("T", "window", "block", "d"), [(5, 3, 2, 4), (40, 7, 32, 4), (3, 0, 2, 4), (70, 40, 32, 32), (33, 20, 32, 48)]
)
def test_the_fast_attention_equals_its_plain_form(
    T: int, window: int, block: int, d: int, dtype: torch.dtype, passes: ModuleType, monkeypatch
) -> None:
    monkeypatch.setattr(attention, "backend", lambda x, package: passes)
    torch.manual_seed(0)
    B, N = 6, 3
    sizes = [(B, T, N * d), (B, window + T, 2 * N * d), (window + 1, N * d), (N, d), (N, d)]
    inputs = [torch.randn(size, dtype=dtype) for size in sizes]
    episode = (torch.rand(B, T) < 0.2).cumsum(1)
    episodes = torch.cat([torch.randint(-1, 1, (B, window)), episode], dim=1)
    outcomes = []
    with blocks_of(block):
        for function in (attention.banded_attention, attention.banded_attention_plain):
            leaves = [a.clone().requires_grad_() for a in inputs]
            y = function(*leaves, episode, episodes)
            direction = torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)
            outcomes.append([y, *torch.autograd.grad((y * direction).sum(), leaves)])
    for ours, plain in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5 * max(1.0, plain.abs().max().item()))
