"""The cost formulas against what is built and run, and against the published table."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from memexp.config import UsageError
from memexp.cortex import build_stack
from memexp.cortex.cost import TOKEN_COSTS, Cost, cost, mlstm, post_up_gated
from memexp.cortex.own import counted_cost
from memexp.cortex.stack import TOKEN_BLOCKS, Stack
from memexp.pattern import TOKENS, Pattern, parse_pattern

SIZES = [(128, 4, 128), (24, 3, 5), (16, 1, 1), (40, 2, 0)]
"""d_hidden, n_heads, mem_len: a power of two or not (the mixer of Axon layers), with memory of X and without."""
PATTERNS = [*TOKEN_BLOCKS, "AgSA", "AXMS", "X^S^", "LLC"]
FLOAT = 4


def parameters_and_state(stack: Stack) -> tuple[int, int]:
    state = stack.init_state(1)
    return sum(p.numel() for p in stack.parameters()), sum(s.numel() * s.element_size() for s in state.values())


def product_flops(_: torch.Size, a: torch.Size, b: torch.Size, **others: object) -> int:
    """Of a b, added in place, for a `[..., n, k]` and b `[..., k, m]`."""
    return 2 * math.prod(a) * b[-1]


IN_PLACE = {torch.ops.aten.addmm_: product_flops, torch.ops.aten.baddbmm_: product_flops}
"""Products that FlopCounterMode does not know by itself."""


def flops_seen(stack: Stack) -> int:
    """FLOPs a row of one step with a carried state: what a call needs only once is not in the difference.

    In double precision, where linear maps are PyTorch's own, which FlopCounterMode knows, on every processor.
    """
    stack = stack.double()

    def of_call(rows: int) -> int:
        x, resets = torch.randn(rows, stack.width, dtype=torch.float64), torch.zeros(rows, dtype=torch.bool)
        state = stack.init_state(rows)
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
            stack(x, state, resets)
        return counter.get_total_flops()

    of_call(1)  # what is kept from call to call is there now
    two, three, six = (of_call(rows) for rows in (2, 3, 6))
    assert six - two == 4 * (three - two)
    return three - two


def hidden_in_kernels(token: str, H: int, N: int, M: int) -> int:
    """FLOPs of recurrences, of the gate inputs of S and of attention, which kernels do, where torch sees none."""
    if token == "X":
        return 2 * 2 * N * H * (M + 1) if M else 0
    if token == "X^":
        return 2 * 3 * H * (M + 1) if M else 0
    if token[0] == "S":
        return 2 * 4 * H * H // N * (2 if token == "S" else 1)
    if token[0] == "M":
        W = 2 * H
        return 2 * (2 * W * W // N + 3 * W)
    return 2 * 4 * H * H if token == "L" else 0


def test_every_token_has_a_cost() -> None:
    assert set(TOKEN_COSTS) == set(TOKENS) == set(TOKEN_BLOCKS)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("H", "N", "M"), SIZES)
def test_parameters_and_state_are_those_of_the_stack(pattern: str, H: int, N: int, M: int) -> None:
    expected = cost(pattern, H, 2, N, M)
    built = build_stack(pattern, H, 2, mem_len=M, n_heads=N)
    assert parameters_and_state(built) == (expected.parameters, expected.state_bytes)


@pytest.mark.parametrize("cell", ["Leaky", "GRU", "Nested", "LooksAtItsData", "Wide"])
def test_the_cost_of_a_cell_of_ones_own_is_counted(cell: str) -> None:
    pattern, H = f"Ag,helpers.own_cells:{cell},A", 16
    counted = cost(pattern, H, 2, 4, 4, counted_cost)
    assert parameters_and_state(build_stack(pattern, H, 2)) == (counted.parameters, counted.state_bytes)
    alone = cost(f"helpers.own_cells:{cell}", H, 1, 4, 4, counted_cost)
    known = {"Nested": 123, "Leaky": LEAKY, "LooksAtItsData": LEAKY, "GRU": LEAKY + 2 * 5 * H * H}
    if cell in known:
        assert alone.step_flops == known[cell]
    else:  # twice as wide inside
        assert alone.step_flops == cost("M", H, 1, 4, 4).step_flops - mlstm(2 * H, 4, axon=False).step_flops + 8 * H * H


LEAKY = post_up_gated(Cost(step_flops=2 * 16 * 16), 16).step_flops


def test_a_plan_counts_nothing_because_that_imports_the_cell() -> None:
    with pytest.raises(UsageError, match="no formula for helpers"):
        cost("helpers.own_cells:GRU", 16, 1, 4, 4)


columns = st.lists(st.sampled_from(sorted(TOKENS)), min_size=1, max_size=4).map(",".join)


@given(
    st.lists(columns, min_size=1, max_size=3),
    st.sampled_from([8, 16, 24]),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 3),
)
@settings(max_examples=30)
def test_so_they_are_for_mixed_patterns_one_a_layer(pattern: list[str], H: int, N: int, M: int) -> None:
    expected = cost(pattern, H, len(pattern), N, M)
    built = build_stack(pattern, H, len(pattern), mem_len=M, n_heads=N)
    assert parameters_and_state(built) == (expected.parameters, expected.state_bytes)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("H", "N", "M"), SIZES)
def test_flops_are_those_that_torch_counts_in_one_step(pattern: str, H: int, N: int, M: int) -> None:
    expected, seen = cost(pattern, H, 1, N, M).step_flops, flops_seen(build_stack(pattern, H, 1, mem_len=M, n_heads=N))
    tokens = parse_pattern(pattern)
    mixing = 2 * (len(tokens) ** 2 + len(tokens)) * H if len(tokens) > 1 else 0
    assert expected >= seen >= expected - mixing - sum(hidden_in_kernels(token, H, N, M) for token in tokens)


# The published implementation, at width 128 with 4 heads (SPEC, section 8).


def published(pattern: Pattern, num_layers: int = 1, mem_len: int = 128) -> Cost:
    return cost(pattern, 128, num_layers, 4, mem_len)


@pytest.mark.parametrize(
    ("pattern", "three", "four"),
    [
        ("X", 988_096, 1_317_376),
        ("S", 842_176, 1_122_816),
        ("AgSA", 3_367_750, 4_490_248),
        ("M", 616_600, 822_048),
        ("AXMS", 3_882_718, 5_176_872),
    ],
)
def test_parameters_are_the_published_ones(pattern: str, three: int, four: int) -> None:
    assert (published(pattern, 3).parameters, published(pattern, 4).parameters) == (three, four)


@pytest.mark.parametrize(("token", "entries"), [("S", 1024), ("A", 1280), ("M", 17_668)])
def test_the_state_of_these_is_as_large_as_published(token: str, entries: int) -> None:
    assert published(token).state_bytes == FLOAT * entries


def test_the_state_of_ag_lacks_the_second_copy_and_the_clock() -> None:
    copy, clock = 6 * 128 + 128, 1  # K and V of one frequency; both frequencies are the same up to a sign
    assert published("Ag").state_bytes == FLOAT * 1664 == FLOAT * (2561 - copy - clock)


def test_the_memory_of_x_has_one_age_a_row_where_an_episode_id_a_slot_is_published() -> None:
    ids, age = 8 * 128, 8
    assert published("X").state_bytes == FLOAT * 128 * 128 + age == (FLOAT * 128 + 8) * 128 - ids + age
    assert published("X", mem_len=0).state_bytes == 0


@pytest.mark.parametrize(
    ("token", "num_layers", "millions"),
    [("S", 1, 0.56), ("S", 3, 1.67), ("S", 4, 2.23), ("M", 1, 0.47), ("M", 3, 1.42), ("M", 4, 1.89)],
)
def test_flops_of_these_are_the_published_ones(token: str, num_layers: int, millions: float) -> None:
    assert round(published(token, num_layers).step_flops / 1e6, 2) == millions


def test_x_with_memory_is_far_below_the_published_13_million() -> None:
    """Keys and values are not formed again for all positions, and position codes are projected once a call."""
    linear = 4 * 2 * 128**2 + 2 * 12 * 128**2 + 4 * 128 * 192  # of the cell, of two gates, feed-forward
    scores_and_mixing = 129 * 2 * (4 * 128 + 128 + 4 * 128)
    assert published("X").step_flops == linear + scores_and_mixing == 919_808
    assert published("X", mem_len=0).step_flops == 557_056  # 0.66 M published, with keys and queries nobody needs


@pytest.mark.parametrize(
    ("pattern", "d_hidden", "num_layers", "n_heads", "named"),
    [
        ("AgSA", 12, 1, 4, "heads of Ag do not divide d_hidden=12"),
        ("S", 128, 1, 3, "n_heads=3 does not divide"),
        (["S", "X"], 128, 3, 4, "pattern lists 2 layers"),
        ("Q", 128, 1, 4, "no token at 'Q'"),
    ],
)
def test_what_cannot_be_built_has_no_cost(
    pattern: Pattern, d_hidden: int, num_layers: int, n_heads: int, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        cost(pattern, d_hidden, num_layers, n_heads, 0)
