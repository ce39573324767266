"""The cost of a stack: trainable parameters, state of one agent, FLOPs of one acting step. Imports no torch.

Closed formulas, combined like the stack: cell, block, column, stack. The cells' equations are in `cells/`. H is the
width of the stack, N the number of heads, M = mem_len. A matrix [a, b] has a b parameters; a row times it is a b
multiply-adds.

FLOPs are those of one forward step (T = 1) with a carried state, per row: 2 per multiply-add of a matrix product
(linear maps, per-head matrices, attention). They exclude pointwise work (norms, nonlinearities, gates, dot products,
depthwise convolution) and products of weights with weights, which a call computes once for all rows: W_r times the
position codes of X (2 (M + 1) H^2), and the products in router, refiner and mixer.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass

from memexp.config import UsageError
from memexp.cortex.config import AGALITE_HEADS, MAMBA_STATE, CortexConfig, mamba_heads
from memexp.pattern import TOKENS, Pattern, parse_pattern

FLOAT, AGE = 4, 8
"""Bytes of a float32, and of the int64 age of X's memory."""
CONV_TAPS = 4
"""Steps that the convolution of C, S and M reads."""
ETA = 6
"""Rank of Ag's feature maps."""


@dataclass(frozen=True)
class Cost:
    """The cost of a stack or a part of it; the costs of parts add up."""

    parameters: int = 0
    """Trainable parameters."""
    state_bytes: int = 0
    """State of one agent: float32, ages int64."""
    step_flops: int = 0
    """FLOPs of one forward step of one agent."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> "Cost":
        return Cost(*(a * times for a in astuple(self)))


def cost(
    pattern: Pattern, d_hidden: int, num_layers: int, n_heads: int, mem_len: int, count: "Count | None" = None
) -> Cost:
    """The cost of the stack that `build_stack` makes of the same arguments, with its last layer norm.

    `count` gives the cost of the block of a cell of one's own, which has no formula here.
    Raises UsageError for a token that is unknown or has neither, or for sizes that do not fit.
    """
    sizes = CortexConfig.parse(
        {"pattern": pattern, "d_hidden": d_hidden, "num_layers": num_layers, "n_heads": n_heads, "mem_len": mem_len}
    )
    patterns = [pattern] * num_layers if isinstance(pattern, str) else pattern
    return sum((column(parse_pattern(one), sizes, count) for one in patterns), Cost(parameters=2 * d_hidden))


Count = Callable[[str, CortexConfig], Cost]
"""(token, sizes of the stack) -> the cost of its block."""


def column(tokens: list[str], sizes: CortexConfig, count: Count | None = None) -> Cost:
    """One column. A single expert is just its block. E experts also have these parameters, with keys of width H:

        norm      H                             mixer  4 H^2 + E H    W_q, W_k, W_v, W_out, one query bias per expert
        router    2 H^2 + E H + H               W_q, W_k, keys, context
        refiner   H^2 + E H                     W_q_tok, k_loc
        head      4 H^2 + 3 H                   H -> 2 H -> H
        scalars   2

    and these multiply-adds per row: 2 H^2 for u times the mixer's W_k' W_q and the mixed row times W_out W_v, E^2 H for
    the E contributions times the E query biases, E H for the refiner, 4 H^2 for the head.
    """
    for token in tokens:
        if token not in TOKEN_COSTS and (count is None or token in TOKENS):
            raise UsageError(f"there is no formula for {token} in memexp/cortex/cost.py")
    costs = (TOKEN_COSTS[one](sizes) if one in TOKEN_COSTS else count(one, sizes) for one in tokens)  # type: ignore[misc]
    experts = sum(costs, Cost())
    if len(tokens) == 1:
        return experts
    H, E = sizes.d_hidden, len(tokens)
    return experts + Cost(11 * H * H + 3 * E * H + 5 * H + 2, step_flops=2 * (6 * H * H + E * E * H + E * H))


# Blocks.


def gru_gate(H: int) -> Cost:
    """Six matrices [H, H] and a bias."""
    return Cost(parameters=6 * H * H + H, step_flops=2 * 6 * H * H)


def post_up_gated(cell: Cost, H: int) -> Cost:
    """Two norms without bias, two gates, and a feed-forward part H -> I -> H with biases, I = floor(1.5 H)."""
    inner = 3 * H // 2
    return cell + gru_gate(H) * 2 + Cost(parameters=2 * H + 2 * H * inner + inner + H, step_flops=2 * 2 * H * inner)


def pre_up_gated(cell: Cost, H: int) -> Cost:
    """A norm without bias, H -> 2 W for the cell's input and its gate, W -> H, a skip weight, a GRU gate; W = 2 H."""
    W = cell_width(H)
    around = Cost(parameters=H + (2 * H * W + 2 * W) + (W * H + H) + W, step_flops=2 * 3 * H * W)
    return cell + gru_gate(H) + around


