"""Draws docs/cortex.svg, the figure of docs/cortex.md: cell, block, column, stack.

    python docs/figures/cortex.py [another file, .svg or .png]

One unit is one pixel at the width at which GitHub shows a page. Data flows upwards, state to the right.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

WIDTH, HEIGHT = 880, 820
FLOOR = 66
"""How high above a panel's bottom edge x enters."""
INK, SOFT = "#1f2328", "#59636e"
STATE, RESET = "#7a3fb0", "#cf222e"
CELL, BLOCK, COLUMN, STACK = (
    ("#fdf0cf", "#b7791f"),
    ("#dcebfa", "#2f6fb0"),
    ("#dff1df", "#3d8b4f"),
    ("#f0f1f4", "#59636e"),
)
PLAIN = ("#ffffff", "#8c959f")
Fill = tuple[str, str]
"""Face and edge."""


class Canvas:
    """Boxes, arrows and words on one page."""

    def __init__(self, ax: Axes) -> None:
        self.ax = ax

    def box(
        self, x: float, y: float, w: float, h: float, words: str = "", fill: Fill = PLAIN, size: float = 10.5
    ) -> None:
        """A box around its centre (x, y)."""
        style = "round,pad=0,rounding_size=4"
        patch = FancyBboxPatch((x - w / 2, y - h / 2), w, h, style, fc=fill[0], ec=fill[1], lw=1.1, zorder=3)
        self.ax.add_patch(patch)
        if words:
            self.words(x, y, words, size, ha="center")

    def panel(self, left: float, bottom: float, w: float, h: float, number: str, title: str, fill: Fill) -> None:
        style = "round,pad=0,rounding_size=8"
        self.ax.add_patch(FancyBboxPatch((left, bottom), w, h, style, fc="#fbfcfd", ec="#d1d9e0", lw=1, zorder=0))
        self.ax.add_patch(Circle((left + 21, bottom + h - 20), 10, fc=fill[0], ec=fill[1], lw=1.3, zorder=3))
        self.words(left + 21, bottom + h - 20.5, number, 10.5, ha="center", weight="bold")
        self.words(left + 38, bottom + h - 20.5, title, 12.5, weight="bold")

    def node(self, x: float, y: float, sign: str) -> None:
        """A round node for a sum or a product."""
        self.ax.add_patch(Circle((x, y), 8.5, fc="white", ec=INK, lw=1, zorder=3))
        self.words(x, y - 0.3, sign, 11, ha="center")

    def words(self, x: float, y: float, words: str, size: float = 10.5, color: str = INK, **how: str) -> None:
        self.ax.text(x, y, words, fontsize=size, color=color, zorder=5, va="center_baseline", **how)  # type: ignore[arg-type]

    def captions(self, x: float, y: float, *lines: str, ha: str = "left") -> None:
        """Small print, from the first line's middle (x, y) downwards."""
        for n, line in enumerate(lines):
            self.words(x, y - 15 * n, line, 10, SOFT, ha=ha)

    def line(self, *points: tuple[float, float], color: str = INK, arrow: bool = True, dash: bool = False) -> None:
        """A line with right angles, and a head at its end; a white seam where it crosses another."""
        order = 2.0 if color == INK else 2.2
        dashes = (0, (3, 2)) if dash else "-"
        xs, ys = zip(*points, strict=True)
        self.ax.plot(xs, ys, color="#fbfcfd", lw=4.5, solid_capstyle="butt", zorder=order - 0.1)
        self.ax.plot(xs[:-1] if arrow else xs, ys[:-1] if arrow else ys, color=color, lw=1.2, ls=dashes, zorder=order)
        if arrow:
            style = "-|>,head_length=4.5,head_width=2.3"
            head = FancyArrowPatch(
                points[-2],
                points[-1],
                arrowstyle=style,
                color=color,
                lw=1.2,
                shrinkA=0,
                shrinkB=0,
                zorder=order,
                ls=dashes,
            )
            self.ax.add_patch(head)


def legend(c: Canvas, y: float) -> None:
    at = 26
    for color, dash, words, step in (
        (INK, False, "data, upwards", 170),
        (STATE, False, "state, to the right: the caller's, in and out", 350),
        (RESET, True, "resets: step $t$ begins an episode, from a fresh state", 0),
    ):
        c.line((at, y), (at + 26, y), color=color, dash=dash)
        c.words(at + 34, y, words)
        at += step


