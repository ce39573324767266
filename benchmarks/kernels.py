"""Speed of the kernels: forward and backward against the plain loop beside each, and against what the machine could do.

    python benchmarks/kernels.py [--device cuda] [--threads 2] [--rows 32] [--steps 64] [--repeats 9]

For a recurrence the floor is the time to move its inputs, outputs and gradients once, at the rate of a large copy
measured in the same run; `of floor` is that time over the time taken. For `linear` the other contender is
torch.nn.functional.linear. Medians over the repeats; the contenders run in turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from memexp.cortex.kernels.agalite import agalite
from memexp.cortex.kernels.agalite.plain import agalite_plain
from memexp.cortex.kernels.gate import gru_gate, gru_gate_plain
from memexp.cortex.kernels.linear import linear
from memexp.cortex.kernels.lstm import lstm
from memexp.cortex.kernels.lstm.plain import lstm_plain
from memexp.cortex.kernels.rtu import rtu
from memexp.cortex.kernels.rtu.plain import rtu_plain
from memexp.cortex.kernels.slstm import slstm
from memexp.cortex.kernels.slstm.plain import slstm_plain
from memexp.ppo.malloc import keep_freed_memory

WIDTH, HEADS, EPISODE = 128, 4, 100
Run = Callable[[], Sequence[Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    device = torch.device(options.device)
    rate = copy_rate(device, options.repeats)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{options.threads} CPU threads"
    print(f"width {WIDTH}, B={options.rows}, T={options.steps}, {where}; a copy moves {rate / 1e9:.1f} GB/s")
    print(f"{'':<10}{'forward ms':>12}{'x plain':>9}{'of floor':>10}{'both ms':>10}{'x plain':>9}{'of floor':>10}")
    for name, (fast, plain, inputs) in cases(options.rows, options.steps, device).items():
        print(f"{name:<10}{compare(fast, plain, inputs, options.repeats, rate)}", flush=True)


def cases(B: int, T: int, device: torch.device) -> dict[str, tuple[Callable, Callable, list[Tensor]]]:
    """Fast form, plain form and inputs of each kernel; sizes as in a stack of this width."""

    def normal(*size: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(size, device=device)).requires_grad_()

    N, d, H = HEADS, WIDTH // HEADS, WIDTH
    resets = torch.rand(B, T, device=device) < 1 / EPISODE
    cell = (torch.zeros(B, 8, 6, 16, device=device), torch.zeros(B, 8, 16, device=device))
    state = (cell[0], cell[1], cell[0])
    angle = 6 * torch.rand(H, device=device)
    decay = (0.9 * torch.stack([angle.cos(), angle.sin()])).requires_grad_()
    fresh_slstm, fresh_lstm = (torch.zeros(B, *size, device=device) for size in ((4, N, d), (2, H)))
    zero = torch.zeros(B, 2, H, device=device)
    return {
        "rtu": (
            lambda u, w, a: [rtu(u, a, w, zero, resets)[0]],
            lambda u, w, a: [rtu_plain(u, a, w, zero, resets)[0]],
            [normal(B, T, H), normal(2, H), decay],
        ),
        "agalite": (
            lambda a, b: [agalite(a, b, state, resets)[0]],
            lambda a, b: [agalite_plain(a, b, state, resets)[0]],
            [normal(B, T, 8, 5, 16), normal(B, T, 8, 3, 6)],
        ),
        "slstm": (
            lambda a, b: [slstm(a, b, fresh_slstm, resets)[0]],
            lambda a, b: [slstm_plain(a, b, fresh_slstm, resets)[0]],
            [normal(B, T, N, 4, d), normal(N, 4, d, d, scale=0.1)],
        ),
        "lstm": (
            lambda a, b: [lstm(a, b, fresh_lstm, resets)[0]],
            lambda a, b: [lstm_plain(a, b, fresh_lstm, resets)[0]],
            [normal(B, T, 4 * H), normal(4 * H, H, scale=0.1)],
        ),
        "gate": (
            lambda *a: [gru_gate(*a)],
            lambda *a: [gru_gate_plain(*a)],
            [normal(B, T, H), normal(B, T, H), *(normal(k * H, H, scale=0.1) for k in (3, 2, 1)), normal(H)],
        ),
        "linear": (
            lambda *a: [linear(*a)],
            lambda *a: [F.linear(*a)],
            [normal(B, T, H), normal(3 * H, H), normal(3 * H)],
        ),
    }


def compare(fast: Callable, plain: Callable, inputs: list[Tensor], repeats: int, rate: float) -> str:
    """Median times of the fast form, forward and with the backward pass; each with its ratio to the plain form's and
    the share of it that moving the data alone would take."""
    cells = []
    for runs in ([forward(f, inputs) for f in (fast, plain)], [both(f, inputs) for f in (fast, plain)]):
        moved = sum(a.numel() * a.element_size() for a in [*inputs, *runs[0]()])
        if len(cells):
            moved *= 2  # the backward pass reads the inputs and the output's gradient, and writes the inputs' gradients
        ours, theirs = medians(runs, repeats, inputs[0].device)
        cells.append(f"{1e3 * ours:10.2f}{theirs / ours:8.1f}x{moved / rate / ours:9.0%} ")
    return "  ".join(cells)


def forward(function: Callable, inputs: list[Tensor]) -> Run:
    def run() -> Sequence[Tensor]:
        with torch.no_grad():
            return function(*inputs)

    return run


def both(function: Callable, inputs: list[Tensor]) -> Run:
    def run() -> Sequence[Tensor]:
        outputs = function(*inputs)
        torch.autograd.grad(outputs, inputs, [torch.ones_like(y) for y in outputs])
        return outputs

    return run


def medians(runs: list[Run], repeats: int, device: torch.device) -> list[float]:
    """Seconds of each, in turns, after one run that compiles."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, taken in zip(runs, times, strict=True):
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def copy_rate(device: torch.device, repeats: int) -> float:
    """Bytes per second, read plus written, of a copy much larger than the caches."""
    source = torch.zeros(64 * 2**20, device=device)
    target = torch.zeros_like(source)
    (seconds,) = medians([lambda: [target.copy_(source)]], repeats, device)
    return 2 * source.numel() * source.element_size() / seconds


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