def cell_width(H: int) -> int:
    """W, the width of the cell of M."""
    return 2 * H


# Cells.


def conv(H: int) -> Cost:
    """One factor per tap and feature, and a bias; the state is the last K inputs. Depthwise, so pointwise work."""
    return Cost(parameters=CONV_TAPS * H + H, state_bytes=FLOAT * CONV_TAPS * H)


def lstm(H: int) -> Cost:
    """W_ih and W_hh [4 H, H], both with a bias; the state is h and c."""
    return Cost(parameters=8 * H * H + 8 * H, state_bytes=FLOAT * 2 * H, step_flops=2 * 8 * H * H)


def gru(H: int) -> Cost:
    """W_ih and W_hh [3 H, H], both with a bias; the state is h."""
    return Cost(parameters=6 * H * H + 6 * H, state_bytes=FLOAT * H, step_flops=2 * 6 * H * H)


def min_gru(H: int) -> Cost:
    """One matrix [2 H, H] with bias; the state is h."""
    return Cost(parameters=2 * H * H + 2 * H, state_bytes=FLOAT * H, step_flops=2 * 2 * H * H)


def lru(H: int) -> Cost:
    """B and C, complex, are real [2 H, H] and [H, 2 H]; nu, theta, gamma and D are vectors; the state has two parts."""
    return Cost(parameters=4 * H * H + 4 * H, state_bytes=FLOAT * 2 * H, step_flops=2 * 4 * H * H)


def s5(H: int) -> Cost:
    """B and C, complex, as those of the LRU, and a gate [H, H] with bias; L has two vectors, d and D one each."""
    return Cost(parameters=5 * H * H + 5 * H, state_bytes=FLOAT * 2 * H, step_flops=2 * 5 * H * H)


def mamba(H: int) -> Cost:
    """I = 2 H features in N heads, S numbers of each. W_in [2 I + 2 S + N, H] and W_out [H, I] without bias, three
    numbers a head, a norm. A step reads I S numbers; adding to them is pointwise work."""
    inner, heads, S = 2 * H, mamba_heads(H), MAMBA_STATE
    matrices = H * (2 * inner + 2 * S + heads) + inner * H
    around = conv(inner + 2 * S) + Cost(3 * heads + inner, FLOAT * inner * S)
    return around + Cost(matrices, step_flops=2 * (matrices + inner * S))


def delta(H: int, N: int) -> Cost:
    """q, k, v, z [4 H, H], two gates a head [2 N, H], W_out, all without bias; two numbers a head, a norm of d = H/N.

    A step reads the memory of H d numbers with k, adds to it, and reads it with q; q.k and what it reads are H each."""
    d, matrices = H // N, 5 * H * H + 2 * N * H
    around = conv(3 * H) + Cost(2 * N + d, FLOAT * H * d)
    return around + Cost(matrices, step_flops=2 * (matrices + 3 * H * d + 2 * H))


def frames(H: int) -> Cost:
    """[H, 4 H] and [H, H], both with a bias; the state is the three inputs before this one."""
    return Cost(parameters=5 * H * H + 2 * H, state_bytes=FLOAT * 3 * H, step_flops=2 * 5 * H * H)


def slstm(H: int, N: int, axon: bool) -> Cost:
    """A convolution, per-head matrices, four biases and the norm of the output; the state is y, c, n, m.

    One matrix [H/N, H/N] per head is H^2/N: four for the input and four for y are 8 H^2/N. In S^ two Axon layers
    H -> 2 H replace the four for the input.
    """
    four = 4 * H * H // N
    around = conv(H) + Cost(parameters=4 * H + H, state_bytes=FLOAT * 4 * H)
    recurrent = Cost(parameters=four, step_flops=2 * four)
    return around + recurrent + (axon_layer(H, 2 * H) * 2 if axon else recurrent)


def mlstm(W: int, N: int, axon: bool) -> Cost:
    """A convolution, two gates [q|k|v] -> N with bias, the norm of the output; the state is C, n, m.

    With d = W/N, C has W d entries, n has W and m has N. C' = f C + i k v^T and q^T C' are W d multiply-adds each; q.k,
    its product with v and q.n are W each. M^ has Axon layers for both gates, for q = k and for v (W -> W).
    """
    d = W // N
    memory = Cost(parameters=W, state_bytes=FLOAT * (W * d + W + N), step_flops=2 * (2 * W * d + 3 * W))
    if axon:
        return conv(W) + memory + axon_layer(W, W) * 2 + axon_layer(3 * W, N) * 2
    gates = Cost(parameters=2 * (3 * W * N + N), step_flops=2 * 2 * 3 * W * N)
    return conv(W) + memory + gates


