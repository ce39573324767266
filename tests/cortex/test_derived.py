"""What is kept of parameters while acting is computed again whenever they change."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from memexp.cortex import build_stack
from memexp.cortex.cells.shared import ParameterCache


def changes() -> dict[str, Callable[[nn.Module], object]]:
    def by(optimizer: type[torch.optim.Optimizer], **options: bool) -> Callable[[nn.Module], object]:
        def step(module: nn.Module) -> None:
            with torch.enable_grad():
                sum(p.sum() for p in module.parameters()).backward()  # type: ignore[union-attr]
            optimizer(module.parameters(), lr=0.1, **options).step()  # type: ignore[call-arg]

        return step

    def double(module: nn.Module) -> None:
        for p in module.parameters():
            p.mul_(2)

    def learn_by_hand(module: nn.Module) -> None:
        with torch.enable_grad():
            module(torch.randn(3, 16))
        for p in module.parameters():
            p.data.mul_(2)

    def replace(module: nn.Module) -> None:
        for name, p in list(module.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, nn.Parameter(p + 1))

    return {
        "in place": double,
        "SGD": by(torch.optim.SGD),
        "Adam": by(torch.optim.Adam, foreach=True),
        "fused Adam": by(torch.optim.AdamW, fused=True),
        "load_state_dict": lambda m: m.load_state_dict({k: 1.5 * v for k, v in m.state_dict().items()}),
        "new parameters": replace,
        "another type and back": lambda m: m.bfloat16().float(),
        "writing to .data after a learning pass": learn_by_hand,
        "new data": lambda m: nn.utils.vector_to_parameters(
            1 + nn.utils.parameters_to_vector(m.parameters()), m.parameters()
        ),
    }


@pytest.mark.parametrize("name", changes())
def test_acting_follows_every_change_of_the_parameters(name: str) -> None:
    torch.manual_seed(0)
    stack, x = build_stack("AgSA", 16, 1), torch.randn(3, 16)
    with torch.no_grad():
        stack(x, stack.init_state(3))
        changes()[name](stack)
        fresh = build_stack("AgSA", 16, 1)
        fresh.load_state_dict(stack.state_dict())
        for a, b in zip(stack(x, stack.init_state(3)), fresh(x, fresh.init_state(3)), strict=True):
            torch.testing.assert_close(a, b)


def test_it_is_computed_once_without_gradients_and_always_with_them() -> None:
    calls, derived, p = [], ParameterCache(), nn.Parameter(torch.ones(2))

    def compute(p: Tensor) -> Tensor:
        calls.append(p)
        return 2 * p

    with torch.no_grad():
        assert derived(compute, p) is derived(compute, p)
    assert len(calls) == 1
    assert derived(compute, p).requires_grad
    assert len(calls) == 2


def test_a_copy_of_a_stack_keeps_its_own() -> None:
    stack, x = build_stack("AgSA", 16, 1), torch.randn(3, 16)
    with torch.no_grad():
        y, _ = stack(x)
        for other in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
            torch.testing.assert_close(other(x)[0], y)
            for p in other.parameters():
                p.zero_()
            assert not torch.equal(other(x)[0], y)
        torch.testing.assert_close(stack(x)[0], y)