def cell(c: Canvas, left: float, bottom: float, w: float, h: float) -> None:
    """One call of a cell over four steps, the third of which begins an episode."""
    c.panel(left, bottom, w, h, "1", "Cell: one recurrence, one state", CELL)
    equations = (
        r"$s_{t-1} \leftarrow$ fresh   if $r_t = 1$",
        r"$s_t \; = F(s_{t-1},\ x_t)$",
        r"$y_t \; = G(s_t,\ x_t)$",
    )
    for n, words in enumerate(equations):
        c.words(left + 24, bottom + h - 58 - 24 * n, words, 12)
    c.captions(
        left + 24,
        bottom + 63,
        "Acting calls it with one step, learning",
        "with a whole segment: it is the same",
        "function, and gives the same.",
    )
    y, first, gap = bottom + 104, left + 358, 126
    c.words(left + 276, y + 12, "state in", 10.5, STATE, ha="center")
    c.line((left + 248, y), (first - 39, y), color=STATE)
    for n in range(4):
        x, starts = first + n * gap, n == 2
        c.box(x, y, 78, 46, r"$F,\ G$", CELL, 12)
        c.line((x, y - 50), (x, y - 23))
        c.line((x, y + 23), (x, y + 50))
        c.words(x, y - 61, f"$x_{n}$", 12, ha="center")
        c.words(x, y + 60, f"$y_{n}$", 12, ha="center")
        c.line((x - 52, y - 50), (x - 52, y - 5), color=RESET, dash=True)
        c.words(x - 52, y - 61, f"$r_{n}={int(starts)}$", 11, RESET if starts else SOFT, ha="center")
        if starts:
            c.line((x - gap + 39, y), (x - 68, y), color=STATE, arrow=False)
            c.words(x - 65, y - 0.5, "×", 15, RESET, ha="center", weight="bold")
            c.line((x - 55, y), (x - 39, y), color=STATE)
            c.words(x - 55, y + 14, "fresh", 10.5, RESET, ha="center")
        elif n:
            c.line((x - gap + 39, y), (x - 39, y), color=STATE)
            c.words(x - gap / 2 - 4, y + 12, f"$s_{n - 1}$", 11.5, STATE, ha="center")
    last = first + 3 * gap
    c.line((last + 39, y), (last + 108, y), color=STATE)
    c.words(last + 78, y + 12, "state out", 10.5, STATE, ha="center")
    c.captions(
        first - 39, bottom + 17, "One call of four steps; the third begins an episode, and nothing older reaches it."
    )


def state_through(c: Canvas, x: float, y: float, half: float, reach: float) -> None:
    """The state that goes into a box and comes out of it."""
    c.line((x - half - reach, y), (x - half, y), color=STATE)
    c.line((x + half, y), (x + half + reach, y), color=STATE)


