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
from matplotlib.patches import Circle, FancyBboxPatch

WIDTH, HEIGHT = 880, 820
FLOOR = 66
"""How high above a panel's bottom edge x enters."""

Fill = tuple[str, str]
"""Face and edge."""
INK, SOFT, PAPER = "#1f2328", "#59636e", "#fbfcfd"
STATE, RESET = "#7a3fb0", "#cf222e"
CELL, BLOCK, COLUMN = ("#fdf0cf", "#b7791f"), ("#dcebfa", "#2f6fb0"), ("#dff1df", "#3d8b4f")
STACK, PLAIN = ("#f0f1f4", "#59636e"), ("#ffffff", "#8c959f")


class Canvas:
    """Boxes, lines and words on one page."""

    def __init__(self, ax: Axes) -> None:
        self.ax = ax

    def words(self, x: float, y: float, words: str, size: float = 10.5, color: str = INK, **how: str) -> None:
        """Centred on (x, y), unless `ha` says otherwise."""
        how = {"ha": "center", "va": "center_baseline"} | how
        self.ax.text(x, y, words, fontsize=size, color=color, zorder=5, **how)  # type: ignore[arg-type]

    def captions(self, x: float, y: float, *lines: str) -> None:
        """Small print, from the start of the first line (x, y) downwards."""
        for n, line in enumerate(lines):
            self.words(x, y - 15 * n, line, 10, SOFT, ha="left")

    def box(self, x: float, y: float, w: float, h: float, words: str, fill: Fill = PLAIN, size: float = 10.5) -> None:
        """A box around its centre (x, y), with one or two lines of words."""
        corner, style = (x - w / 2, y - h / 2), "round,pad=0,rounding_size=4"
        self.ax.add_patch(FancyBboxPatch(corner, w, h, style, fc=fill[0], ec=fill[1], lw=1.1, zorder=3))
        lines = words.split("\n")
        for n, line in enumerate(lines):
            self.words(x, y + 8.5 * (len(lines) - 1 - 2 * n), line, size)

    def node(self, x: float, y: float, sign: str) -> None:
        """A sum or a product."""
        self.ax.add_patch(Circle((x, y), 8.5, fc="white", ec=INK, lw=1, zorder=3))
        self.words(x, y - 0.3, sign, 11)

    def line(self, *points: tuple[float, float], color: str = INK, arrow: bool = True) -> None:
        """A line with right angles, and a head at its end; where it crosses another, that one is interrupted."""
        order, dashes = (2.0 if color == INK else 2.2), ((0, (3, 2)) if color == RESET else "-")
        xs, ys = zip(*points, strict=True)
        self.ax.plot(xs, ys, color=PAPER, lw=4.5, solid_capstyle="butt", zorder=order - 0.1)
        stop = len(xs) - 1 if arrow else len(xs)
        self.ax.plot(xs[:stop], ys[:stop], color=color, lw=1.2, ls=dashes, zorder=order)
        if arrow:
            look = {"arrowstyle": "-|>,head_length=.45,head_width=.23", "color": color, "lw": 1.2, "ls": dashes}
            how = {**look, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 10}
            self.ax.annotate("", points[-1], points[-2], arrowprops=how, zorder=order)

    def state_through(self, x: float, y: float, half: float, reach: float) -> None:
        """The state that goes into a box of this half width and comes out of it."""
        self.line((x - half - reach, y), (x - half, y), color=STATE)
        self.line((x + half, y), (x + half + reach, y), color=STATE)

    def tower(self, x: float, low: float, parts: dict[float, tuple[float, float, str, Fill]], top: float) -> None:
        """Boxes above each other with arrows between: height above `low` -> width, height, words, fill; no fill is a
        node. x enters below, and y leaves at `top`."""
        self.words(x, low - 14, "$x$", 12.5)
        edge = low - 4
        for height, (w, h, words, fill) in parts.items():
            y = low + height
            self.line((x, edge), (x, y - h / 2))
            self.box(x, y, w, h, words, fill, 11.5 if fill == CELL else 10.5) if w else self.node(x, y, words)
            edge = y + h / 2
        self.line((x, edge), (x, low + top - 9))
        self.words(x, low + top, "$y$", 12.5)

    def panel(self, left: float, bottom: float, w: float, h: float, number: int, title: str, fill: Fill) -> None:
        style = "round,pad=0,rounding_size=8"
        self.ax.add_patch(FancyBboxPatch((left, bottom), w, h, style, fc=PAPER, ec="#d1d9e0", lw=1, zorder=0))
        x, y = left + 21, bottom + h - 20
        self.ax.add_patch(Circle((x, y), 10, fc=fill[0], ec=fill[1], lw=1.3, zorder=3))
        self.words(x, y - 0.5, str(number), weight="bold")
        self.words(x + 17, y - 0.5, title, 12.5, weight="bold", ha="left")

    def heading(self, x: float, top: float, words: str, below: str) -> None:
        self.words(x, top - 49, words, 11, weight="bold")
        self.words(x, top - 64, below, 10, SOFT)


