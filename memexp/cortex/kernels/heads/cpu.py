"""`head_products` in one pass over the rows, a few at a time."""

from torch import Tensor

from memexp.cortex.kernels.cpu import kernel, over_rows
from memexp.cortex.kernels.matmul import ROWS, multiply_add


def head_products(a: Tensor, b: Tensor, w_a: Tensor, w_b: Tensor, bias: Tensor) -> Tensor:
    """a, b `[n, H]` -> `[n, N, 4, d]`."""
    y = a.new_empty(len(a), *bias.shape)
    inputs = (x.contiguous() for x in (a, b, w_a, w_b, bias))
    over_rows(_head_products, -(-len(a) // ROWS), *inputs, y.flatten(2))
    return y


@kernel
def _head_products(a, b, w_a, w_b, bias, y, first, end):
    N, d = w_a.shape[:2]
    for start in range(first * ROWS, min(end * ROWS, len(y)), ROWS):
        stop = min(start + ROWS, len(y))
        for head in range(N):
            left, right = head * d, (head + 1) * d
            for row in range(start, stop):
                for gate in range(4):
                    for j in range(d):
                        y[row, head, gate * d + j] = bias[head, gate, j]
            multiply_add(a[start:stop, left:right], w_a[head], y[start:stop, head, : 2 * d])
            multiply_add(b[start:stop, left:right], w_b[head], y[start:stop, head, 2 * d :])
