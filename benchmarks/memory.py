"""Memory that learning takes: bytes kept for the backward pass of one sequence, by its length.

    python benchmarks/memory.py [--only X S] [--steps 64 256]

Kept are the tensors that autograd saves, each storage once, parameters aside; the peak is all that is allocated during
the forward and the backward pass. Both are given per token (one step of one row). The last column is the longest
sequence's kept bytes per token over the shortest one's: 1 where memory grows with the number of steps, and their ratio
where it grows with its square.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from memexp.cortex import build_stack
from memexp.cortex.stack import TOKEN_BLOCKS, Stack

WIDTH, ROWS, EPISODE = 128, 4, 100
CASES = {token: (token, 128) for token in TOKEN_BLOCKS} | {"X0": ("X", 0)}
"""Name: pattern, mem_len."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="stacks to measure")
    parser.add_argument("--steps", nargs="*", type=int, default=[64, 128, 256, 512, 1024], help="lengths of sequences")
    arguments = parser.parse_args()
    print(f"width {WIDTH}, {ROWS} rows, one layer, float32: bytes per token kept (at the peak)")
    print(f"{'':<10}" + "".join(f"{f'T={steps}':>18}" for steps in arguments.steps) + "   ratio")
    for name in arguments.only:
        pattern, mem_len = CASES[name]
        torch.manual_seed(0)
        stack = build_stack(pattern, WIDTH, 1, mem_len=mem_len)
        kept, line = [], f"{name:<10}"
        for steps in arguments.steps:
            x, resets = torch.randn(ROWS, steps, WIDTH), torch.rand(ROWS, steps) < 1 / EPISODE
            tokens = ROWS * steps
            kept.append(saved_bytes(stack, x, resets) / tokens)
            line += f"{kept[-1]:9,.0f} {f'({peak_bytes(stack, x, resets) / tokens:,.0f})':>8}"
        print(f"{line}{kept[-1] / kept[0]:8.2f}", flush=True)


def saved_bytes(stack: Stack, x: Tensor, resets: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass of one call: each storage once, without the parameters'."""
    kept: dict[int, Tensor] = {}  # held, so that no address is used again

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = stack(x.clone().requires_grad_(), None, resets)  # noqa: F841, holds the graph
    parameters = {parameter.untyped_storage().data_ptr() for parameter in stack.parameters()}
    return sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in parameters)


def peak_bytes(stack: Stack, x: Tensor, resets: Tensor) -> int:
    """The most bytes that were allocated during a forward and a backward pass on the CPU, beyond those before it."""
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], profile_memory=True) as profiler:
        before = torch.empty(1)
        y, _ = stack(x, None, resets)
        torch.autograd.grad(y.square().sum(), list(stack.parameters()), allow_unused=True)
    del before
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    allocated = [e["args"]["Total Allocated"] for e in events if e["name"] == "[memory]"]
    return max(allocated) - allocated[0]


if __name__ == "__main__":
    main()
