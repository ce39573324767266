"""What all pictures share: colours, the ground they are drawn on, and labels that do not overlap.

Colours are Okabe and Ito's (readable with any colour vision); an architecture and its twin share one, the twin dashed.
In a page every colour is a CSS variable (`--arm-0`, ...) and INK its text colour, so that it works light and dark.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from memexp.analysis.seeds import Arm, Environment

INK = "#010203"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # names are text, dollars in them too
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "path.simplify_threshold": 0.5,
    "legend.frameon": False,
}
QUIET = (0, (2, 3))
"""Dots of lines that are levels, not measurements."""
LONGEST = 25
"""Letters of a name in a picture."""
LETTER = 0.074
"""Inches that a letter of 9.5 points takes."""
Draw = Callable[[Axes, Environment, dict[str, Any]], None]


@dataclass(frozen=True)
class Size:
    """Inches: of the axes, and of the margins that hold what is written around them."""

    width: float
    height: float
    left: float = 0.62
    right: float = 0.15
    bottom: float = 0.52
    top: float = 0.12


@dataclass(frozen=True)
class Picture:
    """One kind of picture of an environment."""

    name: str
    title: str
    caption: str
    draw: Draw
    alt: Callable[[Environment, dict[str, Any]], str]
    """What it shows, for those who cannot see it."""
    size: Callable[[Environment], Size]
    shown: Callable[[Environment, dict[str, Any]], bool] = lambda environment, judged: True
    """Whether there is anything to draw."""


def figure_of(picture: Picture, environment: Environment, judged: dict[str, Any], top: float = 0.0) -> Figure:
    """The picture, with `top` inches more above it."""
    size = picture.size(environment)
    width, height = size.left + size.width + size.right, size.bottom + size.height + size.top + top
    figure = Figure(figsize=(width, height))
    place = (size.left / width, size.bottom / height, size.width / width, size.height / height)
    picture.draw(figure.add_axes(place), environment, judged)
    return figure


def svg_of(picture: Picture, environment: Environment, judged: dict[str, Any]) -> str:
    """The picture as an inline SVG element in the page's own colours and font, on a transparent ground."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": f"{picture.name}-{environment.name}"}):
        figure = figure_of(picture, environment, judged)
        figure.patch.set_alpha(0)
        figure.axes[0].patch.set_alpha(0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for number, color in enumerate(COLORS):
        text = text.replace(color, f"var(--arm-{number})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), text)
    return re.sub(r">\s+<", "><", text)


def styled(environment: Environment) -> list[tuple[Arm, str, str]]:
    """Arm, colour, dash: one colour an architecture, its twin and other memoryless arms dashed."""
    own = (name.removesuffix("~") for name in environment.arms)
    bases = list(dict.fromkeys((*environment.architectures, *own)))
    return [
        (arm, COLORS[bases.index(name.removesuffix("~")) % len(COLORS)], "-" if arm.remembers else "--")
        for name, arm in environment.arms.items()
    ]


def levels(judged: dict[str, Any]) -> list[tuple[str, float]]:
    """(name, return) of what arms are read against; a level that agrees with the ceiling has no line of its own."""
    ceiling, memoryless, oracle = (judged["levels"][name] for name in ("ceiling", "memoryless", "oracle"))
    top = "ceiling" if ceiling is None or memoryless != ceiling else "ceiling = memoryless"
    known = [("random policy", judged["random_return"]), (top, ceiling)]
    known += [(name, value) for name, value in (("memoryless", memoryless), ("full sight", oracle)) if value != ceiling]
    return [(name, value) for name, value in known if value is not None]


def shortened(name: str) -> str:
    """`name`, the middle of one that is longer than there is room for left out."""
    half = (LONGEST - 1) // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[-half:]}"


def label_room(labels: Sequence[str]) -> float:
    """Inches beside axes that names of 9.5 points need, long ones shortened."""
    return 0.32 + LETTER * max((len(shortened(label)) for label in labels), default=0)


def label_ends(ax: Axes, lines: Sequence[tuple[float, str, str, str]]) -> None:
    """(value at the right end, name, colour, dash): each name beside its end, moved apart where they would overlap,
    with a leader in the line's colour and dash; without a leader where the dash is empty."""
    if not lines:
        return
    (low, high), (left, right) = ax.get_ylim(), ax.get_xlim()
    lines = sorted(lines)
    inches = ax.get_window_extent().height / ax.figure.dpi
    step = min(0.17 / inches * (high - low), 1.1 * (high - low) / len(lines))
    places = spread([min(max(value, low), high) for value, *_ in lines], step, low, high)
    for (value, label, color, dash), place in zip(lines, places, strict=True):
        ends = ([right, right + 0.055 * (right - left)], [value, place])
        quiet = color == INK
        if dash:
            ax.plot(*ends, color=color, lw=1 if quiet else 1.6, ls=dash, alpha=0.5 if quiet else 1, clip_on=False)
        at = right + 0.07 * (right - left)
        ax.text(at, place, label, va="center", fontsize=9.5, alpha=0.75 if quiet else 1)
    ax.set_xlim(left, right)
    ax.set_ylim(low, high)


def spread(values: list[float], step: float, low: float, high: float) -> list[float]:
    """Ascending values moved as little as may be, so that neighbours are `step` apart and all lie in [low, high]."""
    # Least squares under 'at least step apart' is isotonic regression of what remains without the steps.
    offsets = step * np.arange(len(values))
    placed = isotonic_regression(np.array(values) - offsets).x + offsets
    return list(np.clip(placed, low + offsets, high - offsets[::-1]))


def grid(ax: Axes, axis: Any) -> None:
    """A quiet grid behind what is drawn."""
    ax.set_axisbelow(True)
    ax.grid(axis=axis, color=INK, alpha=0.12, lw=0.7)


def legend(ax: Axes) -> None:
    """What each line is, to the right of the axes."""
    lines, names = ax.get_legend_handles_labels()
    names = [shortened(name) for name in names]
    ax.legend(
        lines, names, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9.5, borderaxespad=0, handlelength=1.8
    )


def rows_of_text(ax: Axes, names: Sequence[str]) -> None:
    """Rows from the top down, named on the left, without an axis line."""
    ax.set_yticks(range(len(names)), [shortened(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
