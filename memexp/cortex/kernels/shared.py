"""What several kernels use."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor


def has_kernel(x: Tensor, on_gpu: bool = True) -> bool:
    """Whether x's device has a kernel: CPUs do, GPUs if there is one for them and Triton. Elsewhere plain loops run."""
    return x.device.type == "cpu" or (x.device.type == "cuda" and on_gpu and find_spec("triton") is not None)


def by_device(operator: Any, package: str, function: str, devices: Sequence[str] = ("cpu", "gpu")) -> None:
    """Let `<package>.cpu.<function>` compute the operator on the CPU and `<package>.gpu.<function>` on CUDA devices.

    The modules are imported when they are first needed: each brings a compiler.
    """
    for module in devices:

        def compute(*arguments: Any, module: str = module) -> Any:
            return getattr(import_module(f"{package}.{module}"), function)(*arguments)

        operator.register_kernel({"cpu": "cpu", "gpu": "cuda"}[module])(compute)