def xl(H: int, N: int, M: int) -> Cost:
    """W_q, W_k, W_v, W_o with bias, W_r without, u and v: 5 H^2 + 6 H parameters. The state is M inputs and their age.

    A step computes neither keys nor values: W_q, W_k, W_v and W_o are applied once, 4 H^2 multiply-adds. For each of
    the M + 1 keys N heads score and average inputs of width H, N H each; positions are H. Without memory the softmax
    over one key is 1, and only W_v and W_o remain.
    """
    parameters = 5 * H * H + 6 * H
    if M == 0:
        return Cost(parameters, step_flops=2 * 2 * H * H)
    return Cost(parameters, FLOAT * M * H + AGE, 2 * (4 * H * H + (M + 1) * (2 * N * H + H)))


def xl_axon(H: int, M: int) -> Cost:
    """X with Axon layers H -> H for q, k and v; the state is that of X and of the three layers, or empty if M = 0.

    Each step computes k and v for all M + 1 places, and the Axons of the oldest place once more for the next state.
    Content scores, position scores and averages are H multiply-adds per key each.
    """
    layer = axon_layer(H, H)
    parameters = Cost(3 * layer.parameters + 2 * H * H + 3 * H)  # W_o with bias, W_r; u and v
    if M == 0:  # only v's layer and W_o
        return parameters + Cost(step_flops=layer.step_flops + 2 * H * H)
    places = layer.step_flops * (1 + 2 * (M + 1)) + 2 * axon(H, H, mixer_weights=0).step_flops
    state = 3 * layer.state_bytes + FLOAT * M * H + AGE
    return parameters + Cost(0, state, places + 2 * (3 * (M + 1) * H + H * H))


def agalite(H: int, N: int) -> Cost:
    """k, q, v, beta, gamma from one [5 H, H], p1, p2, p3 from one [3 eta N, H], neither with bias; W_out with bias.

    In the state K and s have eta H entries, V has H. The recurrence and its products with phi_q are pointwise work.
    """
    matrices = 6 * H * H + 3 * ETA * N * H
    return Cost(parameters=matrices + H, state_bytes=FLOAT * (2 * ETA * H + H), step_flops=2 * matrices)


def axon(width: int, out: int, mixer_weights: int) -> Cost:
    """nu, theta, w1, w2, a mixer of `mixer_weights` parameters, and W_out [2 width, out] with bias.

    c and each of its four traces have two parts: 10 vectors. The mixer multiplies with a square matrix: W_in, or the
    Hadamard matrix, which has no parameters. The recurrences are diagonal: pointwise work.
    """
    return Cost(
        parameters=4 * width + mixer_weights + 2 * width * out + out,
        state_bytes=FLOAT * 10 * width,
        step_flops=2 * (width * width + 2 * width * out),
    )


def axon_layer(width: int, out: int) -> Cost:
    """A linear map with bias plus an Axon; the mixer is a Hadamard transform if the width is a power of two."""
    linear = Cost(parameters=width * out + out, step_flops=2 * width * out)
    return linear + axon(width, out, mixer_weights=0 if width & (width - 1) == 0 else width * width)


TOKEN_COSTS: dict[str, Callable[[CortexConfig], Cost]] = {
    "A": lambda s: post_up_gated(axon(s.d_hidden, s.d_hidden, mixer_weights=s.d_hidden**2), s.d_hidden),
    "Ag": lambda s: post_up_gated(agalite(s.d_hidden, AGALITE_HEADS), s.d_hidden),
    "X": lambda s: post_up_gated(xl(s.d_hidden, s.n_heads, s.mem_len), s.d_hidden),
    "X^": lambda s: post_up_gated(xl_axon(s.d_hidden, s.mem_len), s.d_hidden),
    "M": lambda s: pre_up_gated(mlstm(cell_width(s.d_hidden), s.n_heads, axon=False), s.d_hidden),
    "M^": lambda s: pre_up_gated(mlstm(cell_width(s.d_hidden), s.n_heads, axon=True), s.d_hidden),
    "S": lambda s: post_up_gated(slstm(s.d_hidden, s.n_heads, axon=False), s.d_hidden),
    "S^": lambda s: post_up_gated(slstm(s.d_hidden, s.n_heads, axon=True), s.d_hidden),
    "L": lambda s: lstm(s.d_hidden),
    "G": lambda s: gru(s.d_hidden),
    "G-": lambda s: post_up_gated(min_gru(s.d_hidden), s.d_hidden),
    "R": lambda s: post_up_gated(lru(s.d_hidden), s.d_hidden),
    "S5": lambda s: post_up_gated(s5(s.d_hidden), s.d_hidden),
    "B": lambda s: post_up_gated(mamba(s.d_hidden), s.d_hidden),
    "D": lambda s: post_up_gated(delta(s.d_hidden, s.n_heads), s.d_hidden),
    "C": lambda s: conv(s.d_hidden),
    "W": lambda s: frames(s.d_hidden),
}
"""Token -> the cost of its block; `TOKEN_BLOCKS` of the stack builds the same."""