def block(c: Canvas, left: float, bottom: float, w: float, h: float) -> None:
    c.panel(left, bottom, w, h, "2", "Block: norms, gates, feed-forward", BLOCK)
    x, low, wide = left + 94, bottom + FLOOR, 104
    heights = {"norm": 40, "cell": 92, "gate": 160, "ffn_norm": 218, "ffn": 264, "gate2": 336}
    at = {name: low + height for name, height in heights.items()}
    c.words(x, low - 14, "$x$", 12.5, ha="center")
    c.line((x, low - 4), (x, at["norm"] - 13))
    c.box(x, at["norm"], wide, 26, "layer norm")
    c.line((x, at["norm"] + 13), (x, at["cell"] - 17))
    c.box(x, at["cell"], wide, 34, "cell", CELL, 11.5)
    state_through(c, x, at["cell"], wide / 2, 26)
    c.line((x, at["cell"] + 17), (x, at["gate"] - 15))
    c.box(x, at["gate"], wide, 30, "GRU gate", BLOCK)
    c.line((x, low + 9), (x - 65, low + 9), (x - 65, at["gate"]), (x - wide / 2, at["gate"]))
    c.line((x, at["gate"] + 15), (x, at["ffn_norm"] - 13))
    c.box(x, at["ffn_norm"], wide, 26, "layer norm")
    c.line((x, at["ffn_norm"] + 13), (x, at["ffn"] - 15))
    c.box(x, at["ffn"], wide, 30, "H → 1.5 H → H")
    c.line((x, at["ffn"] + 15), (x, at["gate2"] - 15))
    c.box(x, at["gate2"], wide, 30, "GRU gate", BLOCK)
    c.line((x, at["gate"] + 26), (x - 65, at["gate"] + 26), (x - 65, at["gate2"]), (x - wide / 2, at["gate2"]))
    c.line((x, at["gate2"] + 15), (x, at["gate2"] + 38))
    c.words(x, at["gate2"] + 47, "$y$", 12.5, ha="center")
    c.words(x, bottom + h - 49, "PostUpGated", 11, ha="center", weight="bold")
    c.words(x, bottom + h - 64, "A  Ag  X  X^  S  S^", 10, SOFT, ha="center")

    x = left + 256
    heights = {"norm": 40, "in": 86, "cell": 138, "skip": 188, "open": 222, "out": 270, "gate": 336}
    at = {name: low + height for name, height in heights.items()}
    c.words(x, low - 14, "$x$", 12.5, ha="center")
    c.line((x, low - 4), (x, at["norm"] - 13))
    c.box(x, at["norm"], wide, 26, "layer norm")
    c.line((x, at["norm"] + 13), (x, at["in"] - 13))
    c.box(x, at["in"], wide, 26, "H → 2 H, 2 H")
    c.line((x, at["in"] + 13), (x, at["cell"] - 17))
    c.words(x + 7, at["in"] + 22, "$a$", 11)
    c.box(x, at["cell"], 68, 34, "cell, 2 H", CELL, 11)
    state_through(c, x, at["cell"], 34, 44)
    c.line((x, at["cell"] + 17), (x, at["skip"] - 8.5))
    c.line((x, at["in"] + 19), (x - 45, at["in"] + 19), (x - 45, at["skip"]), (x - 8.5, at["skip"]))
    c.words(x - 43, at["skip"] + 10, "skip", 9.5, SOFT)
    c.node(x, at["skip"], "+")
    c.line((x, at["skip"] + 8.5), (x, at["open"] - 8.5))
    c.line((x + 45, at["in"] + 13), (x + 45, at["open"]), (x + 8.5, at["open"]))
    c.words(x + 50, at["in"] + 22, "$z$", 11)
    c.words(x + 14, at["open"] + 10, "silu", 9.5, SOFT)
    c.node(x, at["open"], "×")
    c.line((x, at["open"] + 8.5), (x, at["out"] - 13))
    c.box(x, at["out"], wide, 26, "2 H → H")
    c.line((x, at["out"] + 13), (x, at["gate"] - 15))
    c.box(x, at["gate"], wide, 30, "GRU gate", BLOCK)
    c.line((x, low + 9), (x + 65, low + 9), (x + 65, at["gate"]), (x + wide / 2, at["gate"]))
    c.line((x, at["gate"] + 15), (x, at["gate"] + 38))
    c.words(x, at["gate"] + 47, "$y$", 12.5, ha="center")
    c.words(x, bottom + h - 49, "PreUpGated", 11, ha="center", weight="bold")
    c.words(x, bottom + h - 64, "M  M^", 10, SOFT, ha="center")
    c.captions(
        left + 18,
        bottom + 31,
        "A GRU gate stands where a residual sum would.",
        "PassThrough (L, C): the cell and nothing else.",
    )


