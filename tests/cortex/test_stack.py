"""What every stack promises: acting and learning are one function, the twin forgets, the state is the caller's."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memexp.config import UsageError
from memexp.cortex import build_stack
from memexp.cortex.check import run_in_calls, shake
from memexp.cortex.stack import TOKEN_BLOCKS, Stack
from memexp.pattern import TOKENS

MIXED = [["XS", "L"], ["AgSA"], ["AXMS", "C"]]
OWN = [["helpers.own_cells:Nested"] * 2, ["Ag,helpers.own_cells:GRU,A"], ["helpers.own_cells:Wide", "X"]]
PATTERNS = [*([token] * 2 for token in TOKEN_BLOCKS), *MIXED, *OWN]
few = settings(max_examples=5, deadline=None)
more = settings(max_examples=60, deadline=None)
mixed_patterns = st.lists(
    st.lists(st.sampled_from(list(TOKEN_BLOCKS)), min_size=1, max_size=3).map("".join), min_size=1, max_size=2
)
"""One or two layers of one to three tokens each."""


def random_stack(pattern: list[str], seed: int = 0, memory: str = "on", mem_len: int = 4, H: int = 16) -> Stack:
    """A stack whose parameters are all away from zero and one, so that nothing is hidden by an initial value."""
    torch.manual_seed(seed)
    stack = build_stack(pattern, H, len(pattern), mem_len=mem_len, memory=memory)  # type: ignore[arg-type]
    shake(stack, 0.2, seed)
    return stack


def carried_state(stack: Stack, B: int) -> dict[str, Tensor]:
    """The state that some random steps leave behind, with episode starts at different times."""
    x = torch.randn(B, 6, stack.width, dtype=next(stack.parameters()).dtype)
    with torch.no_grad():
        _, state = stack(x, stack.init_state(B), torch.rand(B, 6) < 0.2)
    return state


def assert_same(a: tuple, b: tuple, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a[0], b[0], rtol=tolerance, atol=tolerance)
    assert a[1].keys() == b[1].keys()
    for key in a[1]:
        torch.testing.assert_close(
            a[1][key], b[1][key], rtol=tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}"
        )


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """What a pattern is tried with: parameters, rows, steps, cuts into calls, episode starts, a state to begin from."""
    T = draw(st.integers(1, 12))
    return {
        "seed": draw(st.integers(0, 999)),
        "mem_len": draw(st.sampled_from([0, 1, 4, 9])),
        "B": draw(st.integers(1, 4)),
        "T": T,
        "cuts": sorted(draw(st.sets(st.integers(1, T - 1)))) if T > 1 else [],
        "starts": draw(st.sampled_from([0.0, 0.15, 0.6, 1.0])),
        "carried": draw(st.booleans()),
    }


def assert_cut_anywhere_is_the_same(pattern: list[str], case: dict[str, Any], precision: str = "float32") -> None:
    """The sequence as a whole, in pieces and step by step, from the same state.

    Precision: "float32"; "bf16", all parameters and inputs; "autocast", as the trainer does it.
    """
    B, T, tolerance = case["B"], case["T"], 1e-5 if precision == "float32" else 3e-2
    stack = random_stack(pattern, case["seed"], mem_len=case["mem_len"])
    stack = stack.bfloat16() if precision == "bf16" else stack
    state = carried_state(stack, B) if case["carried"] else stack.init_state(B)
    x, resets = torch.randn(B, T, stack.width), torch.rand(B, T) < case["starts"]
    x = x.bfloat16() if precision == "bf16" else x
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        whole = stack(x, state, resets)
        assert {key: leaf.dtype for key, leaf in whole[1].items()} == {key: leaf.dtype for key, leaf in state.items()}
        assert_same(run_in_calls(stack, x, state, resets, case["cuts"]), whole, tolerance)
        ys, now = [], state
        for t in range(T):
            y, now = stack(x[:, t], now, resets[:, t])
            ys.append(y)
        assert_same((torch.stack(ys, 1), now), whole, tolerance)


@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
@given(case=cases())
@few
def test_steps_and_any_cutting_of_a_sequence_give_the_same_outputs_and_state(pattern, case) -> None:
    assert_cut_anywhere_is_the_same(pattern, case)


@given(pattern=mixed_patterns, case=cases())
@more
def test_so_they_do_in_any_mixture_of_cells(pattern, case) -> None:
    assert_cut_anywhere_is_the_same(pattern, case)


@pytest.mark.parametrize("precision", ["bf16", "autocast"])
@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
@given(case=cases())
@few
def test_so_they_do_in_half_precision(pattern, precision, case) -> None:
    assert_cut_anywhere_is_the_same(pattern, case, precision)


@pytest.mark.parametrize("precision", ["bf16", "autocast"])
@given(pattern=mixed_patterns, case=cases())
@more
def test_so_they_do_in_any_mixture_in_half_precision(pattern, precision, case) -> None:
    assert_cut_anywhere_is_the_same(pattern, case, precision)


@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
def test_gradients_of_steps_and_of_the_sequence_agree(pattern: list[str]) -> None:
    stack, B, T = random_stack(pattern, mem_len=4), 3, 1
    x, resets = torch.randn(B, 8, stack.width), torch.rand(B, 8) < 0.2
    state = carried_state(stack, B)
    gradients = []
    for calls in (1, 2):  # the same step alone and as the first of two, so that both ways of computing X are met
        stack.zero_grad()
        y, _ = stack(x[:, : T * calls], state, resets[:, : T * calls])
        y[:, :T].square().sum().backward()
        gradients.append({n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in stack.named_parameters()})
        assert all(parameter.grad is not None for parameter in stack.parameters())
    for name in gradients[0]:
        torch.testing.assert_close(
            gradients[0][name], gradients[1][name], rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def assert_the_twin_is_the_stack_that_forgets(pattern: list[str], B: int, T: int, seed: int) -> None:
    stack, twin = random_stack(pattern, seed), random_stack(pattern, seed, memory="off")
    assert all(torch.equal(a, b) for a, b in zip(stack.parameters(), twin.parameters(), strict=True))
    x, resets = torch.randn(B, T, stack.width), torch.rand(B, T) < 0.3
    y, state = twin(x, twin.init_state(B), resets)
    stepwise = torch.stack([twin(x[:, t], state, resets[:, t])[0] for t in range(T)], 1)
    fresh = torch.stack([stack(x[:, t], stack.init_state(B), resets[:, t])[0] for t in range(T)], 1)
    everywhere, _ = stack(x, carried_state(stack, B), torch.ones(B, T, dtype=torch.bool))
    for other in (stepwise, fresh, everywhere):
        torch.testing.assert_close(y, other, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(y)
    ours = torch.autograd.grad((y * direction).sum(), list(twin.parameters()))
    theirs = torch.autograd.grad((everywhere * direction).sum(), list(stack.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
@given(B=st.integers(1, 3), T=st.integers(1, 6), seed=st.integers(0, 99))
@few
def test_the_twin_equals_the_same_stack_called_with_a_fresh_state_each_step(pattern, B, T, seed) -> None:
    assert_the_twin_is_the_stack_that_forgets(pattern, B, T, seed)


@given(pattern=mixed_patterns, B=st.integers(1, 3), T=st.integers(1, 6), seed=st.integers(0, 99))
@more
def test_the_twin_of_any_mixture_does_too(pattern, B, T, seed) -> None:
    assert_the_twin_is_the_stack_that_forgets(pattern, B, T, seed)


@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
def test_a_call_leaves_the_state_it_was_given_alone_and_rows_are_independent(pattern: list[str]) -> None:
    stack = random_stack(pattern)
    state = carried_state(stack, 5)
    before = copy.deepcopy(state)
    x, resets = torch.randn(5, 3, stack.width), torch.rand(5, 3) < 0.3
    with torch.no_grad():
        y, after = stack(x, state, resets)
        rows = torch.tensor([3, 1])
        few_y, few_after = stack(x[rows], {k: v[rows] for k, v in state.items()}, resets[rows])
    assert all(torch.equal(state[key], before[key]) for key in state)
    assert_same((few_y, few_after), (y[rows], {k: v[rows] for k, v in after.items()}))


@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
def test_nothing_of_an_old_episode_is_left_after_a_reset(pattern: list[str]) -> None:
    stack = random_stack(pattern)
    x, resets = torch.randn(2, 5, stack.width), torch.zeros(2, 5, dtype=torch.bool)
    resets[:, 0] = True
    with torch.no_grad():
        old, _ = stack(x, carried_state(stack, 2), resets)
        new, _ = stack(x, None, None)
    torch.testing.assert_close(old, new, rtol=1e-5, atol=1e-5)


def test_a_stack_in_half_precision_keeps_its_state_in_single_precision_unless_told_otherwise() -> None:
    stack = random_stack(["XS", "L"]).bfloat16()
    for asked, kept in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        y, state = stack(torch.randn(3, 6, stack.width).bfloat16(), stack.init_state(3, dtype=asked))
        assert y.dtype == torch.bfloat16
        assert {leaf.dtype for leaf in state.values() if leaf.is_floating_point()} == {kept}


def test_autocast_leaves_the_recurrences_in_single_precision() -> None:
    stack = random_stack(["S", "L", "X"])
    x, resets = torch.randn(2, 5, stack.width), torch.rand(2, 5) < 0.3
    plain, _ = stack(x, None, resets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = stack(x, None, resets)
        y.float().square().sum().backward()
    torch.testing.assert_close(y.float(), plain, rtol=5e-2, atol=1e-1)
    assert state["0.0.S.ycnm"].dtype == torch.float32


# Trainable parameters at d_hidden 128 (section 8 of the published description).
@pytest.mark.parametrize(
    ("pattern", "column"),
    [("X", 329_280), ("S", 280_640), ("AgSA", 1_122_498), ("M", 205_448), ("AXMS", 1_294_154)],
)
def test_number_of_parameters_is_the_published_one(pattern: str, column: int) -> None:
    stack = build_stack(pattern, 128, 4)
    assert sum(p.numel() for p in stack.parameters()) == 4 * column + 256


@pytest.mark.parametrize(("init", "trains"), [("trainable", True), ("published", False)])
def test_the_router_trains_unless_it_starts_as_published(init: str, trains: bool) -> None:
    torch.manual_seed(0)
    stack = build_stack("SL", 16, 1, router_init=init)
    stack(torch.randn(4, 5, 16))[0].square().sum().backward()
    router = stack.blocks[0].router
    gradients = [p.grad for p in router.parameters()]  # type: ignore[union-attr]
    assert all((g is not None and g.abs().max() > 0) == trains for g in gradients)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pattern": "Ag", "d_hidden": 12}, ["8 heads", "12"]),
        ({"pattern": "XZ"}, ["'Z'", "character 2"]),
        ({"pattern": ["X"]}, ["num_layers=2"]),
        ({"n_heads": 5}, ["5 heads", "16"]),
        ({"memory": "of"}, ["'of'", "'off'"]),
        ({"conv_kernal": 3}, ["'conv_kernal'", "'conv_kernel'"]),
        ({"router": {"topk": 1}, "pattern": "XS"}, ["'topk'", "'top_k'"]),
        ({"mem_len": -1}, ["mem_len", "-1"]),
    ],
)
def test_a_mistake_is_answered_with_the_wrong_word_and_the_right_one(arguments: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        build_stack(**{"pattern": "X", "d_hidden": 16, "num_layers": 2, **arguments})
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_every_known_token_can_be_built() -> None:
    assert TOKEN_BLOCKS.keys() == TOKENS.keys()


def test_shapes_that_do_not_fit_are_refused() -> None:
    stack = random_stack(["S"])
    with pytest.raises(ValueError, match=r"expected \[B, T, 16\]"):
        stack(torch.randn(2, 3, 8))
    with pytest.raises(ValueError, match="resets have shape"):
        stack(torch.randn(2, 3, 16), None, torch.zeros(2, dtype=torch.bool))