def legend(c: Canvas, y: float) -> None:
    of_resets = "resets: step $t$ begins an episode, from a fresh state"
    meanings = {26: "data, upwards", 196: "state, to the right: the caller's, in and out", 546: of_resets}
    for (x, words), color in zip(meanings.items(), (INK, STATE, RESET), strict=True):
        c.line((x, y), (x + 26, y), color=color)
        c.words(x + 34, y, words, ha="left")


def cell(c: Canvas, left: float, bottom: float, w: float, h: float) -> None:
    """One call of a cell over four steps, the third of which begins an episode."""
    c.panel(left, bottom, w, h, 1, "Cell: one recurrence, one state", CELL)
    clear = r"$s_{t-1} \leftarrow$ fresh   if $r_t = 1$"
    for n, equation in enumerate((clear, r"$s_t \; = F(s_{t-1},\ x_t)$", r"$y_t \; = G(s_t,\ x_t)$")):
        c.words(left + 24, bottom + h - 58 - 24 * n, equation, 12, ha="left")
    same = (
        "Acting calls it with one step, learning",
        "with a whole segment: it is the same",
        "function, and gives the same.",
    )
    c.captions(left + 24, bottom + 63, *same)
    y, first, gap = bottom + 104, left + 358, 126
    for n in range(4):
        x, starts = first + n * gap, n == 2
        c.box(x, y, 78, 46, r"$F,\ G$", CELL, 12)
        c.line((x, y - 50), (x, y - 23))
        c.line((x, y + 23), (x, y + 50))
        c.words(x, y - 61, f"$x_{n}$", 12)
        c.words(x, y + 60, f"$y_{n}$", 12)
        c.line((x - 52, y - 50), (x - 52, y - 5), color=RESET)
        c.words(x - 52, y - 61, f"$r_{n}={int(starts)}$", 11, RESET if starts else SOFT)
        if starts:
            c.line((x - gap + 39, y), (x - 68, y), color=STATE, arrow=False)
            c.words(x - 65, y - 0.5, "×", 15, RESET, weight="bold")
            c.line((x - 55, y), (x - 39, y), color=STATE)
            c.words(x - 57, y + 14, "fresh", 10.5, RESET)
        elif n:
            c.line((x - gap + 39, y), (x - 39, y), color=STATE)
            c.words(x - gap / 2 - 4, y + 12, f"$s_{n - 1}$", 11.5, STATE)
    last = first + 3 * gap
    c.line((left + 248, y), (first - 39, y), color=STATE)
    c.words(left + 276, y + 12, "state in", 10.5, STATE)
    c.line((last + 39, y), (last + 108, y), color=STATE)
    c.words(last + 78, y + 12, "state out", 10.5, STATE)
    told = "One call of four steps; the third begins an episode, and nothing older reaches it."
    c.captions(first - 39, bottom + 17, told)


def block(c: Canvas, left: float, bottom: float, w: float, h: float) -> None:
    c.panel(left, bottom, w, h, 2, "Block: norms, gates, feed-forward", BLOCK)
    low, wide = bottom + FLOOR, 104
    norm, gate = (wide, 26, "layer norm", PLAIN), (wide, 30, "GRU gate", BLOCK)

    x = left + 94
    c.heading(x, bottom + h, "PostUpGated", "A  Ag  X  X^  S  S^")
    around = {40: norm, 92: (wide, 34, "cell", CELL), 160: gate}
    c.tower(x, low, {**around, 218: norm, 264: (wide, 30, "H → 1.5 H → H", PLAIN), 336: gate}, 383)
    c.state_through(x, low + 92, wide / 2, 26)
    for start, end in ((9, 160), (186, 336)):
        c.line((x, low + start), (x - 65, low + start), (x - 65, low + end), (x - wide / 2, low + end))

    x = left + 256
    c.heading(x, bottom + h, "PreUpGated", "M  M^")
    inside = {86: (wide, 26, "H → 2 H, 2 H", PLAIN), 138: (68, 34, "cell, 2 H", CELL), 188: (0, 17, "+", PLAIN)}
    c.tower(x, low, {40: norm, **inside, 222: (0, 17, "×", PLAIN), 270: (wide, 26, "2 H → H", PLAIN), 336: gate}, 383)
    c.state_through(x, low + 138, 34, 44)
    c.line((x, low + 105), (x - 45, low + 105), (x - 45, low + 188), (x - 8.5, low + 188))
    c.line((x + 45, low + 99), (x + 45, low + 222), (x + 8.5, low + 222))
    c.line((x, low + 9), (x + 65, low + 9), (x + 65, low + 336), (x + wide / 2, low + 336))
    c.words(x + 7, low + 110, "$a$", 11, ha="left")
    c.words(x + 50, low + 110, "$z$", 11, ha="left")
    c.words(x - 43, low + 198, "skip", 9.5, SOFT, ha="left")
    c.words(x + 14, low + 232, "silu", 9.5, SOFT, ha="left")
    alone = "PassThrough (L, C): the cell and nothing else."
    c.captions(left + 18, bottom + 31, "A GRU gate stands where a residual sum would.", alone)


