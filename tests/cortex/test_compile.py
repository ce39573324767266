"""torch.compile on blocks: one graph each, which computes what they compute without, under the same names."""

import copy
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memexp.config import UsageError, override
from memexp.cortex import build_stack
from memexp.cortex.stack import TOKEN_BLOCKS, Stack
from memexp.ppo.config import RESUMABLE, TrainConfig
from memexp.runs import Run, RunInfo
from memexp.runs.identity import refuse_another_experiment

H, B, T = 16, 3, 8
Pass = tuple[Tensor, dict[str, Tensor], list[Tensor | None]]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def random_stack(pattern: str, layers: int = 1, **options: Any) -> Stack:
    torch.manual_seed(0)
    stack = build_stack(pattern, H, layers, mem_len=4, **options)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return stack


def module_of(pattern: str) -> nn.Module:
    """The block of a token, or the column of several."""
    column = random_stack(pattern).blocks[0]
    return column if pattern == "AgSA" else column.experts[0]  # type: ignore[union-attr,index]


def carried_state(module: nn.Module) -> dict[str, Tensor]:
    state = module.init_state(B, torch.device("cpu"), torch.float32)  # type: ignore[operator]
    with torch.no_grad():
        return module(torch.randn(B, 6, H), state, torch.rand(B, 6) < 0.2)[1]


def learn(call: Callable, module: nn.Module, x: Tensor, state: dict[str, Tensor], resets: Tensor) -> Pass:
    """Output, new state, and gradients of x and of the parameters."""
    x = x.clone().requires_grad_()
    y, new = call(x, state, resets)
    loss = (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum()
    loss = loss + sum(leaf.square().sum() for leaf in new.values() if leaf.requires_grad)
    return y, new, list(torch.autograd.grad(loss, [x, *module.parameters()], allow_unused=True))


def assert_same(actual: Pass, expected: Pass) -> None:
    """To 1e-5 of each tensor's largest entry, or of 1 where that is larger."""
    assert actual[1].keys() == expected[1].keys()
    states = ((leaf, expected[1][key]) for key, leaf in actual[1].items())
    for a, b in [(actual[0], expected[0]), *states, *zip(actual[2], expected[2], strict=True)]:
        if a is None or b is None:
            assert a is b
        else:
            bound = 1e-5 * max(1.0, b.detach().abs().max().item())
            torch.testing.assert_close(a, b, rtol=0, atol=bound)


@pytest.mark.parametrize("pattern", [*TOKEN_BLOCKS, "AgSA"])
def test_the_sequence_pass_is_one_graph_with_the_same_outputs_states_and_gradients(pattern: str) -> None:
    module = module_of(pattern)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    inputs = torch.randn(B, T, H), carried_state(module), torch.rand(B, T) < 0.3
    assert_same(learn(compiled, module, *inputs), learn(module, module, *inputs))


@pytest.mark.parametrize("pattern", [*TOKEN_BLOCKS, "AgSA"])
def test_the_step_pass_is_one_graph_with_the_same_outputs_and_states(pattern: str) -> None:
    module = module_of(pattern)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    inputs = torch.randn(B, 1, H), carried_state(module), torch.rand(B, 1) < 0.3
    with torch.no_grad():
        assert_same((*compiled(*inputs), []), (*module(*inputs), []))


@pytest.mark.slow
def test_a_graph_serves_any_number_of_rows() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    stack = random_stack("".join(TOKEN_BLOCKS))
    stack.blocks[0].compile_experts(backend)  # type: ignore[operator]
    for rows in (7, 2, 5):
        with torch.no_grad():
            _, state = stack(torch.randn(rows, H), stack.init_state(rows), torch.rand(rows) < 0.3)
        stack(torch.randn(rows, T, H), state, torch.rand(rows, T) < 0.3)
        assert len(graphs) == 2 * len(TOKEN_BLOCKS)


def test_the_option_compiles_every_block_in_place_and_changes_no_name() -> None:
    plain, compiled = (random_stack("AXS", layers=2, compile=option) for option in (False, True))
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in compiled.named_parameters()]
    compiled.load_state_dict(copy.deepcopy(plain).state_dict())
    for stack, expected in ((plain, False), (compiled, True)):
        blocks = [expert for column in stack.blocks for expert in column.experts]  # type: ignore[union-attr]
        assert {block._compiled_call_impl is not None for block in blocks} == {expected}  # type: ignore[union-attr]


def test_a_run_may_be_resumed_compiled_but_not_with_another_memory() -> None:
    run, config = Run.named("compiled"), TrainConfig()
    info = {"env": "tmaze", "arm": "X", "pattern": "X", "mem_len": 128, "memory": "on", "seed": 0}
    run.write_info(RunInfo(run=run.name, total_timesteps=1, **info))
    run.write_config(config.model_dump())
    refuse_another_experiment(run, override(config, {"cortex.compile": True}).model_dump(), RESUMABLE)
    with pytest.raises(UsageError, match=r"cortex\.mem_len"):
        refuse_another_experiment(run, override(config, {"cortex.mem_len": 3}).model_dump(), RESUMABLE)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("pattern", ["AgS", "X"])
def test_what_the_default_compiler_makes_computes_the_same(pattern: str) -> None:
    plain, compiled = (random_stack(pattern, compile=option) for option in (False, True))
    state = plain.init_state(B)
    x, resets = torch.randn(B, T, H), torch.rand(B, T) < 0.3
    assert_same(learn(compiled, compiled, x, state, resets), learn(plain, plain, x, state, resets))
    with torch.no_grad():
        assert_same((*compiled(x[:, 0], state, resets[:, 0]), []), (*plain(x[:, 0], state, resets[:, 0]), []))