def column(c: Canvas, left: float, bottom: float, w: float, h: float) -> None:
    c.panel(left, bottom, w, h, "3", "Column: experts, router", COLUMN)
    c.words(left + w / 2, bottom + h - 49, "pattern AgSA", 11, ha="center", weight="bold")
    c.words(left + w / 2, bottom + h - 64, "three tokens, three experts", 10, SOFT, ha="center")
    x, low = left + w / 2, bottom + FLOOR
    heights = {"norm": 40, "experts": 96, "adds": 146, "alpha": 202, "rho": 258, "head": 306, "sum": 344}
    at = {name: low + height for name, height in heights.items()}
    rail, right = x - 127, x + 127
    c.words(x, low - 14, "$x$", 12.5, ha="center")
    c.line((x, low - 4), (x, at["norm"] - 13))
    c.box(x, at["norm"], 104, 26, "RMS norm")
    split = at["norm"] + 26
    c.line((x + 84, split), (right, split), (right, at["rho"]), (x + 116, at["rho"]))
    c.line((right, at["alpha"]), (x + 116, at["alpha"]))
    for place, token in zip((x - 84, x + 84, x), ("Ag", "A", "S"), strict=True):
        c.line((x, at["norm"] + 13), (x, split), (place, split), (place, at["experts"] - 15))
        c.box(place, at["experts"], 46, 30, token, BLOCK, 11.5)
        state_through(c, place, at["experts"], 23, 14)
        c.line((place, at["experts"] + 15), (place, at["adds"] - 14))
    c.words(x + 7, at["norm"] + 19, "$u$", 11)
    c.box(x, at["adds"], 232, 28, r"$D_e = \mathrm{expert}_e(u) - u$", size=11)
    c.line((x - 54, at["adds"] + 14), (x - 54, at["alpha"] - 19))
    c.box(x - 54, at["alpha"], 124, 38, "", COLUMN)
    c.words(x - 54, at["alpha"] + 8, r"mixer: $\bar{D}_e = D_e +$", 10, ha="center")
    c.words(x - 54, at["alpha"] - 9, "attention to all $D$", 10, ha="center")
    c.box(x + 66, at["alpha"], 100, 38, "", COLUMN)
    c.words(x + 66, at["alpha"] + 8, "router, refiner", 10, ha="center")
    c.words(x + 66, at["alpha"] - 9, r"$\alpha =$ softmax", 10, ha="center")
    c.line((x - 54, at["alpha"] + 19), (x - 54, at["rho"] - 14))
    c.line((x + 66, at["alpha"] + 19), (x + 66, at["rho"] - 14))
    c.box(x, at["rho"], 232, 28, r"$\rho = \Sigma_e\, \alpha_e \bar{D}_e + u - x$", size=11)
    c.line((x, low + 9), (rail, low + 9), (rail, at["sum"]), (x - 8.5, at["sum"]))
    c.line((rail, at["rho"]), (x - 116, at["rho"]))
    c.line((x, at["rho"] + 14), (x, at["head"] - 13))
    c.line((x, at["rho"] + 23), (x + 92, at["rho"] + 23), (x + 92, at["sum"]), (x + 8.5, at["sum"]))
    c.box(x, at["head"], 130, 26, "head: H → 2 H → H", COLUMN)
    c.line((x, at["head"] + 13), (x, at["sum"] - 8.5))
    c.words(x + 36, at["sum"] + 9, r"$\alpha_\mathrm{main}$", 10.5)
    c.words(x + 6, at["head"] + 20, r"$\alpha_\mathrm{col}$", 10.5)
    c.node(x, at["sum"], "+")
    c.line((x, at["sum"] + 8.5), (x, at["sum"] + 30))
    c.words(x, at["sum"] + 39, "$y$", 12.5, ha="center")
    c.captions(
        left + 18,
        bottom + 31,
        "Router: one preference for all steps; refiner:",
        "the step's own. A single expert is its block alone.",
    )


def stack(c: Canvas, left: float, bottom: float, w: float, h: float) -> None:
    c.panel(left, bottom, w, h, "4", "Stack: layers, norm", STACK)
    c.words(left + w / 2 + 6, bottom + h - 49, "L layers", 11, ha="center", weight="bold")
    c.words(left + w / 2 + 6, bottom + h - 64, "one pattern, or one a layer", 10, SOFT, ha="center")
    x, low = left + w / 2 + 6, bottom + FLOOR
    names = {72: "column 0", 142: "column 1", 250: "column L−1"}
    rail, half = left + 24, 44
    c.words(x, low - 14, r"$x$  [B, T, H]", 11.5, ha="center")
    c.line((rail, low - 4), (rail, low + 240), (x - half, low + 240), color=RESET, dash=True)
    c.words(rail - 8, low - 14, "resets", 10.5, RESET)
    below = low - 4
    for height, name in names.items():
        y = low + height
        c.line((x, below), (x, y - 20))
        c.box(x, y, 2 * half, 40, name, COLUMN)
        if height < 200:
            c.line((rail, y - 10), (x - half, y - 10), color=RESET, dash=True)
        state_through(c, x, y + 9, half, 24)
        below = y + 20
    c.box(x, low + 192, 20, 22, "", ("#fbfcfd", "#fbfcfd"))
    c.words(x, low + 192, "⋮", 14, ha="center")
    norm = low + 322
    c.line((x, below), (x, norm - 13))
    c.box(x, norm, 2 * half, 26, "layer norm", STACK)
    c.line((x, norm + 13), (x, low + 374))
    c.words(x, low + 383, r"$y$  [B, T, H]", 11.5, ha="center")
    c.captions(left + 18, bottom + 31, "One flat dict of state, keys such", "as 0.1.S.ycnm (layer, expert).")


def main() -> None:
    matplotlib.rcParams |= {
        "font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans", "svg.hashsalt": "cortex", "svg.fonttype": "path",
    }  # fmt: skip
    figure = plt.figure(figsize=(WIDTH / 72, HEIGHT / 72), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    ax.axis("off")
    c = Canvas(ax)
    legend(c, HEIGHT - 20)
    cell(c, 10, 564, WIDTH - 20, 218)
    block(c, 10, 10, 352, 544)
    column(c, 372, 10, 284, 544)
    stack(c, 666, 10, WIDTH - 676, 544)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "cortex.svg"
    figure.savefig(target, dpi=144, metadata={"Date": None} if target.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
