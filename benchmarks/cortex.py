"""Speed of the memory stacks: tokens per second of acting (one step) and of learning (forward and backward).

    python benchmarks/cortex.py [--threads 2] [--repeats 5] [--only S X128] [--device cuda --dtype bfloat16] [--compile]

One token is one step of one row; the time is wall time. Each figure is the median over the repeats with its spread
(half the distance between the quartiles, in per cent of the median), followed by the ratios to the published cells
(`pip install cortexcore` where Python is 3.12; without it the column is empty) and to torch.nn.LSTM of the same width
and depth. All run in turns in this process, so that other load on the machine hits all alike.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memexp.cortex import build_stack
from memexp.ppo.train import keep_freed_memory

sys.path = [folder for folder in sys.path if Path(folder) != Path(__file__).parent]  # where `cortex` is this file
try:
    from cortex.config import XLCellConfig  # type: ignore[import-not-found]
    from cortex.stacks import build_cortex_auto_stack  # type: ignore[import-not-found]
except ImportError:
    build_cortex_auto_stack = None

WIDTH = 128
EPISODE = 100  # steps between episode starts, on average
CASES = {
    # name: pattern, mem_len, layers
    "X0": ("X", 0, 4),
    "X128": ("X", 128, 4),
    "S": ("S", 0, 4),
    "AgSA": ("AgSA", 0, 3),
    "M": ("M", 0, 4),
    "AXMS": ("AXMS", 128, 4),
    "A": ("A", 0, 4),
    "Ag": ("Ag", 0, 4),
    "L": ("L", 0, 4),
    "C": ("C", 0, 4),
    "X^": ("X^", 128, 4),
    "S^": ("S^", 0, 4),
    "M^": ("M^", 0, 4),
}
Run = Callable[[], int]
"""Does some work and returns the number of tokens."""


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} CPU threads"
    print(f"width {WIDTH}, {where}, {arguments.dtype}, torch {torch.__version__}")
    print(f"{'':<22}" + "".join(f"{name:>16} ±%  /published   /LSTM" for name in arguments.workloads))
    for name in arguments.only or CASES:
        pattern, mem_len, layers = CASES[name]
        label = f"{pattern} x{layers}" + (f" mem_len {mem_len}" if "X" in pattern else "")
        print(f"{label:<22}", end="")
        for workload in arguments.workloads:
            ours = build_stack(pattern, WIDTH, layers, mem_len=mem_len, compile=arguments.compile).to(device, dtype)
            contenders = [WORKLOADS[workload](ours, device, dtype)]
            contenders.append(WORKLOADS[workload](published(pattern, mem_len, layers, device, dtype), device, dtype))
            contenders.append(WORKLOADS[workload](PlainLSTM(layers).to(device, dtype), device, dtype))
            print(compare(contenders, arguments.repeats, device), end="", flush=True)
        print()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=CASES, help="stacks to measure")
    parser.add_argument("--workloads", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="torch.compile our blocks")
    return parser.parse_args()


def compare(contenders: list[Run | None], repeats: int, device: torch.device) -> str:
    """Median and spread of the first one's tokens/s, and its ratios to the others."""
    rates: list[list[float]] = [[] for _ in contenders]
    for run in contenders:
        if run is not None:
            run()
    for _ in range(repeats):
        for run, measured in zip(contenders, rates, strict=True):
            if run is not None:
                measured.append(rate(run, device))
    medians = [statistics.median(measured) if measured else None for measured in rates]
    low, _, high = statistics.quantiles(rates[0], n=4)
    ours = medians[0]
    assert ours is not None
    ratios = [f"{ours / other:9.2f}x" if other else f"{'-':>10}" for other in medians[1:]]
    return f"{ours:16,.0f} {50 * (high - low) / ours:2.0f}  {' '.join(ratios)[:-1]}x" if ratios else ""


def rate(run: Run, device: torch.device) -> float:
    """Tokens per second."""
    synchronize(device)
    start, tokens = time.perf_counter(), 0
    while tokens == 0 or time.perf_counter() - start < 0.1:
        tokens += run()
        synchronize(device)
    return tokens / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def published(pattern: str, mem_len: int, layers: int, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
    """The published stack of this pattern, called like ours; None where the package is not installed."""
    if build_cortex_auto_stack is None:
        return None
    stack = build_cortex_auto_stack(
        d_hidden=WIDTH,
        num_layers=layers,
        pattern=pattern,
        compile_blocks=False,
        override_global_configs=[XLCellConfig(mem_len=mem_len)],
    )
    return Published(stack).to(device, dtype)


class Published(nn.Module):
    def __init__(self, stack: Any) -> None:
        super().__init__()
        self.stack = stack

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> Any:
        return self.stack.init_state(batch, device=device, dtype=dtype)

    def forward(self, x: Tensor, state: Any, resets: Tensor) -> tuple[Tensor, Any]:
        state = state.clone() if torch.is_grad_enabled() else state  # its Axon writes into the state it is given
        return self.stack(x, state, resets=resets)


class PlainLSTM(nn.Module):
    """torch.nn.LSTM, which knows no episode starts."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH, layers, batch_first=True)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> Any:
        return tuple(torch.zeros(self.lstm.num_layers, batch, WIDTH, device=device, dtype=dtype) for _ in range(2))

    def forward(self, x: Tensor, state: Any, resets: Tensor) -> tuple[Tensor, Any]:
        y, state = self.lstm(x if x.dim() == 3 else x[:, None], state)
        return y if x.dim() == 3 else y[:, 0], state


def acting(stack: Any, device: torch.device, dtype: torch.dtype, rows: int = 512) -> Run | None:
    """Some steps without gradients, the state carried on."""
    if stack is None:
        return None
    x = torch.randn(rows, WIDTH, device=device, dtype=dtype)
    resets = torch.rand(rows, device=device) < 1 / EPISODE
    carried = [with_full_memory(stack.init_state(rows, device, dtype))]

    @torch.no_grad()
    def run() -> int:
        for _ in range(4):
            _, carried[0] = stack(x, carried[0], resets)
        return 4 * rows

    return run


def with_full_memory(state: Any) -> Any:
    """Every slot of X counts: ours takes less time over empty ones."""
    if isinstance(state, dict):
        return {
            k: torch.full_like(a, state[k[:-3] + "mem"].shape[1]) if k.endswith("age") else a for k, a in state.items()
        }
    return state


def learning(stack: Any, device: torch.device, dtype: torch.dtype, steps: int, rows: int = 32) -> Run | None:
    """One sequence forward and backward, with episodes that start inside."""
    if stack is None:
        return None
    x = torch.randn(rows, steps, WIDTH, device=device, dtype=dtype, requires_grad=True)
    resets = torch.rand(rows, steps, device=device) < 1 / EPISODE
    state = with_full_memory(stack.init_state(rows, device, dtype))

    def run() -> int:
        y, _ = stack(x, state, resets)
        backward(y, [x, *stack.parameters()])
        return steps * rows

    return run


def backward(y: Tensor, inputs: Iterable[Tensor]) -> None:
    torch.autograd.grad(y.float().square().sum(), list(inputs), allow_unused=True)


WORKLOADS: dict[str, Callable[..., Run | None]] = {
    "step": acting,
    "T=64": lambda *a: learning(*a, steps=64),
    "T=256": lambda *a: learning(*a, steps=256),
}

if __name__ == "__main__":
    main()