def column(c: Canvas, left: float, bottom: float, w: float, h: float) -> None:
    c.panel(left, bottom, w, h, 3, "Column: experts, router", COLUMN)
    x, low, half = left + w / 2, bottom + FLOOR, 116
    c.heading(x, bottom + h, "pattern AgSA", "three tokens, three experts")
    norm, experts, adds, mix, rho, head, total = (low + height for height in (40, 96, 146, 202, 258, 306, 344))
    c.words(x, low - 14, "$x$", 12.5)
    c.line((x, low - 4), (x, norm - 13))
    c.box(x, norm, 104, 26, "RMS norm")
    c.words(x + 7, norm + 19, "$u$", 11, ha="left")

    of_x, of_u, split = x - 127, x + 127, norm + 26
    c.line((x + 84, split), (of_u, split), (of_u, rho), (x + half, rho))
    c.line((of_u, mix), (x + half, mix))
    c.line((x, low + 9), (of_x, low + 9), (of_x, total), (x - 8.5, total))
    c.line((of_x, rho), (x - half, rho))
    for place, token in ((x - 84, "Ag"), (x + 84, "A"), (x, "S")):
        c.line((x, norm + 13), (x, split), (place, split), (place, experts - 15))
        c.box(place, experts, 46, 30, token, BLOCK, 11.5)
        c.state_through(place, experts, 23, 14)
        c.line((place, experts + 15), (place, adds - 14))
    c.box(x, adds, 2 * half, 28, r"$D_e = \mathrm{expert}_e(u) - u$", size=11)
    c.line((x - 54, adds + 14), (x - 54, mix - 19))
    c.box(x - 54, mix, 124, 38, "mixer: $\\bar{D}_e = D_e +$\nattention to all $D$", COLUMN, 10)
    c.box(x + 66, mix, 100, 38, "router, refiner\n$\\alpha =$ softmax", COLUMN, 10)
    for place in (x - 54, x + 66):
        c.line((place, mix + 19), (place, rho - 14))
    c.box(x, rho, 2 * half, 28, r"$\rho = \Sigma_e\, \alpha_e \bar{D}_e + u - x$", size=11)
    c.line((x, rho + 14), (x, head - 13))
    c.line((x, rho + 23), (x + 92, rho + 23), (x + 92, total), (x + 8.5, total))
    c.box(x, head, 130, 26, "head: H → 2 H → H", COLUMN)
    c.line((x, head + 13), (x, total - 8.5))
    c.words(x + 36, total + 9, r"$\alpha_\mathrm{main}$", ha="left")
    c.words(x + 6, head + 20, r"$\alpha_\mathrm{col}$", ha="left")
    c.node(x, total, "+")
    c.line((x, total + 8.5), (x, total + 30))
    c.words(x, low + 383, "$y$", 12.5)
    routing = ("Router: one preference for all steps; refiner:", "the step's own. A single expert is its block alone.")
    c.captions(left + 18, bottom + 31, *routing)


def stack(c: Canvas, left: float, bottom: float, w: float, h: float) -> None:
    c.panel(left, bottom, w, h, 4, "Stack: layers, norm", STACK)
    x, low, wide, rail = left + w / 2 + 6, bottom + FLOOR, 88, left + 24
    c.heading(x, bottom + h, "L layers", "one pattern, or one a layer")
    columns = {height: (wide, 40, f"column {n}", COLUMN) for height, n in ((72, "0"), (142, "1"), (250, "L−1"))}
    c.tower(x, low, {**columns, 322: (wide, 26, "layer norm", STACK)}, 383)
    c.box(x, low + 192, 20, 22, "⋮", (PAPER, PAPER), 14)
    for y in (-14, 383):
        c.words(x + 12, low + y, "[B, T, H]", 11, ha="left")
    c.line((rail, low - 4), (rail, low + 240), (x - wide / 2, low + 240), color=RESET)
    c.words(rail - 8, low - 14, "resets", 10.5, RESET, ha="left")
    for height in columns:
        c.state_through(x, low + height + 9, wide / 2, 24)
        c.line((rail, low + height - 10), (x - wide / 2, low + height - 10), color=RESET)
    c.captions(left + 18, bottom + 31, "One flat dict of state, keys such", "as 0.1.S.ycnm (layer, expert).")


def main() -> None:
    fonts = {"font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans"}
    matplotlib.rcParams |= {**fonts, "svg.fonttype": "path", "svg.hashsalt": "cortex"}
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
