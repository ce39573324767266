"""Parity with the published implementation, file by file.

X differs from the published cell on purpose: it attends to exactly the last mem_len steps and itself, where step i of a
published call sees mem_len + i steps, and slots of a fresh memory that hold nothing. So each file with X is checked
three times: with the published window (everything must agree), our sequence pass against the published steps (where
both definitions coincide once both are told how many slots count), and, in test_xl.py, against our definition written
out naively.
"""

import re
from pathlib import Path

import pytest
import torch
from helpers.cortex import (
    Case,
    assert_close,
    assert_gradients_close,
    build,
    flat_state,
    load_parameters,
    mix_as_published_on_the_cpu,
    parameter_name,
)
from helpers.golden import golden_cases
from torch import Tensor, nn

from memexp.cortex.check import run_in_calls


def recorded_modules(*needles: str) -> list:
    """The golden files of modules (not of quirks) whose names contain one of the needles."""
    names = {case: case.values[0].stem for case in golden_cases("cortex")}
    return [
        case
        for case, name in names.items()
        if not name.startswith("quirk") and (not needles or any(needle in name for needle in needles))
    ]


@pytest.mark.parametrize("path", recorded_modules())
def test_module_equals_the_published_one_in_outputs_states_and_gradients(path: Path) -> None:
    case = Case(path)
    module = build(case.meta, published_xl=True)
    load_parameters(module, case)
    if "hadamard" in case.groups:
        compare(module, case, case["hadamard"]["y"], case.proper("state1"), case.proper("grad"))
        mix_as_published_on_the_cpu(module)
    compare(module, case, case["y"], case.published("state1"), case.published("grad"))


def compare(module: nn.Module, case: Case, y_recorded: Tensor, state_recorded: dict, grad_recorded: dict) -> None:
    """Outputs; states and gradients too, unless the file has none of them."""
    module.zero_grad()
    x = case["x"].clone().requires_grad_()
    y, state = module(x, case.initial_state(module), case.resets)
    assert_close(y, y_recorded, "y")
    expected = flat_state(state_recorded, case.tokens)
    assert not expected or state.keys() == expected.keys()
    for key, leaf in expected.items():
        assert_close(state[key], leaf, f"state {key}")
    if grad_recorded:
        (y * case["g"]).sum().backward()
        gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in module.named_parameters()}
        wanted = {name if name == "x" else parameter_name(name, module): v for name, v in grad_recorded.items()}
        assert_gradients_close({"x": x.grad, **gradients}, wanted)


@pytest.mark.parametrize("path", recorded_modules())
def test_steps_equal_the_published_ones(path: Path) -> None:
    case = Case(path)
    module = build(case.meta, published_xl=is_x_with_axons(path))
    load_parameters(module, case)
    mix_as_published_on_the_cpu(module)
    with torch.no_grad():
        cuts = list(range(1, case["x"].shape[1]))
        y, state = run_in_calls(module, case["x"], case.initial_state(module), case.resets, cuts)
    assert_close(y, case["y_step"], "y_step")
    recorded = {**case["state1"], **case.groups.get("state1_step", {}), **case.groups.get("state1_exact", {})}
    for key, leaf in flat_state(recorded, case.tokens).items():
        ours = state[key]
        if re.search(
            r"\b[kv]\.traces", key
        ):  # of X^: those of nu and theta are recorded exactly for the sequence alone
            ours, leaf = ours[:, 2:], leaf[:, 2:]
        assert_close(ours, leaf, f"state {key}")


@pytest.mark.parametrize("path", recorded_modules("_xl_", "_X", "AXMS"))
def test_our_sequence_pass_equals_the_published_steps_of_x(path: Path) -> None:
    """All of them; those of X^ as far as the published step sees its episode's start (see cells/xl_axon.py)."""
    case = Case(path)
    module = build(case.meta, published_xl=False)
    load_parameters(module, case)
    mix_as_published_on_the_cpu(module)
    with torch.no_grad():
        y, _ = module(case["x"], case.initial_state(module), case.resets)
    agree = torch.ones_like(case.resets)
    if is_x_with_axons(path):
        steps = torch.arange(agree.shape[1]).expand_as(agree)
        start = torch.where(case.resets, steps, -1000).cummax(1).values
        agree = steps - start <= case.mem_len
        assert agree.any()
    assert_close(y[agree], case["y_step"][agree], "y")


def is_x_with_axons(path: Path) -> bool:
    return any(name in path.stem for name in ("xl_axon", "Xaxon"))


@pytest.mark.parametrize("path", recorded_modules("xl_m8_init", "xl_m128_init", "X_init", "X_m128_init"))
def test_empty_slots_do_not_count_but_nothing_else_changes(path: Path) -> None:
    """From our own fresh state, all after a row's first episode start equals the published steps; the rest does not."""
    case = Case(path)
    module = build(case.meta, published_xl=False)
    load_parameters(module, case)
    fresh = module.init_state(len(case["x"]), torch.device("cpu"), torch.float32)
    with torch.no_grad():
        y, _ = module(case["x"], fresh, case.resets)
    started = case.resets.cumsum(1) > 0
    assert_close(y[started], case["y_step"][started], "y after the first start")
    assert (y[~started] - case["y_step"][~started]).abs().max() > 1e-3


@pytest.mark.parametrize("path", [case for case in golden_cases("cortex") if "quirk" in case.id])
def test_module_is_right_where_the_published_one_is_wrong(path: Path) -> None:
    case = Case(path)
    name, H = case.meta["name"], case["x"].shape[-1]
    cell = "CausalConv1d" if "conv" in name else "sLSTMCell" if "slstm" in name else "mLSTMCell"
    config = {"cell": cell, "kernel_size": 4, "channel_mixing": False, "num_heads": 4}
    module = build({"kind": "cell", "config": config, "H": H}, published_xl=False)
    load_parameters(module, case)
    resets = case.resets if "resets" in case.groups else None
    with torch.no_grad():
        y, _ = module(case["x"], case.initial_state(module), resets)
    assert_close(y, case["y_correct"], "y")
    assert (y - case["y_upstream"]).abs().max() > 1e-3
