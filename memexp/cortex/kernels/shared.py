"""How a kernel is chosen for a device, and how it becomes an operator of PyTorch.

Each kernel is a folder: the definition (`plain.py`, a loop over steps, or a function `*_plain`), and `cpu.py` (Numba),
`gpu.py` (Triton) or `torch_backend.py` (PyTorch, for any device). These are imported on first use, because Numba and
Triton are slow to import.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

HAS_TRITON = find_spec("triton") is not None


def has_kernel(x: Tensor, on_gpu: bool = True) -> bool:
    """Whether a recurrence has a kernel for x's device: on a CPU always, on a GPU if `on_gpu` and Triton is installed.

    Other devices run the plain loop, and so does an export (memexp/exporting.py): other programs lack our kernels.
    """
    if torch.compiler.is_exporting():
        return False
    return x.device.type == "cpu" or (x.device.type == "cuda" and on_gpu and HAS_TRITON)


def runs_in_numba(x: Tensor) -> bool:
    """Whether Numba computes what has no operator: float32 or float64 on a CPU, without autocast or torch.compile."""
    suits = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return suits and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")


def backend(x: Tensor, package: str) -> ModuleType:
    """The module for data like x: `<package>.cpu` (Numba) for float32 and float64 on a CPU, else `.torch_backend`."""
    numba = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return import_module(f"{package}.{'cpu' if numba else 'torch_backend'}")


def operator(package: str, function: str, fake: Callable[..., Any], elsewhere: str = "gpu") -> "Operator":
    """The operator `memexp::<kernel>` (function "forward") or `memexp::<kernel>_<function>`.

    `<package>.cpu.<function>` computes it on the CPU, `<package>.<elsewhere>.<function>` on other devices. `fake` has
    the same signature and returns empty results of the right shapes, for torch.compile.
    """

    def compute(*arguments: Any) -> Any:
        module = "cpu" if arguments[0].device.type == "cpu" else elsewhere
        return getattr(import_module(f"{package}.{module}"), function)(*arguments)

    name = package.rpartition(".")[2] + ("" if function == "forward" else f"_{function}")
    return Operator(f"memexp::{name}", compute, fake)


class Operator:
    """An operator of PyTorch. `torch.library.custom_op` makes the same ones, but its first call imports the compiler:
    1.5 s of CPU time and 140 MB."""

    _library = torch.library.Library("memexp", "FRAGMENT")

    def __init__(self, name: str, compute: Callable[..., Any], fake: Callable[..., Any]):
        self.name, self.compute, short = name, compute, name.removeprefix("memexp::")
        self._library.define(short + torch.library.infer_schema(fake, mutates_args=()))
        self._library.impl(short, compute, "CompositeExplicitAutograd")
        torch.library.register_fake(name, fake, lib=self._library)
        self._call = getattr(torch.ops.memexp, short).default

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def register_autograd(self, gradients: Callable[..., Any], setup_context: Callable[..., None]) -> None:
        torch.library.register_autograd(self.name, gradients, setup_context=setup_context, lib=self._library)


def call(operator: Any, *arguments: Any) -> Any:
    """operator(*arguments). On a CPU without gradients this skips PyTorch's dispatcher, which is slow for one step."""
    x = arguments[0]
    if torch.is_grad_enabled() or x.device.type != "cpu" or type(x) is not Tensor or torch.compiler.is_compiling():
        return operator(*arguments)
    return operator.compute(*arguments)


def gated_recurrence(package: str, num_saved: int) -> Any:
    """The operator (gate_inputs, recurrent, state, resets, saving) -> (y, state after, saved), with its gradients.

    With the state `[B, parts, ..., d]`, y is `[B, T, ..., d]`. The backward pass needs `saved`
    `[B, T, ..., num_saved, d]`, which has no steps unless `saving`.
    """

    def forward(
        gate_inputs: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None, saving: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        (B, T), (*outer, d) = gate_inputs.shape[:2], state.shape[2:]
        saved = gate_inputs.new_empty(B, T if saving else 0, *outer, num_saved, d)
        return gate_inputs.new_empty(B, T, *outer, d), torch.empty_like(state), saved

    def backward(
        dy: Tensor, d_after: Tensor, gate_inputs: Tensor, recurrent: Tensor, state: Tensor, y: Tensor, saved: Tensor,
        resets: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        return torch.empty_like(gate_inputs), torch.empty_like(recurrent), torch.empty_like(state)

    run, differentiate = operator(package, "forward", forward), operator(package, "backward", backward)

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        gate_inputs, recurrent, state, resets, _ = inputs
        y, _, saved = output
        ctx.save_for_backward(gate_inputs, recurrent, state, y, saved, resets)

    def gradients(ctx: Any, dy: Tensor, d_after: Tensor, d_saved: Tensor) -> Any:
        return *differentiate(dy.contiguous(), d_after.contiguous(), *ctx.saved_tensors), None, None

    run.register_autograd(gradients, setup_context=save)
    return run
