"""Speed of the memory stacks: tokens per second of acting (one step) and of learning (forward and backward).

    python benchmarks/cortex.py [--threads 1] [--repeats 7] [--only S X]

One token is one step of one row; time is CPU time with one thread (other load on the machine then matters less), else
wall time. Each line gives the median over the repeats, their spread (half the distance between the quartiles, in per
cent of the median), and the ratios to torch.nn.LSTM of the same width and depth, which runs in turns with it, and to
the published cells' figures, which were measured with 2 threads on another machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from memexp.config import UsageError
from memexp.cortex import build_stack

WIDTH = 128
STEP_ROWS = 512
SEQUENCE = (64, 32)  # T, B
EPISODE = 100  # steps between episode starts, on average

PUBLISHED = {
    # (pattern, mem_len, layers): tokens/s of a step, of forward and backward
    ("X", 0, 4): (40_000, 14_600),
    ("X", 128, 4): (1_500, 9_000),
    ("S", 0, 4): (11_800, 1_600),
    ("AgSA", 0, 3): (3_900, 1_000),
}
CASES = [*PUBLISHED, ("L", 0, 4), ("A", 0, 4), ("Ag", 0, 4), ("M", 0, 4), ("AXMS", 128, 4)]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"width {WIDTH}, {arguments.threads} threads, torch {torch.__version__}; step B={STEP_ROWS}, ", end="")
    print(f"sequence T={SEQUENCE[0]} B={SEQUENCE[1]}")
    print(f"{'stack':<20}{'step':>10} ±%  /LSTM  /published{'fwd+bwd':>12} ±%  /LSTM  /published")
    for pattern, mem_len, layers in CASES:
        if arguments.only and pattern not in arguments.only:
            continue
        try:
            stack = build_stack(pattern, WIDTH, layers, mem_len=mem_len)
        except UsageError as error:
            print(f"{pattern:<20}{error}")
            continue
        reference = nn.LSTM(WIDTH, WIDTH, layers, batch_first=True)
        pairs = ((steps(stack), lstm_steps(reference)), (learning(stack), lstm_learning(reference)))
        name = f"{pattern} x{layers}" + (f" mem_len {mem_len}" if "X" in pattern else "")
        published = PUBLISHED.get((pattern, mem_len, layers), (None, None))
        cells = [compare(*pair, arguments.repeats, figure) for pair, figure in zip(pairs, published, strict=True)]
        print(f"{name:<20}{cells[0]}  {cells[1]}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="patterns to measure")
    return parser.parse_args()


def compare(ours: Callable[[], int], lstm: Callable[[], int], repeats: int, published: int | None) -> str:
    """Median and spread of tokens/s, and the ratios; the two run in turns, so that load on the machine hits both."""
    for run in (ours, lstm):
        run()
    rates, baselines = zip(*((rate(ours), rate(lstm)) for _ in range(repeats)), strict=True)
    median = statistics.median(rates)
    low, _, high = statistics.quantiles(rates, n=4)
    ratio = f"{median / published:9.1f}x" if published else " " * 10
    return f"{median:10,.0f} {50 * (high - low) / median:2.0f} {median / statistics.median(baselines):6.2f}x {ratio}"


def rate(run: Callable[[], int]) -> float:
    """Tokens per second of one run, which returns how many tokens it processed."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    tokens = run()
    return tokens / (clock() - start)


def steps(stack: nn.Module, count: int = 8) -> Callable[[], int]:
    """Some steps of acting, without gradients, the state carried on."""
    x, resets = torch.randn(STEP_ROWS, WIDTH), torch.rand(STEP_ROWS) < 1 / EPISODE
    carried = [stack.init_state(STEP_ROWS)]  # type: ignore[operator]

    @torch.no_grad()
    def run() -> int:
        for _ in range(count):
            _, carried[0] = stack(x, carried[0], resets)
        return count * STEP_ROWS

    return run


def learning(stack: nn.Module) -> Callable[[], int]:
    """One sequence forward and backward, with episodes that start inside."""
    T, B = SEQUENCE
    x, resets = torch.randn(B, T, WIDTH, requires_grad=True), torch.rand(B, T) < 1 / EPISODE
    state = stack.init_state(B)  # type: ignore[operator]

    def run() -> int:
        y, _ = stack(x, state, resets)
        backward(y, stack.parameters())
        return T * B

    return run


def lstm_steps(lstm: nn.LSTM, count: int = 8) -> Callable[[], int]:
    x = torch.randn(STEP_ROWS, 1, WIDTH)

    @torch.no_grad()
    def run() -> int:
        state = None
        for _ in range(count):
            _, state = lstm(x, state)
        return count * STEP_ROWS

    return run


def lstm_learning(lstm: nn.LSTM) -> Callable[[], int]:
    T, B = SEQUENCE
    x = torch.randn(B, T, WIDTH, requires_grad=True)

    def run() -> int:
        backward(lstm(x)[0], lstm.parameters())
        return T * B

    return run


def backward(y: Tensor, parameters: Iterable[Tensor]) -> None:
    torch.autograd.grad(y.square().sum(), list(parameters), allow_unused=True)


if __name__ == "__main__":
    main()
